"""Test each action from its button to its result: with scripts, and without."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from alligator import Gator
from alligator.exceptions import AlligatorException
from alligator.web.actions import ACTIONS


class Scene(NamedTuple):
    """An action, as a visitor comes to it.

    :param path: of the page with its button.
    :param prepare: makes what is acted on.
    :param is_done: whether the action has been done.
    :param says: a part of the sentence that says so.
    """

    path: str
    prepare: Callable[[Gator], Any]
    is_done: Callable[[Gator], bool]
    says: str


def push(gator: Gator) -> None:
    """Queue a task."""
    gator.options(task_id="one").task("shop.mail.remind", 1)


def push_and_pause(gator: Gator) -> None:
    """Queue a task, and pause its queue."""
    push(gator)
    gator.pause()


def bury(gator: Gator) -> None:
    """Make a dead letter."""
    gator.options(task_id="one").task("shop.mail.remind", "too", "many", "arguments")
    with suppress(TypeError, AlligatorException):
        gator.pop()
    assert [each.task_id for each in gator.dead()] == ["one"]


#: By their names.
SCENES = {
    "pause": Scene("", push, lambda gator: gator.paused() is not None, "is paused"),
    "resume": Scene("", push_and_pause, lambda gator: gator.paused() is None, "goes on"),
}


@pytest.mark.parametrize("is_scripted", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize("name", SCENES)
def test_it_is_confirmed_and_says_what_it_did(name, is_scripted, gator, url, opened):
    scene, action = SCENES[name], ACTIONS[name]
    scene.prepare(gator)
    page = opened(f"{url}/{scene.path}", java_script_enabled=is_scripted)
    came_from = page.url
    button = page.locator(f"main a[href*='/do/{name}?']").first
    button.click()
    assert page.locator("h1").inner_text() == action.title
    assert not scene.is_done(gator)
    page.get_by_role("link", name="Leave it").click()
    assert page.url == came_from
    assert not scene.is_done(gator)
    button.click()
    page.locator("main form button").click()
    assert scene.says in page.locator("main [role=status]").inner_text()
    assert scene.is_done(gator)
    page.get_by_role("link", name="Back").click()
    assert page.url == came_from


@pytest.mark.parametrize("name", SCENES)
def test_it_says_so_where_another_visitor_was_faster(name, gator, url, opened):
    scene = SCENES[name]
    scene.prepare(gator)
    page, other = opened(f"{url}/{scene.path}"), opened(f"{url}/{scene.path}")
    for each in (page, other):
        each.locator(f"main a[href*='/do/{name}?']").first.click()
    for each in (other, page):
        each.locator("main form button").click()
        assert each.locator("main [role=status]").inner_text()
    assert scene.is_done(gator)
