"""Test each action from its button to its result: with scripts, and without."""

import time
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


def delay(gator: Gator) -> None:
    """Queue a task for later."""
    gator.options(task_id="one", delay_by=3600).task("shop.mail.remind", 1)


def is_due(gator: Gator) -> bool:
    """Return whether a worker may take the task now."""
    return all((each.due or 0) <= time.time() for each in gator.tasks("delayed"))


TASK = "task?queue=mail&id=one"

#: By their names.
SCENES = {
    "pause": Scene("", push, lambda gator: gator.paused() is not None, "is paused"),
    "resume": Scene("", push_and_pause, lambda gator: gator.paused() is None, "goes on"),
    "drop": Scene("queue?name=mail", push, lambda gator: gator.len() == 0, "1 task was deleted"),
    "cancel": Scene(TASK, push, lambda gator: gator.len() == 0, "1 task was canceled"),
    "run": Scene(TASK, delay, is_due, "1 task was made due"),
    "revive": Scene(TASK, bury, lambda gator: gator.len() == 1, "1 task was revived"),
    "purge": Scene(TASK, bury, lambda gator: not gator.dead(), "1 task was deleted"),
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
    page.locator("main form button").first.click()
    assert scene.says in page.locator("main [role=status]").inner_text()
    assert scene.is_done(gator)
    page.get_by_role("link", name="Back").click()
    assert page.url == came_from


#: Does what the button of a form does, and stays on the page, as if another visitor had done it.
SEND = """async () => {
  const form = document.querySelector('main form'), button = form.querySelector('button');
  const body = new URLSearchParams(new FormData(form, button));
  return (await fetch(form.action, {method: 'POST', body})).status;
}"""


@pytest.mark.parametrize("name", SCENES)
def test_it_says_so_where_another_visitor_was_faster(name, gator, url, opened):
    scene = SCENES[name]
    scene.prepare(gator)
    page = opened(f"{url}/{scene.path}")
    page.locator(f"main a[href*='/do/{name}?']").first.click()
    page.wait_for_url(f"**/do/{name}?*")
    assert page.evaluate(SEND) == 200
    assert scene.is_done(gator)
    page.locator("main form button").first.click()
    assert page.locator("main [role=status]").inner_text()
    assert scene.is_done(gator)


def test_what_is_checked_is_acted_on(gator, url, opened):
    for index in range(5):
        gator.options(task_id=f"task-{index}").task("shop.mail.remind", index)
    page = opened(f"{url}/queue?name=mail")
    for index in (1, 3):
        page.locator(f"input[type=checkbox][value$='task-{index}']").check()
    gator.task("shop.mail.send_receipt", 1, "buyer@shop.example")
    page.get_by_text("send_receipt").first.wait_for()  # it looked for news meanwhile
    assert page.locator("input[type=checkbox]:checked").count() == 2
    page.get_by_role("button", name="Cancel").first.click()
    assert "2 tasks" in page.locator("main form").inner_text()
    page.locator("main form button").first.click()
    assert "2 tasks were canceled" in page.locator("main [role=status]").inner_text()
    ids = [each.task_id for each in gator.tasks("waiting")]
    assert [each for each in ids if each.startswith("task-")] == ["task-0", "task-2", "task-4"]


def test_no_action_has_been_forgotten_here():
    assert set(SCENES) == set(ACTIONS)
