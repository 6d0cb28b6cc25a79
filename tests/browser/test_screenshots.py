"""Make the pictures of the documentation, by ``make screenshots``; else see that they are there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from alligator import Gator
from alligator.web import Dashboard
from alligator.web.access import allow_actions
from tests.browser import story
from tests.browser.conftest import NARROW, WIDE, with_its_past
from tests.browser.test_pages import address
from tests.support import ROOT

FOLDER = ROOT / "docs" / "_static" / "screenshots"

#: The most bytes of a picture.
LARGEST = 200_000

#: The last moment of the story in pictures: 2026-11-03 14:32:50 UTC, a Tuesday.
MOMENT = 1_793_716_370.0

#: The pictures by their names: the page, the options of the browser, and how tall they are.
PICTURES = {
    "overview-light": ("", {}, 1420),
    "overview-dark": ("", {"color_scheme": "dark"}, 1420),
    "overview-narrow": ("", {"viewport": NARROW}, 1500),
    "queue-light": ("queue", {}, 800),
    "task-light": ("task", {}, 900),
    "running-light": ("running", {}, 700),
    "workers-light": ("workers", {}, 700),
    "schedules-light": ("schedules", {}, 600),
    "dead-light": ("dead", {}, 700),
    "recent-light": ("recent", {}, 800),
    "activity-light": ("activity", {}, 800),
    "search-light": ("search", {}, 600),
}


def test_each_picture_is_in_the_documentation():
    assert {each.stem for each in FOLDER.glob("*.png")} == set(PICTURES)
    for each in FOLDER.glob("*.png"):
        assert 5_000 < each.stat().st_size < LARGEST, each.name


@pytest.fixture(scope="module")
def pictured(site, _project, tmp_path_factory) -> Iterator[tuple[str, story.Told]]:
    """Tell the story at another time; return where it is shown, and its tasks."""
    folder = tmp_path_factory.mktemp("pictured")
    with story.later(MOMENT):
        gator = Gator(f"sqlite://{folder}/queue.db", "mail")
        told = story.tell(gator)
        gator.conn_string = "sqlite:///var/lib/shop/queue.db"  # as the foot of each page shows it
        dashboard = with_its_past(Dashboard(gator, resolve_access=allow_actions))
        yield site.mount(dashboard), told
        gator.close()


@pytest.mark.parametrize("name", PICTURES)
def make(name, pictured, opened):
    """Make a picture; a test of its own for each, so that they share the browser."""
    url, told = pictured
    path, options, height = PICTURES[name]
    page = opened(is_own=True, **options)
    page.clock.set_system_time(MOMENT * 1000 + 2000)
    page.goto(address(url, told, path))
    page.get_by_text("being read").wait_for(state="hidden")
    page.wait_for_function("document.fonts.status == 'loaded'")
    wide = options.get("viewport", WIDE)["width"]
    full = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": wide, "height": min(height, full)})
    target = Path(os.environ["SCREENSHOTS"]) / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target)
    optimize(target)
    assert target.stat().st_size < LARGEST


def optimize(picture: Path) -> None:
    """Make a picture smaller, with 256 colours, which look the same here; pillow does it."""
    try:
        from PIL import Image
    except ImportError:
        return
    found = Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    found.save(picture, optimize=True)


if "SCREENSHOTS" in os.environ:
    del test_each_picture_is_in_the_documentation
    test_make = make
