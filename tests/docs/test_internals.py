"""Test that the page on internals names only files and packages that exist."""

import re

from tests.support import ROOT

PAGE = (ROOT / "docs" / "internals.rst").read_text()


def test_the_files_that_it_names_exist():
    names = set(re.findall(r"[a-z_]+(?:/[a-z_]+)*\.py", PAGE))
    assert len(names) > 15
    places = [ROOT / "alligator", ROOT, ROOT / "bin"]
    missing = {each for each in names if not any((place / each).exists() for place in places)}
    assert not missing


def test_it_names_every_package():
    packages = {each.parent.name for each in (ROOT / "alligator").glob("*/__init__.py")}
    assert {each for each in packages if each not in PAGE} == set()


def test_the_names_in_the_paths_exist():
    code = "".join(each.read_text() for each in (ROOT / "alligator").rglob("*.py"))
    for owner, name in re.findall(r"^ +([A-Z]\w+)\.(\w+)  ", PAGE, re.MULTILINE):
        assert re.search(rf"^class {owner}\b", code, re.MULTILINE), owner
        assert re.search(rf"def {name}\b", code), name
