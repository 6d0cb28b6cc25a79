"""Test that links between the files of the repository lead to files that exist."""

import re

import pytest

from tests.support import ROOT

FILES = sorted(ROOT.glob("*.rst"))
LINK = re.compile(r"`[^`<]+<([^`>:]+)>`_")

#: Written next.
PLANNED: set[str] = set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_lead_to_files(file):
    targets = {link.partition("#")[0] for link in LINK.findall(file.read_text())}
    assert {name for name in targets if not (ROOT / name).exists()} <= PLANNED


def test_there_are_links():
    assert len(LINK.findall((ROOT / "README.rst").read_text())) > 10
