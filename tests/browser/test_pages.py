"""Test that each page of the dashboard opens, is usable by all, and fits each screen."""

from urllib.parse import urlencode

import pytest

from alligator.web.pages import PAGES
from alligator.web.rendering import NAVIGATION
from tests.browser.conftest import NARROW
from tests.support.browser import violations

#: What may differ with the theme, and with the size of the screen: rules of axe.
COLOURS = ["color-contrast", "link-in-text-block"]
SIZES = ["target-size", "scrollable-region-focusable", "meta-viewport"]

#: What a page has to be told in its query, by its path; the others need nothing.
QUERIES = {
    "queue": lambda told: {"name": told.waiting[0]},
    "task": lambda told: {"queue": told.dead[0], "id": told.dead[1]},
    "search": lambda _: {"q": "images"},
    "activity": lambda _: {"range": "1h"},
}

#: The pages once more, in other states that look different.
STATES = {
    "task (retried)": ("task", lambda told: {"queue": told.retried[0], "id": told.retried[1]}),
    "task (held)": ("task", lambda told: {"queue": told.child[0], "id": told.child[1]}),
    "task (running)": ("task", lambda told: {"queue": told.running[0], "id": told.running[1]}),
    "task (delayed)": ("task", lambda told: {"queue": told.delayed[0], "id": told.delayed[1]}),
    "task (unknown)": ("task", lambda _: {"queue": "mail", "id": "no-such-task"}),
    "queue (paused)": ("queue", lambda _: {"name": "newsletter"}),
    "queue (dead)": ("queue", lambda _: {"name": "payments", "state": "dead"}),
    "search (nothing)": ("search", lambda _: {"q": "nothing-of-that-kind"}),
    "do/pause": ("do/pause", lambda _: {"queue": "mail"}),
    "no such page": ("no-such-page", lambda _: {}),
}


def address(url: str, told, name: str) -> str:
    """Return the URL of a page, or of a state of one."""
    path, query = STATES.get(name) or (name, QUERIES.get(name, lambda _: {}))
    text = urlencode(query(told))
    return f"{url}/{path}?{text}" if text else f"{url}/{path}"


def names() -> list[str]:
    """Return the pages, and their states, that there are."""
    return [*PAGES, *(name for name, (path, _) in STATES.items() if path in PAGES or "/" in path)]


@pytest.fixture(params=names(), ids=lambda name: name or "overview")
def where(request, shop_url, shop):
    """The address of each page in turn."""
    return address(shop_url, shop[1], request.param)


def overflow(page) -> int:
    """Return by how much a page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_all_can_use_it_in_each_theme_on_each_screen_and_without_a_script(where, opened):
    """One page load for most of it, and one without a script: loads are what takes the time."""
    page = opened(where)
    assert page.locator("h1").count() == 1
    assert page.locator("main").inner_text().strip()
    assert violations(page) == []
    assert overflow(page) <= 0
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 23, 19)"
    assert violations(page, COLOURS) == []
    page.set_viewport_size(NARROW)
    assert overflow(page) <= 0
    assert violations(page, SIZES) == []
    without = opened(where, java_script_enabled=False)
    assert without.locator("h1").inner_text()
    # Not compared: ages, which a script lets grow, and the button for the theme, which needs one.
    for parts in ("main", "main a", "main time, main progress"):
        assert without.locator(parts).count() == page.locator(parts).count(), parts


def test_a_telephone_shows_it_as_wide_as_it_is(shop_url, opened):
    """By the viewport that each page names: else it would show a wide page, and small."""
    page = opened(f"{shop_url}/", viewport=NARROW, is_mobile=True, has_touch=True)
    assert page.evaluate("innerWidth") == NARROW["width"]
    assert overflow(page) <= 0


def test_each_page_of_the_navigation_is_reached_by_its_link(shop_url, opened):
    page = opened(f"{shop_url}/")
    for path, name in NAVIGATION:
        if path not in PAGES:
            continue
        navigation = page.get_by_role("navigation", name="Pages")
        navigation.get_by_role("link", name=name).click()
        assert page.url == f"{shop_url}/{path}"
        current = navigation.locator("a[aria-current=page]")
        assert current.inner_text() == name
