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


class Tabs:
    """The contexts and tabs of the browser, which tests use one after the other.

    To open a tab starts a process, which takes as long as a page or two.
    """

    def __init__(self, browser: Any, origin: str) -> None:
        self._browser, self._origin = browser, origin
        self._contexts: dict[str, Any] = {}
        self._free: dict[str, list[Any]] = {}
        self._used: list[tuple[str, Any]] = []

    def take(self, *, is_own: bool = False, **options: Any) -> Any:
        """Return a tab on which nothing is open.

        :param is_own: no other test gets it: for what stays with a tab, such as its clock.
        :param options: of Playwright's ``new_context``: one for the same options.
        """
        options = {"viewport": WIDE, "color_scheme": "light", "reduced_motion": "reduce"} | options
        key = repr(sorted(options.items()))
        if key not in self._contexts:
            self._contexts[key] = self._browser.new_context(**options)
            self._contexts[key].set_default_timeout(30_000)
        free = self._free.setdefault(key, [])
        if free and not is_own:
            page = free.pop()
            page.set_viewport_size(options["viewport"])
            page.emulate_media(
                color_scheme=options["color_scheme"], reduced_motion=options["reduced_motion"]
            )
        else:
            page = self._contexts[key].new_page()
            page.watched = chromium.Watched(page, self._origin)
        self._used.append(("" if is_own else key, page))
        return page

    def give_back(self) -> list[str]:
        """Leave what is open on all tabs in use; return what pages did that they must not do."""
        faults = []
        for key, page in self._used:
            if key:
                page.goto("about:blank")
                self._free[key].append(page)
            else:
                page.close()
            faults += page.watched.renew()
        self._used.clear()
        return faults

    def close(self) -> None:
        """Close all of them."""
        for each in self._contexts.values():
            each.close()


@pytest.fixture(scope="package")
def tabs(browser: Any, site: Site) -> Iterator[Tabs]:
    """The tabs of the browser, for all tests of this folder."""
    found = Tabs(browser, site.origin)
    yield found
    found.close()


@pytest.fixture
def opened(tabs: Tabs) -> Iterator[Open]:
    """Return a function that opens pages, and see afterwards what they did.

    It takes what :meth:`Tabs.take` does, and returns the page, whose ``watched`` tells what it
    did. A page that complains, raises, asks another host or opens a dialog fails the test.
    """

    def open_page(url: str | None = None, **options: Any) -> Any:
        page = tabs.take(**options)
        if url is not None:
            page.goto(url)
        return page

    yield open_page
    assert tabs.give_back() == []
