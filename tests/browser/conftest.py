"""Serve dashboards to one browser, which lasts as long as tests of this folder run."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cheroot import wsgi

from alligator import Gator
from alligator.web import Dashboard, Request
from alligator.web.access import allow_actions
from tests.browser import story
from tests.support import browser as chromium

#: A wide screen, and a telephone.
WIDE, NARROW = {"width": 1200, "height": 800}, {"width": 390, "height": 844}


class Site:
    """A server on a free loopback port, with a dashboard below each of its paths."""

    def __init__(self) -> None:
        self._dashboards: dict[str, Dashboard] = {}
        self.server = wsgi.Server(("127.0.0.1", 0), self._serve, numthreads=6)
        self.server.prepare()
        self.origin = "http://{}:{}".format(*self.server.bind_addr)

    def mount(self, dashboard: Dashboard) -> str:
        """Serve a dashboard, and return its URL, without a slash at its end."""
        path = f"/at-{len(self._dashboards)}"
        self._dashboards[path] = dashboard
        return f"{self.origin}{path}"

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        first, slash, rest = environ["PATH_INFO"].removeprefix("/").partition("/")
        dashboard = self._dashboards.get(f"/{first}")
        if dashboard is None or not slash:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"Not here.\n"]
        return dashboard.wsgi(
            {**environ, "SCRIPT_NAME": f"/{first}", "PATH_INFO": f"/{rest}"}, start_response
        )


@contextmanager
def serving() -> Iterator[Site]:
    """Serve until the end of the block."""
    site = Site()
    thread = threading.Thread(target=site.server.serve, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.server.stop()
        thread.join(20)


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    """A server for all tests of this folder."""
    with serving() as found:
        yield found


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """A browser for all tests of this folder; not longer, see there."""
    with chromium.start() as found:
        yield found


@pytest.fixture(scope="package")
def _project() -> Iterator[None]:
    path = str(Path(__file__).parent / "project")
    sys.path.insert(0, path)
    yield
    sys.path.remove(path)


@pytest.fixture(scope="package")
def shop(_project: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Tell the story of the shop to a SQLite file; do not change it."""
    gator = Gator(f"sqlite://{tmp_path_factory.mktemp('shop')}/queue.db", "mail")
    told = story.tell(gator)
    yield gator, told
    gator.close()


@pytest.fixture(scope="package")
def shop_url(site: Site, shop: Any) -> str:
    """Return where the shop is shown, by a dashboard that may act and has read the past."""
    return site.mount(with_its_past(Dashboard(shop[0], resolve_access=allow_actions)))


def with_its_past(dashboard: Dashboard) -> Dashboard:
    """Return a dashboard that has read what is older than an hour."""
    deadline = time.monotonic() + 30
    while b"being read" in dashboard.handle(Request("GET", "/activity")).body:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dashboard


@pytest.fixture
def gator(_project: None, tmp_path: Path) -> Iterator[Gator]:
    """Return a Gator for one test, on a file with nothing in it."""
    found = Gator(f"sqlite://{tmp_path}/queue.db", "mail")
    yield found
    found.close()


@pytest.fixture
def url(site: Site, gator: Gator) -> str:
    """Return where that Gator is shown, by a dashboard that may act and looks for news often."""
    return site.mount(Dashboard(gator, resolve_access=allow_actions, every=0.2))


Open = Callable[..., Any]


@pytest.fixture(scope="package")
def context(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that returns a context of the browser, one for the same options."""
    made: dict[str, Any] = {}

    def find(**options: Any) -> Any:
        options = {"viewport": WIDE, "color_scheme": "light", "reduced_motion": "reduce"} | options
        key = repr(sorted(options.items()))
        if key not in made:
            made[key] = browser.new_context(**options)
            made[key].set_default_timeout(30_000)
        return made[key]

    yield find
    for each in made.values():
        each.close()


@pytest.fixture
def opened(context: Callable[..., Any], site: Site) -> Iterator[Open]:
    """Return a function that opens pages, and see afterwards what they did.

    It takes the options of Playwright's ``new_context``, and returns the page, whose
    ``watched`` tells what it did. A page that complains, raises, asks another host or opens a
    dialog fails the test.
    """
    pages = []

    def open_page(url: str | None = None, **options: Any) -> Any:
        page = context(**options).new_page()
        page.watched = chromium.Watched(page, site.origin)
        pages.append(page)
        if url is not None:
            page.goto(url)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [fault for page in pages for fault in page.watched.faults] == []
