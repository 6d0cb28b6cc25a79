"""Test what the result of a task says, before, while and after it runs."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from alligator.contrib.django import task_results
from alligator.contrib.django.tasks_framework import base, exceptions
from alligator.exceptions import TaskCanceled, TaskFailed, TaskTimeout
from tests.integration.django_tasks.conftest import tasks_settings
from tests.support.helpers import let_pass

READY, FAILED = base.TaskResultStatus.READY, base.TaskResultStatus.FAILED
SUCCESSFUL = base.TaskResultStatus.SUCCESSFUL


def test_a_success(site, jobs):
    before = datetime.now(UTC)
    result = site.enqueue(jobs.add, 1, b=2)
    assert (result.status, result.attempts, result.is_finished) == (READY, 0, False)
    assert len(result.id) < 64
    same = site.backend.get_result(result.id)
    assert same == result
    assert same.task == jobs.add.using(queue_name=site.queue)
    site.work()
    assert result.status == READY  # as it was
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, 3)
    assert (result.args, result.kwargs) == ([1], {"b": 2})
    assert (result.attempts, result.errors) == (1, [])
    times = [before, result.enqueued_at, result.started_at, result.finished_at, datetime.now(UTC)]
    assert times == sorted(times)
    assert result.last_attempted_at == result.started_at
    assert jobs.add.using(queue_name="other").get_result(result.id).return_value == 3
    with pytest.raises(exceptions.TaskResultMismatch):
        jobs.fail.get_result(result.id)


def test_a_failure(site, jobs):
    result = site.run(jobs.fail)
    assert (result.status, result.attempts) == (FAILED, 1)
    (error,) = result.errors
    assert error.exception_class_path == f"{jobs.__name__}.Outer.Unusual"
    assert error.traceback.endswith("Outer.Unusual: too much\n")
    assert "in fail\n" in error.traceback
    assert result.finished_at >= result.started_at
    with pytest.raises(ValueError, match="Task failed"):
        result.return_value  # noqa: B018


def test_retries_tell_of_each_attempt(site, jobs, tmp_path):
    result = site.run(jobs.fail_twice, str(tmp_path / "tries"))
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, "now", 3)
    assert [each.exception_class for each in result.errors] == [ValueError, ValueError]
    assert result.started_at < result.last_attempted_at <= result.finished_at


def test_between_two_attempts_it_is_ready(site, jobs, tmp_path):
    task = jobs.fail_twice.using(queue_name=site.queue, retry_delay=60)
    result = task.enqueue(str(tmp_path / "tries"))
    site.work()
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (READY, 1, 1)
    assert result.finished_at is None


def test_a_coroutine(site, jobs):
    result = site.run(jobs.add_on_loop, 1, 2)
    assert (result.return_value, result.attempts, result.task.priority) == (3, 1, 7)
    result = site.run(jobs.fail_once_on_loop)
    assert (result.return_value, result.attempts) == (2, 2)
    assert [each.exception_class for each in result.errors] == [LookupError]


def test_the_context(site, jobs):
    result = site.run(jobs.tell, 1, two=[2])
    assert result.return_value == {
        "id": result.id,
        "attempt": 1,
        "args": [1],
        "kwargs": {"two": [2]},
        "given": [[1], {"two": [2]}],
        "status": "RUNNING",
        "queue": site.queue,
    }
    assert site.run(jobs.tell_on_loop).return_value[1] == 1


@pytest.mark.parametrize("name", ["leave", "interrupt"])
def test_a_task_that_would_end_its_process(site, jobs, name):
    arguments = [3] if name == "leave" else []
    ended = site.enqueue(getattr(jobs, name), *arguments)
    after = site.enqueue(jobs.add, 1)
    site.work()
    ended.refresh()
    after.refresh()
    kind = SystemExit if name == "leave" else KeyboardInterrupt
    assert (ended.status, ended.errors[0].exception_class) == (FAILED, kind)
    assert after.status == SUCCESSFUL


def test_a_result_that_json_cannot_carry(site, jobs):
    result = site.run(jobs.no_json)
    assert (result.status, result.errors[0].exception_class) == (FAILED, TypeError)
    assert "Unsupported type" in result.errors[0].traceback
    assert "What the task returned cannot be kept" in result.errors[0].traceback
    result = site.run(jobs.large, 1 << 20)
    assert (result.status, result.errors[0].exception_class) == (FAILED, ValueError)


@pytest.mark.parametrize("name", ["too_long", "too_long_on_loop"])
def test_a_timeout(site, jobs, name, signals):
    result = site.run(getattr(jobs, name))
    assert (result.status, result.attempts) == (FAILED, 1)
    assert [each.exception_class for each in result.errors] == [TaskTimeout]
    assert signals[-1] == ("finished", "FAILED", result.id)


def test_canceled_before_it_ran(site, jobs):
    result = site.enqueue(jobs.add, 1)
    assert site.gator.cancel(result.id)
    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 0)
    assert [each.exception_class for each in result.errors] == [TaskCanceled]


def test_deferred(site, jobs):
    task = jobs.add.using(queue_name=site.queue, run_after=timedelta(hours=1))
    assert task.run_after > datetime.now(UTC) + timedelta(minutes=59)
    result = task.enqueue(1)
    site.work()
    result.refresh()
    assert (result.status, result.attempts, result.task) == (READY, 0, task)
    site.gator.run_now(result.id)
    site.work()
    result.refresh()
    assert result.return_value == 1


@pytest.mark.parametrize("zone", [UTC, None])
def test_deferred_until_the_last_datetime(zone, durable_site, jobs):
    """As a timestamp it is rounded up, to one that no datetime has."""
    from django.test import override_settings

    last = datetime.max.replace(tzinfo=zone)
    with override_settings(USE_TZ=zone is not None):
        result = jobs.add.using(queue_name=durable_site.queue, run_after=last).enqueue(1)
        result.refresh()
        found = durable_site.backend.get_result(result.id)
        assert (found.status, found.task.run_after) == (READY, last)


def test_never_started_in_time(site, jobs):
    result = jobs.add.using(queue_name=site.queue, expires=0.001).enqueue(1)
    let_pass(site.gator, 0.05)
    site.work()
    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 0)
    assert [each.exception_class for each in result.errors] == [TaskFailed]
    assert "Expired" in result.errors[0].traceback
    assert result.finished_at is not None


def test_it_asks_to_run_again_without_a_retry(site, jobs):
    result = site.run(jobs.ask_again)
    assert (result.status, result.errors[0].exception_class) == (FAILED, TaskFailed)
    result = jobs.ask_again.using(queue_name=site.queue, retries=2).enqueue()
    site.work()
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 3, 1)


def test_unknown_and_dropped(site, jobs):
    for unknown in ("123", 123, "", "x" * 500):
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            site.backend.get_result(unknown)
    result = site.enqueue(jobs.add, 1)
    site.gator.client.drop_all(site.queue)
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        result.refresh()


def test_options_of_one_call_are_in_the_task_of_the_result(site, jobs):
    task = jobs.add.using(queue_name=site.queue, retries=4, timeout=timedelta(seconds=9))
    result = site.backend.get_result(task.enqueue(1).id)
    assert result.task.options == {"retries": 4, "timeout": 9}


def test_without_time_zones(site, jobs):
    from django.test import override_settings

    with override_settings(USE_TZ=False):
        task = jobs.add.using(queue_name=site.queue, run_after=datetime(2001, 2, 3, 4, 5, 6, 789))
        result = task.enqueue(1)
        assert site.backend.get_result(result.id) == result
        site.work()
        result.refresh()
        assert (result.status, result.task.run_after) == (SUCCESSFUL, task.run_after)
        assert result.enqueued_at <= result.started_at <= result.finished_at <= datetime.now()
        assert result.enqueued_at.tzinfo is None


def test_what_is_known_of_a_task_that_waited_long_is_written_again(site, jobs, monkeypatch):
    monkeypatch.setattr(task_results, "SLACK", 0)
    result = jobs.add.using(queue_name=site.queue, timeout=7).enqueue(1)
    site.gator.store.delete_documents([f"django-task:{result.id}"])
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        jobs.add.get_result(result.id)
    site.work()
    found = jobs.add.get_result(result.id)
    assert (found.return_value, found.args, found.attempts) == (1, [1], 1)


def test_results_are_kept_as_long_as_settings_say(sqlite_dsn, jobs):
    with tasks_settings(DSN=sqlite_dsn, KEEP=0):
        from alligator.contrib.django.tasks_framework import framework

        backend = framework.task_backends["default"]
        result = jobs.add.enqueue(1)
        assert backend.supports_get_result is False
        assert backend.gator.store.documents([f"django-task:{result.id}"]) == [None]
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            result.refresh()
        assert backend.gator.on_queue("default").run_all() == 1


def test_signed_results(sqlite_dsn, jobs):
    keys = ["k" * 16]
    with tasks_settings(DSN=sqlite_dsn, SECRET_KEYS=keys):
        from alligator.contrib.django.tasks_framework import framework

        backend = framework.task_backends["default"]
        result, other = jobs.add.enqueue(1), jobs.add.enqueue(2)
        backend.gator.on_queue("default").run_all()
        result.refresh()
        assert result.return_value == 1
        store = backend.gator.store
        (text,) = store.documents([f"django-task:{other.id}"])
        store.put_document(f"django-task:{result.id}", text, 60)
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            result.refresh()
        store.put_document(f"django-task:{result.id}", text.partition("\n")[2], 60)
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            result.refresh()


@pytest.mark.parametrize(
    "changes",
    [
        {"enqueued": "now"},
        {"enqueued": 1e300},
        {"args": 3},
        {"kwargs": [1]},
        {"path": None},
        {"path": ".."},
        {"path": "x" * 9000},
        {"priority": "high"},
        {"run_after": []},
        {"options": 5},
        {"options": {"xyzzy": 1}},
        {"backend": "nowhere"},
    ],
    ids=str,
)
def test_a_damaged_document_is_no_result(site, jobs, changes):
    result = site.enqueue(jobs.add, 1)
    store, key = site.gator.store, f"django-task:{result.id}"
    (text,) = store.documents([key])
    store.put_document(key, json.dumps({**json.loads(text), **changes}), 60)
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        site.backend.get_result(result.id)
    for broken in ("", "{", "[]", "3"):
        store.put_document(key, broken, 60)
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            site.backend.get_result(result.id)


@pytest.mark.parametrize("text", ["", "{", "3", "[[1]]", '[["w", "x", null]]', '[["w", 1, [2]]]'])
def test_damaged_attempts_are_none(site, jobs, text):
    result = site.run(jobs.fail)
    site.gator.store.put_document(f"django-task-attempts:{result.id}", text, 60)
    result.refresh()
    assert (result.status, result.attempts, len(result.errors)) == (FAILED, 0, 1)
    assert "too much" in result.errors[0].traceback


@pytest.mark.parametrize("path", ["os.system", "tests.integration.django_tasks.jobs.plain"])
def test_a_forged_document_imports_nothing_else(sqlite_dsn, jobs, path):
    with tasks_settings(DSN=sqlite_dsn):
        from alligator.contrib.django.tasks_framework import framework

        result = jobs.add.enqueue(1)
        store = framework.task_backends["default"].gator.store
        (text,) = store.documents([f"django-task:{result.id}"])
        forged = text.replace(f"{jobs.__name__}.add", path)
        assert forged != text
        store.put_document(f"django-task:{result.id}", forged, 60)
        with pytest.raises(exceptions.TaskResultDoesNotExist):
            result.refresh()
