"""Test the requests and responses of the dashboard, and what stands in their URLs."""

from urllib.parse import parse_qs

import pytest

from alligator import Gator
from alligator.web import Request
from alligator.web.view import Source, View


@pytest.mark.parametrize(
    ("text", "comes_back"),
    [
        ("plain", "plain"),
        ("Größe & = / ?", "Größe & = / ?"),
        ("\udcff\udc80", "\udcff\udc80"),  # bytes of an id that is no UTF-8
        ("\ud800 lonely", "? lonely"),
    ],
)
def test_a_url_carries_any_text(text, comes_back):
    view = View(Request("GET", "/"), Source("", Gator("locmem://")), ("",), "all")
    query = view.url("task", id=text).partition("?")[2]
    assert Request("GET", "/", query).first("id") == comes_back
    assert parse_qs(query)
