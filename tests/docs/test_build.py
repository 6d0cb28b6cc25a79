"""Test that the pages build without warnings or drivers, and load nothing from other hosts."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tests.docs.snippets import ROOT

pytest.importorskip("sphinx")

pytestmark = pytest.mark.timeout(300)  # the build takes all of a slow machine for minutes

#: What makes a browser fetch something, in HTML and in a style sheet.
FETCHING = {"src", "srcset", "data", "poster"}
IN_CSS = re.compile(r"@import[^;]*|url\((?!['\"]?data:)[^)]*\)")


@pytest.fixture(scope="module")
def built():
    """The documentation as HTML; a warning is an error. ``make docs`` may have built it before."""
    command = [sys.executable, ROOT / "scripts" / "build-docs", "--unless-built"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "docs" / "_build" / "html"


class Page(HTMLParser):
    """Collects what a browser fetches for a page, and the page's viewport."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.viewports = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.fetched += [value for name, value in found.items() if name in FETCHING]
        if tag == "link" and not found.get("rel", "").startswith(
            ("next", "prev", "index", "search")
        ):
            self.fetched.append(found.get("href", ""))
        if found.get("name") == "viewport":
            self.viewports.append(found.get("content", "").replace(" ", ""))


def outside(address):
    return re.match(r"['\"]?(\w+:)?//", address) is not None


@pytest.mark.slow
@pytest.mark.timeout(600)  # on a busy machine
def test_sphinx_has_nothing_to_warn_of(built):
    assert "latergator" in (built / "deployment.html").read_text()


@pytest.mark.timeout(600)
def test_a_page_fetches_nothing_from_elsewhere_and_fits_a_phone(built):
    pages = sorted(built.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        page = Page(path.read_text())
        assert len(page.fetched) > 3
        assert [each for each in page.fetched if outside(each)] == [], path
        assert "width=device-width,initial-scale=1" in page.viewports, path
        assert any("/narrow.css" in each for each in page.fetched), "the index would not fit"
    for sheet in built.rglob("*.css"):
        found = [
            re.sub(r"^(url\(|@import)\s*", "", each) for each in IN_CSS.findall(sheet.read_text())
        ]
        assert [each for each in found if outside(each)] == [], sheet


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img src="http://example.com/badge.svg">',
    ],
)
def test_a_page_that_asks_another_host_is_found(html):
    assert [each for each in Page(html).fetched if outside(each)]
