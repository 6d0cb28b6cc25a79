"""Test the dashboard mounted by one line in real applications of Flask, FastAPI and Django."""

import html
import http.client
import re
from urllib.parse import urlencode

import pytest

from alligator import Gator
from alligator.web import Dashboard
from tests.support import sites

SITES = {
    "flask": sites.flask_site,
    "fastapi": sites.fastapi_site,
    "django": sites.django_site,
    "django-asgi": sites.django_asgi_site,
}


@pytest.fixture(scope="module")
def gator(tmp_path_factory):
    gator = Gator(f"sqlite://{tmp_path_factory.mktemp('site')}/q.db", "mail")
    gator.task("operator.add", 1, 2)
    yield gator
    gator.close()


@pytest.fixture(scope="module", params=SITES)
def address(request, gator):
    """The address of a site with the dashboard."""

    def dashboard(resolve_access):
        return Dashboard(gator, resolve_access=resolve_access)

    with SITES[request.param](dashboard) as address:
        yield address


class Browser:
    """Sends requests as one visitor."""

    def __init__(self, address, user=""):
        self.address, self.cookie = address, ""
        if user:
            answer, _ = self.post("/login", {"user": user}, within="")
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def ask(self, method, path, body=None, *, within=sites.PREFIX, **headers):
        """Return the response and its text; the path is that below the dashboard."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            fields["Cookie"] = self.cookie
        connection.request(method, sites.in_url(within) + path, body, fields)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text

    def get(self, path, **more):
        """Return the response, and its text."""
        return self.ask("GET", path, **more)

    def post(self, path, fields, **headers):
        """Send a form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, urlencode(fields), **kind, **headers)


@pytest.fixture
def ada(address):
    """May do all."""
    return Browser(address, "ada")


@pytest.fixture
def bob(address):
    """May only look."""
    return Browser(address, "bob")


@pytest.mark.parametrize("path", ["", "running", "running/", "workers", "queue?name=mail"])
def test_pages_and_their_links_stay_below_the_prefix(ada, path):
    """And each file that a page needs is there."""
    answer, page = ada.get(f"/{path}")
    assert answer.status == 200
    found = re.findall(r'(?:href|src|action)="([^"#]+)"', page)
    assert len(found) > 8
    for each in map(html.unescape, found):
        assert each.startswith(sites.in_url(sites.PREFIX) + "/"), each
    for each in {html.unescape(each) for each in found if "/static/" in each}:
        answer, _ = ada.get(each, within="")
        assert (answer.status, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")


def test_links_lead_to_pages(ada):
    """Those of the overview, to the navigation and to the queue."""
    _, page = ada.get("/")
    for each in ("running", "workers", "schedules", "queue?name=mail"):
        (link,) = {found for found in re.findall(r'href="([^"]+)"', page) if found.endswith(each)}
        assert ada.get(html.unescape(link), within="")[0].status == 200
    assert ada.get("/nowhere")[0].status == 404


def test_the_place_without_a_slash_leads_to_the_overview(ada):
    """By a redirection, or at once; Django does it by its setting APPEND_SLASH."""
    answer, page = ada.get("")
    if answer.status in (301, 307, 308):
        location = answer.headers["Location"]
        answer, page = ada.get(location.partition(ada.address)[2] or location, within="")
    assert answer.status == 200
    assert "mail" in page


def test_head_has_the_headers_and_no_body(ada):
    """As load balancers ask."""
    answer, text = ada.ask("HEAD", "/")
    assert (answer.status, text) == (200, "")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert ada.ask("PUT", "/")[0].status == 405


def test_an_action_from_a_page_of_the_site_counts(ada, gator):
    """By what a browser says of it, in either way; without the CSRF token of Django."""
    for headers in ({"Sec_Fetch_Site": "same-origin"}, {"Origin": f"http://{ada.address}"}):
        _, page = ada.get("/do/pause?queue=mail")
        assert "Pause queue mail?" in page
        answer, page = ada.post("/do/pause", {"queue": "mail"}, **headers)
        assert answer.status == 200
        assert "is paused" in page
        assert gator.resume("mail")


def test_an_action_from_another_site_is_refused(ada, gator):
    """Whatever the cookie says."""
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "http://evil.example"}):
        answer, page = ada.post("/do/pause", {"queue": "mail"}, **headers)
        assert answer.status == 403
        assert "That came from another site." in page
    assert gator.paused("mail") is None


def test_who_may_only_look_has_no_buttons_and_cannot_act(bob, gator):
    """The resolver was given what the framework calls a request, with its session."""
    _, page = bob.get("/")
    assert "Read-only" in page
    assert "do/" not in page
    for method in ("GET", "POST"):
        answer, _ = bob.ask(method, "/do/pause?queue=mail", Sec_Fetch_Site="same-origin")
        assert answer.status == 403
    assert gator.paused("mail") is None


def test_who_is_not_signed_in_sees_nothing(address, gator):
    """Not even which queue it is about."""
    answer, page = Browser(address).get("/")
    assert answer.status == 403
    assert "You may not see this dashboard." in page
    assert "mail" not in page
    assert "q.db" not in page


def test_a_body_that_is_too_large_changes_nothing(ada, gator):
    """It is refused, by the dashboard or by the framework before it."""
    answer, _ = ada.post("/do/pause", {"queue": "mail", "x": "y" * 1_500_000})
    assert answer.status == 413
    assert gator.paused("mail") is None


def test_paths_are_decoded_once(ada):
    """And none of them leads out of the folder of the files."""
    for path in ("/static/..%2f..%2fdashboard.py", "/static/../../dashboard.py", "/static/%00"):
        answer, text = ada.get(path)
        assert answer.status in (400, 404), path
        assert "import" not in text
    assert ada.get("/r%75nning")[0].status == 200
    assert ada.get("/%2572unning")[0].status == 404
    assert ada.get("/%ff%fe")[0].status == 404


@pytest.mark.parametrize("site", ["django", "django-asgi"])
@pytest.mark.parametrize("place", ["/by-path", "/team/7/tasks"])
def test_other_patterns_of_django(site, place, gator):
    """A path with a converter, and one in another that captures something."""
    with SITES[site](lambda resolve: Dashboard(gator, resolve_access=resolve)) as address:
        browser = Browser(address, "ada")
        answer, page = browser.get("/running", within=place)
        assert answer.status == 200
        assert f'href="{place}/workers"' in page
        answer, page = browser.get("/", within=place)
        assert f'href="{place}/queue?name=mail"' in page
        assert browser.get("/static/live.js", within=place)[0].status == 200


@pytest.mark.filterwarnings("ignore:The `root_path` parameter")
@pytest.mark.parametrize(
    ("asked", "shown"), [("", "/api"), ("/api", "/api")], ids=["stripped", "whole"]
)
def test_fastapi_behind_a_proxy_that_shows_it_below_a_path(asked, shown, gator):
    """Whether the proxy strips that path or not, as Starlette allows both."""

    def dashboard(resolve_access):
        return Dashboard(gator, resolve_access=resolve_access)

    with sites.fastapi_site(dashboard, root_path="/api") as address:
        browser = Browser(address, "ada")
        answer, page = browser.get("/running", within=asked + sites.PREFIX)
        assert answer.status == 200
        assert f'href="{sites.in_url(shown + sites.PREFIX)}/workers"' in page
