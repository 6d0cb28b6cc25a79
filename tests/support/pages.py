"""Ask the pages of a dashboard without a server, and read what they show."""

import html
import re
from urllib.parse import urlencode

from alligator.web import Dashboard, Request
from alligator.web.access import allow_actions

#: Text that breaks a page which does not escape it, or that no encoding has.
HOSTILE = "\"><script>alert(1)</script>\x00\x07\u202eevil\udcff'{{7*7}}"


class Pages:
    """The pages of one Gator, on which each visitor may act."""

    def __init__(self, gators, **options):
        self.dashboard = Dashboard(gators, **{"resolve_access": allow_actions, **options})

    def get(self, path, status=200, **query):
        """Return the HTML of a page, once it is certain that nothing hostile is in it."""
        return self._read(Request("GET", f"/{path}", _query(query)), status)

    def answer(self, path, **query):
        """Return the response."""
        return self.dashboard.handle(Request("GET", f"/{path}", _query(query)))

    def post(self, path, status=200, **fields):
        """Send a form, and return the HTML."""
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "sec-fetch-site": "same-origin",
        }
        body = _query(fields).encode()
        return self._read(Request("POST", f"/{path}", "", headers, body), status)

    def _read(self, request, status):
        found = self.dashboard.handle(request)
        text = found.body.decode()  # never anything but UTF-8
        assert found.status == status, text
        assert "<script>alert" not in text
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\u202a-\u202e\u2066-\u2069]", text)
        return text


def _query(fields):
    return urlencode(fields, doseq=True, errors="surrogateescape")


def words(page):
    """Return the text of a page, with single spaces."""
    page = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL).replace("<wbr>", "")
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def spaced(text):
    """Return a text with plain spaces, also where it has some at which no line is broken."""
    return text.replace("\u00a0", " ")


def links(page):
    """Return all that a page links to or sends forms to."""
    return [html.unescape(each) for each in re.findall(r'(?:href|action)="([^"]*)"', page)]
