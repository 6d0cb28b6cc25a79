"""Test that imports run one way: between packages along ORDER, between files without a circle.

What only a type checker imports counts as well.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "alligator"

#: The packages and the files beside them, from the ground up. Each may import from the rows before
#: its own; two in one row may not import each other.
ORDER = [
    ["exceptions", "constants"],
    ["common"],
    ["security", "runtime"],
    ["backends"],
    ["tasks"],
    ["scheduling", "results"],
    ["monitoring"],
    ["producer"],
    ["execution"],
    ["asynchronous"],
    ["gator"],
    ["workers"],
    ["testing"],
    ["web"],
    ["contrib"],
    ["cli"],
    ["contrib.django.management"],
]
#: Public paths, which only export what the packages have: these may import from anywhere, and no
#: file here may import from them.
EXPORTS = {"", "__main__", "utils", "options"}
#: Imported by a function when it is called, since only tests call it.
AT_THE_CALL = {("gator", "testing.run_until")}


def modules(package=PACKAGE):
    """Return the path of each file by its dotted name, without that of the package."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = path
    return found


def imports(name, path, known):
    """Return the names of the files that one imports, at run time or for a type checker."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports by a relative path"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.partition(".")[0] == "alligator":
                inner = target.partition(".")[2]
                found.add(inner if inner in known else inner.rpartition(".")[0])
    return {each for each in found if (name, each) not in AT_THE_CALL}


def graph(package=PACKAGE):
    known = modules(package)
    return {name: imports(name, path, known) for name, path in known.items()}


def row(name):
    place = name
    while place:
        for index, each in enumerate(ORDER):
            if place in each:
                return index
        place = place.rpartition(".")[0]
    raise AssertionError(f"alligator/{name} has no place in ORDER")


def upward(found):
    """Return the imports that run against ORDER."""
    return {
        (name, other)
        for name, others in found.items()
        for other in others
        if name not in EXPORTS and name.partition(".")[0] != other.partition(".")[0]
        if other in EXPORTS or row(other) >= row(name)
    }


def circles(found):
    """Return the files that can be reached from themselves, by name."""
    reached = {name: set(others) for name, others in found.items()}
    grows = True
    while grows:
        grows = False
        for others in reached.values():
            more = set().union(*(reached.get(each, ()) for each in others)) - others
            if more:
                others |= more
                grows = True
    return {name for name, others in reached.items() if name in others}


def test_every_package_has_a_place():
    for name in modules():
        if name not in EXPORTS:
            row(name)


def test_packages_import_one_way():
    assert upward(graph()) == set()


def test_files_import_in_no_circle():
    assert circles(graph()) == set()


def test_each_package_says_what_it_is_for():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


PLANTED = {
    "circle": ("from alligator.tasks.second import b\n", "from alligator.tasks.first import a\n"),
    "type-checking circle": (
        "from alligator.tasks.second import b\n",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n"
        "    from alligator.tasks.first import a\n",
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_circle_is_found(kind, tmp_path):
    (tmp_path / "tasks").mkdir()
    for name, text in zip(("first", "second"), PLANTED[kind], strict=True):
        (tmp_path / "tasks" / f"{name}.py").write_text(text)
    assert circles(graph(tmp_path)) == {"tasks.first", "tasks.second"}


@pytest.mark.parametrize(
    "text",
    [
        "from alligator.gator import Gator\n",
        "import alligator.gator\n",
        "def f():\n    from alligator import gator\n",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n"
        "    from alligator.gator import Gator\n",
    ],
    ids=["at the top", "whole", "in a function", "for a type checker"],
)
def test_a_planted_import_from_above_is_found(text, tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "low.py").write_text(text)
    (tmp_path / "gator.py").write_text("")
    assert upward(graph(tmp_path)) == {("tasks.low", "gator")}
