"""Test who may see the dashboard, who may act, and what a browser is told on each answer."""

import re
from base64 import b64encode

import pytest

from alligator import Gator
from alligator.exceptions import InvalidTask
from alligator.web import Dashboard, Request
from alligator.web.access import allow_actions, is_own

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def gator(tmp_path):
    gator = Gator(f"locmem://{tmp_path}/secret-place", "mail")
    gator.task("operator.add", 1, 2)
    return gator


@pytest.fixture
def dashboard(gator):
    return Dashboard(gator, resolve_access=allow_actions)


def ask(dashboard, path, method="GET", body=b"", **headers):
    """Return the response; underscores in the names of headers stand for dashes."""
    fields = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return dashboard.handle(Request(method, path, "", fields, body))


@pytest.mark.parametrize(
    ("headers", "is_ours"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": ""}, False),
        (
            {"sec-fetch-site": "cross-site", "origin": "http://a.example", "host": "a.example"},
            False,
        ),
        ({"origin": "http://a.example", "host": "a.example"}, True),
        ({"origin": "http://a.example:8023", "host": "a.example:8023"}, True),
        ({"origin": "https://a.example:8023", "host": "a.example:8024"}, False),
        ({"origin": "http://a.example.evil", "host": "a.example"}, False),
        ({"origin": "http://evil.example", "host": "a.example"}, False),
        ({"origin": "null", "host": "a.example"}, False),
        ({"origin": "null", "host": ""}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[", "host": "["}, False),
        ({"origin": "", "host": "a.example"}, False),
        ({"host": "a.example"}, True),
        ({}, True),
    ],
)
def test_a_request_from_another_site_is_told(headers, is_ours, gator, dashboard):
    """By Sec-Fetch-Site first, else by Origin; a client without either is no browser."""
    request = Request(
        "POST", "/do/pause", "", {**headers, "content-type": FORM}, b"queue=mail", "", None
    )
    assert is_own(request) is is_ours
    assert dashboard.handle(request).status == (200 if is_ours else 403)
    assert (gator.paused("mail") is not None) is is_ours


def basic(text):
    return "Basic " + b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Bearer abc",
        basic("ada:wrong"),
        basic("ada"),
        basic("eve:s3cret:with colons"),
        basic("ada:s3cret:with colons") + "=",
        basic("ada:s3cret:with colons ") + "é",
    ],
)
def test_a_wrong_password_opens_nothing(given, gator):
    """Neither a page, nor an action; the answer asks for the right one."""
    dashboard = Dashboard(gator, basic_auth="ada:s3cret:with colons", resolve_access=allow_actions)
    headers = {} if given is None else {"authorization": given}
    for path, method in (("/", "GET"), ("/do/pause", "POST"), ("/nowhere", "GET")):
        found = ask(dashboard, path, method, b"queue=mail", content_type=FORM, **headers)
        assert found.status == 401
        assert dict(found.headers)["WWW-Authenticate"].startswith('Basic realm="Alligator"')
        assert b"mail" not in found.body
        assert b"s3cret" not in found.body
    assert gator.paused("mail") is None


@pytest.mark.parametrize("credentials", ["ada:s3cret", "ada:s3cret:with colons", "josé:pässwörd"])
def test_the_right_password_opens(credentials, gator):
    """It may have colons, and any character; the scheme is named in any case."""
    dashboard = Dashboard(gator, basic_auth=credentials)
    for each in (basic(credentials), basic(credentials).replace("Basic", "basic")):
        assert ask(dashboard, "/", authorization=each).status == 200


@pytest.mark.parametrize("credentials", ["", ":", "ada", "ada:", ":s3cret"])
def test_credentials_of_another_form_are_refused(credentials, gator):
    """Without a word of them in the error."""
    with pytest.raises(InvalidTask, match="no 'name:password'") as caught:
        Dashboard(gator, basic_auth=credentials)
    assert "s3cret" not in str(caught.value)


def test_who_is_forbidden_learns_nothing(gator):
    """Neither queues, nor where they are."""
    dashboard = Dashboard(gator, resolve_access=lambda request: None)
    for path in ("/", "/queue", "/do/pause", "/nowhere"):
        found = ask(dashboard, path)
        assert found.status == 403
        assert b"secret-place" not in found.body


def test_a_resolver_that_fails_forbids(gator, caplog):
    """And its error goes to the log, since any visitor may have asked."""

    def fail(request):
        raise RuntimeError("the password of the database is hunter2")

    for resolver in (fail, lambda request: "everything"):
        found = ask(Dashboard(gator, resolve_access=resolver), "/")
        assert found.status == 500
        assert b"hunter2" not in found.body
        assert b"mail" not in found.body
    assert "hunter2" in caplog.text


def test_a_resolver_sees_what_the_framework_calls_a_request(gator):
    """In ``original``."""
    seen = []
    dashboard = Dashboard(gator, resolve_access=lambda request: seen.append(request) or "all")
    original = object()
    dashboard.handle(Request("GET", "/", "", {}, b"", "/queues", original))
    assert seen[0].original is original


def answers(gator):
    """Yield an answer of each kind, with its status."""
    dashboard = Dashboard(gator, resolve_access=allow_actions)
    yield 200, ask(dashboard, "/")
    yield 200, ask(dashboard, "/do/pause", "POST", b"queue=mail", content_type=FORM)
    yield 200, ask(dashboard, "/static/style.css")
    tag = dict(ask(dashboard, "/static/style.css").headers)["ETag"]
    yield 304, ask(dashboard, "/static/style.css", if_none_match=tag)
    fragment = ask(dashboard, "/workers", x_alligator_fragment="1")
    yield 200, fragment
    tag = dict(fragment.headers)["ETag"]
    yield 304, ask(dashboard, "/workers", x_alligator_fragment="1", if_none_match=tag)
    yield 400, ask(dashboard, "/queue")
    yield 401, ask(Dashboard(gator, basic_auth="a:b"), "/")
    yield 403, ask(Dashboard(gator, resolve_access=lambda _: None), "/")
    yield 403, ask(dashboard, "/do/pause", "POST", sec_fetch_site="cross-site")
    yield 404, ask(dashboard, "/nowhere")
    yield 404, ask(dashboard, "/static/nothing.js")
    yield 404, ask(dashboard, "/do/nothing")
    yield 405, ask(dashboard, "/", "DELETE")
    yield 405, ask(dashboard, "/running", "POST")
    yield 413, ask(dashboard, "/do/pause", "POST", b"x" * 1_000_001)
    yield 500, ask(Dashboard(gator, resolve_access=lambda _: "?"), "/")


def test_each_answer_has_the_headers(gator):
    """Whatever its status; so that no browser loads anything from elsewhere, or frames a page."""
    statuses = set()
    for status, found in answers(gator):
        headers = {name.lower(): value for name, value in found.headers}
        assert len(headers) == len(found.headers), "one twice"
        assert found.status == status
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert ("content-length" in headers) is (status != 304)
        assert not (status == 304 and found.body)
        statuses.add(status)
    assert statuses == {200, 304, 400, 401, 403, 404, 405, 413, 500}


def test_no_page_has_a_script_or_a_style_of_its_own(gator):
    """The policy would forbid it."""
    for _, found in answers(gator):
        if dict(found.headers).get("Content-Type", "").startswith("text/html"):
            page = found.body.decode()
            assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
            assert all('src="/static/' in each for each in re.findall("<script[^>]*>", page))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../dashboard.py",
        "/static/..\\dashboard.py",
        "/static//etc/passwd",
        "/static/",
        "/static/style.css/",
        "/static/style.css\x00",
        "/static/STYLE.CSS",
        "/static/./style.css",
        "/static/%2e%2e/dashboard.py",
        "/mail/static/style.css",
    ],
)
def test_only_the_files_that_are_listed_are_served(path, dashboard):
    """No path is built of what was asked for."""
    assert ask(dashboard, path).status == 404


@pytest.mark.parametrize("root", ["//evil.example/queues", "/a b/q%2F?x#y", "/é<script>"])
def test_the_place_where_it_is_mounted_is_quoted(root, gator):
    """In each link; and no link leads to another host."""
    dashboard = Dashboard(gator, resolve_access=allow_actions)
    page = dashboard.handle(Request("GET", "/", "", {}, b"", root)).body.decode()
    found = re.findall(r'(?:href|src|action)="([^"#]*)"', page)
    assert len(found) > 8
    for each in found:
        assert re.match(r"/[^/][\w%/.:?=&;+-]*$", each, re.ASCII), each


def test_head_is_a_get_without_a_body(dashboard):
    """Its length is told."""
    got, head = ask(dashboard, "/static/live.js"), ask(dashboard, "/static/live.js", "HEAD")
    assert (head.status, head.body, head.headers) == (200, b"", got.headers)


@pytest.mark.parametrize("name", ["static", "do", "Mail", "", "a/b", "ü"])
def test_names_of_sources_that_cannot_stand_in_a_path_are_refused(name, gator):
    """Only where there are several, since one alone is not in the path."""
    with pytest.raises(InvalidTask, match="is no name for a part"):
        Dashboard({"mail": gator, name: gator})
    Dashboard({name: gator})


def test_sources_are_beside_each_other(gator, tmp_path):
    """Each with its own pages, and links that stay with it."""
    other = Gator(f"locmem://{tmp_path}/other", "images")
    other.task("operator.add", 1, 2)
    dashboard = Dashboard({"one": gator, "two": other})
    page = ask(dashboard, "/two/").body.decode()
    assert 'href="/two/queue?name=images"' in page
    assert 'href="/one"' in page
    assert 'href="/one/queue?name=mail"' in ask(dashboard, "/").body.decode()
    assert ask(dashboard, "/two/workers").status == 200
    assert ask(dashboard, "/three/workers").status == 404
