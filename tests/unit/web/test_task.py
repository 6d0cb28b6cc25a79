"""Test the page of a task."""

import json
import re
from contextlib import suppress

import pytest

from alligator import Gator, current_task, result_of
from alligator.common.ids import new_task_id
from alligator.exceptions import InvalidTask
from alligator.web.pages import task as task_page
from alligator.web.tracebacks import folded
from tests.support.pages import HOSTILE, Pages, links, words


def work(number, password=None, **more):
    """Do what a task does."""
    if number == 13:
        raise ValueError(more.get("why", "There is no month 13."))
    return {"month": number, "token": "hunter2"}


def tell(number):
    """Tell how far it is, and what page then shows it."""
    current_task().progress(0.4, f"page {number}")


@pytest.fixture
def gator(tmp_path):
    return Gator(f"sqlite:///{tmp_path}/queue.db", "reports")


def fail(gator, **options):
    """Queue a task that fails, and let it."""
    task = gator.options(**options).task(work, 13, password="hunter2")
    with pytest.raises(ValueError, match="13"):
        gator.get(task.task_id)
    return task


def test_a_task_that_waits(gator, pages):
    """With the sentence, its state, its call, headers and options; secrets are masked."""
    task = gator.options(headers={"tenant": "ada"}, priority=7, expires=500).task(
        work, 1, password="hunter2"
    )
    page = pages.get("task", queue="reports", id=task.task_id)
    text = words(page)
    assert "waiting as the next task on 'reports'" in text.lower()
    assert "test_task.work" in text
    assert "1, password='***'" in text
    assert "tenant: ada" in text
    assert "Priority 7" in text
    assert "hunter2" not in page
    assert any("do/cancel" in each for each in links(page))


def test_a_delayed_task_can_be_run_now(gator, pages):
    """Its due time is shown."""
    task = gator.options(delay_by=3600).task(work, 1)
    page = pages.get("task", queue="reports", id=task.task_id)
    assert "Due in " in words(page)
    assert any("do/run" in each for each in links(page))


def test_a_dead_letter(gator, pages):
    """With each attempt, the traceback, and the test that fails as it did."""
    task = fail(gator, history=3600)
    page = pages.get("task", queue="reports", id=task.task_id)
    text = words(page)
    assert "became a dead letter" in text.lower()
    assert "ValueError: There is no month 13." in text
    assert "took " in text
    assert 'raise ValueError(more.get("why"' in text
    assert "def test_work_as_it_died():" in text
    assert "'password': '***'" in text
    assert "hunter2" not in page
    assert "1970" not in page
    for name in ("do/revive", "do/purge"):
        assert any(name in each for each in links(page))


def test_its_life_says_when_it_was_revived(gator, pages):
    """And its attempts are those since then, as in lists."""
    task = fail(gator, history=3600)
    gator.revive(task)
    text = words(pages.get("task", queue="reports", id=task.task_id))
    assert re.search("Revived (just now|[0-9]+ s ago)", text)
    assert "Attempts 0 since it was revived" in text
    with pytest.raises(ValueError, match="13"):
        gator.pop()
    text = words(pages.get("task", queue="reports", id=task.task_id))
    assert text.count("Revived ") == 1
    first, _, last = text.partition("Life")[2].partition("Revived ")
    assert first.count("failed") == last.partition("Call")[0].count("failed") == 1
    assert "Attempts 1 since it was revived" in text
    (row,) = gator.tasks("dead")
    assert row.attempts == 1


def test_a_revival_that_was_not_recorded_is_told_without_a_time(gator, pages):
    """Its runs are known from the list of recent ones alone."""
    task = fail(gator)
    gator.revive(task)
    text = words(pages.get("task", queue="reports", id=task.task_id))
    assert "Revived when, is not recorded" in text


def test_without_history_the_letter_is_shown_all_the_same(gator, pages):
    """Its error and its traceback are in the record, or in the letter."""
    text = words(pages.get("task", queue="reports", id=fail(gator).task_id))
    assert "ValueError: There is no month 13." in text
    assert "Traceback (most recent call last)" in text


def test_who_may_only_look_sees_no_test(gator):
    """As it has the arguments in full; and no buttons."""
    task = fail(gator)
    page = Pages(gator, resolve_access=None).get("task", queue="reports", id=task.task_id)
    assert "as_it_died" not in page
    assert "do/" not in page


def test_a_success_shows_its_result(gator, pages):
    """Shortened and masked."""
    task = gator.options(save_results=600).task(work, 4)
    gator.pop()
    page = pages.get("task", queue="reports", id=task.task_id)
    assert '"month": 4' in words(page)
    assert "hunter2" not in page


def test_a_run_that_ended_lately_is_known_without_a_history(gator, pages):
    """From the list of recent runs."""
    task = gator.task(work, 5)
    gator.pop()
    text = words(pages.get("task", queue="reports", id=task.task_id))
    assert "success" in text
    assert "test_task.work" in text


def test_a_lease_is_explained_where_it_is_named(gator, pages):
    task = gator.task(work, 1)
    (delivery,) = gator.client.reserve(["reports"]).deliveries
    text = words(pages.get("task", queue="reports", id=task.task_id))
    assert "on a lease until " in text
    assert "A lease is the time for which a task belongs to its worker." in text
    gator.client.release(delivery)


def test_family(gator, pages):
    """Parents and children, with links and states."""
    with gator.batch() as batch:
        first = batch.task(work, 1)
        second = batch.task(work, result_of(first))
    page = pages.get("task", queue="reports", id=second.task_id)
    assert "held" in words(page)
    assert f"/task?queue=reports&id={first.task_id}" in links(page)
    page = pages.get("task", queue="reports", id=first.task_id)
    assert "These wait for it" in words(page)
    assert f"/task?queue=reports&id={second.task_id}" in links(page)


def test_which_children_are_shown_is_said(gator, pages, monkeypatch):
    """A search that was not finished says so."""
    with gator.batch() as batch:
        first = batch.task(work, 1)
        second = batch.task(work, result_of(first))
        third = batch.task(work, result_of(second))
    text = words(pages.get("task", queue="reports", id=second.task_id))
    assert "A child is listed as long as it waits for this task." in text
    monkeypatch.setattr(task_page, "_SEARCH", -1.0)
    text = words(pages.get("task", queue="reports", id=second.task_id))
    assert "Not all tasks that wait were looked at." in text
    monkeypatch.undo()
    gator.get(first.task_id)
    gator.get(second.task_id)
    text = words(pages.get("task", queue="reports", id=third.task_id))
    assert "A child is listed as long as it waits for this task." in text


def test_the_children_of_a_task_that_ended_are_listed(gator, pages):
    """Wherever they are, on any queue: each with its state."""
    other = gator.on_queue("other")
    parent = gator.options(task_id="parent", history=3600).task(work, 1)
    after = {"depends_on": [parent], "history": 3600}
    gator.options(**after, task_id="well").task(work, 2)
    gator.options(**after, task_id="badly").task(work, 13)
    gator.options(**after, task_id="again", retries=1, retry_delay=900).task(work, 13)
    for task_id in ("waits", "stranger"):
        parents = [parent] if task_id == "waits" else []
        other.options(depends_on=parents, task_id=task_id).task(work, 3)
    with gator.batch() as batch:
        stays = batch.options(task_id="stays").task(work, 4)
        batch.options(task_id="held", depends_on=[parent, stays]).task(work, 5)
    gator.get("parent")
    gator.get("well")
    for task_id in ("badly", "again"):
        with suppress(ValueError):
            gator.get(task_id)
    page = pages.get("task", queue="reports", id="parent")
    text = words(page)
    assert "Its last run ended in success. It has left its queue" in text  # no record was saved
    assert "Waited for it" in text
    assert "one that was canceled before it ran is not among these" in text
    name = "tests.unit.web.test_task.work"
    for child in ("well {} success", "badly {} failed", "again {} delayed", "held {} held"):
        assert child.format(name) in text
    assert f"waits {name} waiting on other" in text
    for task_id in ("stranger", "stays"):
        assert f" {task_id} " not in text
    assert "/task?queue=other&id=waits" in links(page)
    assert "Parents and children" not in words(pages.get("task", queue="reports", id="stranger"))


def test_a_task_that_vanished_is_one_clear_line(gator, pages):
    """And an unknown queue likewise."""
    text = words(pages.get("task", queue="reports", id=new_task_id()))
    assert "This task is unknown on 'reports'" in text
    text = words(pages.get("task", queue="nowhere", id=new_task_id()))
    assert "a queue that is not known here" in text
    for query in ({}, {"id": "x", "queue": HOSTILE}, {"id": "", "queue": "reports"}):
        pages.get("task", 400, **query)


def test_our_frames_are_folded():
    """The frames of Alligator are parts of their own, and the rest stays as it was."""
    trace = (
        'Traceback (most recent call last):\n  File "/app/jobs.py", line 3, in work\n    call()\n'
        '  File "/usr/lib/python3/site-packages/alligator/gator.py", line 9, in task\n    x()\n'
        '    ^^^\n  File "/app/jobs.py", line 5, in inner\n    raise ValueError\nValueError\n'
    )
    parts = folded(trace)
    assert [ours for ours, _ in parts] == [False, True, False]
    assert "\n".join(text for _, text in parts) == trace.rstrip("\n")
    assert folded("") == []


def test_hostile_values_break_nothing(gator, pages):
    """In ids, arguments, headers, options, errors, tracebacks and messages."""
    clean = HOSTILE.replace("\udcff", "").replace("\x00", "")
    options = {
        "headers": {"x": clean},
        "depends_on": [clean, 7, None],
        "result_of": [[1, clean, clean], clean, [clean]],
        clean: clean,
    }
    message = {
        "module": clean,
        "callable": clean,
        "args": [clean, "y" * 1_000_000],
        "kwargs": {clean: clean},
        "options": options,
    }
    ids = [clean, "x" * 5000, new_task_id(), "un\udcffreadable"]
    datas = [json.dumps(message), "no JSON", b"\xff\x00<script>alert(1)", '{"options": 7}']
    for task_id in ids:
        for data in datas:
            try:
                gator.client.push("reports", task_id, data)
            except InvalidTask:  # it cannot be stored
                continue
            assert len(pages.get("task", queue="reports", id=task_id)) < 40_000
    while delivery := gator.client.reserve(["reports"]).deliveries:
        from alligator.backends.base import Reason

        trace = f'  File "{clean}", line 1, in x\n    {clean}\n{clean}'
        gator.client.bury(delivery[0], None, Reason(clean, trace))
    for task_id in ids[:3]:
        pages.get("task", queue="reports", id=task_id)
    assert "cannot store that" in words(pages.get("task", 400, queue="reports", id=ids[3]))
    task = gator.options(history=600).task(work, 13, why=clean)
    with pytest.raises(ValueError, match="evil"):
        gator.get(task.task_id)
    assert "evil" in pages.get("task", queue="reports", id=task.task_id)
