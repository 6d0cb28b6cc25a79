"""Test what enqueuing a task does, what it refuses, and what is told of it."""

import asyncio
import json
import threading
import time
from datetime import timedelta

import pytest

from alligator import Gator
from alligator.contrib.django import task_results
from alligator.contrib.django.tasks_framework import (
    NAME,
    InvalidTask,
    base,
    exceptions,
    framework,
)
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    MissingDriver,
    NotAllowed,
    UnsupportedOption,
)
from alligator.exceptions import InvalidTask as InvalidGatorTask
from tests.integration.django_tasks.conftest import Site, tasks_settings
from tests.support.helpers import eventually

READY, FAILED = base.TaskResultStatus.READY, base.TaskResultStatus.FAILED
SUCCESSFUL = base.TaskResultStatus.SUCCESSFUL


@pytest.fixture
def local(jobs, tmp_path):
    with tasks_settings(DSN=f"locmem://{tmp_path}"):
        yield Site(f"locmem://{tmp_path}")


def test_signals(site, jobs, signals):
    good, bad = site.enqueue(jobs.add, 1), site.enqueue(jobs.fail)
    assert signals == [("enqueued", "READY", good.id), ("enqueued", "READY", bad.id)]
    signals.clear()
    site.work()
    assert signals == [
        ("started", "RUNNING", good.id),
        ("finished", "SUCCESSFUL", good.id),
        ("started", "RUNNING", bad.id),
        ("finished", "FAILED", bad.id),
    ]


def test_signals_around_a_coroutine_that_is_retried(site, jobs, signals):
    result = site.enqueue(jobs.fail_once_on_loop)
    site.work()
    assert signals == [
        ("enqueued", "READY", result.id),
        ("started", "RUNNING", result.id),
        ("started", "RUNNING", result.id),
        ("finished", "SUCCESSFUL", result.id),
    ]


def test_a_failure_is_logged_by_the_framework_with_its_traceback(local, jobs, caplog):
    local.run(jobs.fail)
    (record,) = [each for each in caplog.records if each.name == NAME]
    assert record.exc_info[0] is jobs.Outer.Unusual


def test_priorities(site, jobs, tmp_path):
    path = str(tmp_path / "order")
    for priority in (0, -100, 100, 3):
        jobs.append.using(queue_name=site.queue, priority=priority).enqueue(path, priority)
    site.work()
    order = [json.loads(line) for line in (tmp_path / "order").read_text().splitlines()]
    assert order == [100, 3, 0, -100]


def test_the_queue_shows_the_name_of_the_task(local, jobs):
    local.enqueue(jobs.tell, 5, password="x")
    (row,) = local.gator.tasks("waiting")
    assert row.function == f"{jobs.__name__}.tell"
    assert (row.args, row.kwargs) == ("5", "password='***'")
    local.work()
    assert [each.function for each in local.gator.recent()] == [f"{jobs.__name__}.tell"]


def test_unique(site, jobs, signals):
    first, second = site.enqueue(jobs.once, 1), site.enqueue(jobs.once, number=1)
    other = site.enqueue(jobs.once, 2)
    assert first.id == second.id != other.id
    assert first == second
    assert site.gator.len() == 2
    assert len(signals) == 2
    site.work()
    assert site.enqueue(jobs.once, 1).id != first.id


def test_debounce_takes_the_arguments_of_the_last_call(site, jobs):
    task = jobs.add.using(queue_name=site.queue, unique="k", debounce=0.4)
    first, last = task.enqueue(1), task.enqueue(2)
    assert (first.id, last.args) == (last.id, [2])
    deadline = time.monotonic() + 30
    while not last.is_finished:
        assert time.monotonic() < deadline
        site.work()
        last.refresh()
    assert last.return_value == 2


def test_depends_on_a_result(site, jobs, tmp_path):
    path = str(tmp_path / "order")
    parent = jobs.append.using(queue_name=site.queue, run_after=timedelta(hours=1)).enqueue(path, 1)
    child = jobs.append.using(queue_name=site.queue, depends_on=parent).enqueue(path, 2)
    site.work()
    child.refresh()
    assert child.status == READY
    site.gator.run_now(parent.id)
    site.work()
    child.refresh()
    assert child.status == SUCCESSFUL
    assert (tmp_path / "order").read_text() == "1\n2\n"


def test_using_changes_options_and_keeps_the_others(local, jobs):
    task = jobs.fail_twice.using(timeout=timedelta(seconds=5), priority=3)
    assert (task.options, task.priority) == ({"retries": 2, "timeout": 5.0}, 3)
    assert task.using(retries=7, priority=0).options == {"retries": 7, "timeout": 5.0}
    assert task.using(priority=0).priority == 0
    assert jobs.fail_twice.options == {"retries": 2}
    assert hash(task) is not None
    assert task == jobs.fail_twice.using(timeout=5, priority=3)
    assert task != jobs.fail_twice


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"retires": 3}, TypeError, "Unknown option 'retires'. Did you mean 'retries'?"),
        ({"retries": -1}, InvalidTask, "retries=-1 is not a whole number"),
        ({"delay_by": 3}, TypeError, "takes no delay_by=: use run_after=timedelta"),
        ({"is_async": False}, TypeError, "takes no is_async=: the setting"),
        ({"task_id": "x"}, TypeError, "takes no task_id=: enqueue"),
        ({"retry_on": ValueError}, InvalidTask, "changes nothing without retries"),
        ({"priority": 101}, InvalidTask, "priority must be a whole number"),
    ],
)
def test_options_that_cannot_be(local, jobs, options, error, said):
    with pytest.raises(error, match=said.replace("(", "\\(")):
        jobs.add.using(**options)
    with pytest.raises(error):
        jobs.task(**options)(jobs.add.func)


def test_a_moment_that_is_none(local, jobs):
    with pytest.raises(InvalidTask, match="run_after is 5; it is a datetime, or a timedelta"):
        jobs.add.using(run_after=5)
    with pytest.raises(InvalidTask, match="from now on is later than any datetime; the last is"):
        jobs.add.using(run_after=timedelta.max)


def test_arguments_that_do_not_fit(local, jobs):
    with pytest.raises(InvalidGatorTask, match="cannot be called with these arguments"):
        local.enqueue(jobs.add, 1, 2, 3)
    with pytest.raises(TypeError, match="Unsupported type"):
        local.enqueue(jobs.add, object())
    assert local.gator.len() == 0


def test_a_name_that_leads_to_no_task_or_to_another(local, jobs):
    nameless = jobs.task(jobs.plain)
    with pytest.raises(InvalidTask, match=r"plain cannot be imported as a task"):
        nameless.enqueue("x")
    vars(jobs)["plain"], kept = jobs.fail, jobs.plain
    try:
        with pytest.raises(InvalidTask, match="leads to another task"):
            nameless.enqueue("x")
    finally:
        vars(jobs)["plain"] = kept


@pytest.mark.parametrize(
    "name", ["plain", "Outer", "os.remove", "json.dumps", "task", "nothing", "Outer.Unusual"]
)
def test_a_message_that_names_no_task_is_refused_and_keeps_its_bytes(site, jobs, tmp_path, name):
    """The message comes from someone who may write to the queue."""
    site.enqueue(jobs.append, str(tmp_path / "file"), "x")
    (data,) = [site.gator.client.peek(site.queue, row.task_id) for row in waiting(site)]
    site.gator.client.drop_all(site.queue)
    module, _, attribute = f"{jobs.__name__}.{name}".rpartition(".")
    if "." in name and name[0].islower():
        module, _, attribute = name.rpartition(".")
    elif name == "Outer.Unusual":
        module, attribute = jobs.__name__, name
    told = json.loads(data)
    told |= {"module": module, "callable": attribute, "retries": 3}
    forged = json.dumps(told)
    site.gator.client.push(site.queue, told["task_id"], forged)
    site.work()
    assert not (tmp_path / "file").exists()
    if name == "nothing":  # a deploy may be under way
        assert not site.dead()
        assert "has no" in site.gator.explain(told["task_id"]) or site.gator.len() == 1
        return
    (letter,) = site.dead()
    assert letter.data == forged
    assert letter.error.startswith(("SuspiciousOperation: ", "NotAllowed: "))


def waiting(site):
    return site.gator.tasks("waiting")


def test_a_message_for_a_backend_that_there_is_not_waits_for_its_settings(local, jobs):
    result = local.enqueue(jobs.add, 1)
    data = local.gator.client.peek(local.queue, result.id)
    local.gator.client.drop_all(local.queue)
    local.gator.client.push(local.queue, result.id, data.replace("django:default", "django:later"))
    local.work()
    assert local.gator.stats()["delayed"] == 1
    assert not local.dead()


def test_a_message_for_another_adapter_is_a_dead_letter(local, jobs):
    result = local.enqueue(jobs.add, 1)
    data = local.gator.client.peek(local.queue, result.id)
    local.gator.client.drop_all(local.queue)
    local.gator.client.push(local.queue, result.id, data.replace("django:", "flask:"))
    local.work()
    assert "There is no adapter 'flask'; known: django." in local.dead()[0].error


def test_policy_holds_for_tasks(sqlite_dsn, jobs):
    with tasks_settings(DSN=sqlite_dsn, ALLOWED=["myapp.*"]), pytest.raises(NotAllowed):
        jobs.add.enqueue(1)
    with tasks_settings(DSN=sqlite_dsn, ALLOWED=[f"{jobs.__name__}.add"]):
        jobs.add.enqueue(1)


def test_revive_runs_it_again(site, jobs, tmp_path, monkeypatch):
    monkeypatch.setattr(task_results, "QUICK", 0)
    path = tmp_path / "tries"
    result = jobs.fail_twice.using(queue_name=site.queue, retries=1).enqueue(str(path))
    site.work()
    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 2)
    assert site.gator.revive(result.id) == 1
    result.refresh()
    assert result.status == READY
    site.work()
    result.refresh()
    assert (result.status, result.return_value) == (SUCCESSFUL, "now")
    assert (result.attempts, len(result.errors)) == (3, 2)


@pytest.mark.parametrize("name", ["run_until_stopped", "run_on_loop_until_stopped"])
def test_canceled_while_it_runs(local, jobs, tmp_path, signals, name):
    result = local.enqueue(getattr(jobs, name), str(tmp_path / "began"))
    thread = threading.Thread(target=local.work)
    thread.start()
    eventually((tmp_path / "began").exists, "the start of the task")
    local.gator.cancel(result.id, running=True)
    thread.join(60)
    result.refresh()
    assert (result.status, result.attempts) == (FAILED, 1)
    assert [each.exception_class_path for each in result.errors] == [
        "alligator.exceptions.TaskCanceled"
    ]
    assert signals[-1] == ("finished", "FAILED", result.id)


# -- After the commit. ------------------------------------------------------------------------


def test_on_commit(local, jobs, signals):
    from django.db import transaction

    task = jobs.add.using(queue_name=local.queue, on_commit=True)
    with transaction.atomic():
        result = task.enqueue(1)
        at_once = local.enqueue(jobs.add, 2)
        assert local.gator.len() == 1
        assert signals == [("enqueued", "READY", at_once.id)]
    assert local.gator.len() == 2
    assert signals[1:] == [("enqueued", "READY", result.id)]
    local.work()
    result.refresh()
    assert result.return_value == 1


def test_on_commit_of_a_transaction_that_is_rolled_back(local, jobs, signals):
    from django.db import transaction

    with transaction.atomic():
        result = jobs.add.using(queue_name=local.queue, on_commit=True).enqueue(1)
        transaction.set_rollback(True)
    assert (local.gator.len(), signals) == (0, [])
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        result.refresh()


def test_on_commit_in_a_coroutine_sees_the_transaction_around_it(local, jobs):
    from asgiref.sync import async_to_sync
    from django.db import transaction

    with transaction.atomic():
        task = jobs.add.using(queue_name=local.queue, on_commit=True)
        async_to_sync(task.aenqueue)(1)
        assert local.gator.len() == 0
    assert local.gator.len() == 1


def test_on_commit_for_all_tasks_or_for_a_database_that_there_is_not(jobs, tmp_path):
    from django.db import transaction

    with tasks_settings(DSN=f"locmem://{tmp_path}", ON_COMMIT=True):
        gator = framework.task_backends["default"].gator.on_queue("default")
        with transaction.atomic():
            jobs.add.enqueue(1)
            assert gator.len() == 0
        assert gator.len() == 1
        with pytest.raises(InvalidTask, match="DATABASES has no 'defualt'. Did you mean 'default'"):
            jobs.add.using(on_commit="defualt")


# -- Coroutines that enqueue. -----------------------------------------------------------------


def test_many_coroutines_enqueue_and_ask_at_once(site, jobs, signals):
    async def enqueue_all():
        task = jobs.add.using(queue_name=site.queue)
        return await asyncio.gather(*[task.aenqueue(number) for number in range(50)])

    results = asyncio.run(enqueue_all())
    assert len(signals) == len({each.id for each in results}) == 50
    site.work()

    async def ask_all():
        await asyncio.gather(*[each.arefresh() for each in results])

    asyncio.run(ask_all())
    assert [each.return_value for each in results] == list(range(50))


def test_one_slow_push_holds_up_neither_the_loop_nor_the_others(local, jobs, monkeypatch):
    """With the method of the base class, all pushes of a request share one thread."""
    gator = local.backend.gator
    push, at_once = gator.push, []
    barrier = threading.Barrier(5, timeout=20)

    def slow(*args, **kwargs):
        barrier.wait()  # until five are here
        return push(*args, **kwargs)

    monkeypatch.setattr(gator, "push", slow)

    async def enqueue_all():
        pushes = [asyncio.create_task(jobs.add.aenqueue(number)) for number in range(5)]
        at_once.append(await asyncio.sleep(0, "the loop goes on"))
        return await asyncio.gather(*pushes)

    assert len(asyncio.run(enqueue_all())) == 5
    assert at_once


def test_an_unreachable_server_is_an_error_of_each_call(jobs):
    with tasks_settings(DSN="redis://127.0.0.1:1/0"):
        with pytest.raises(ConnectionLost):
            jobs.add.enqueue(1)
        with pytest.raises(ConnectionLost):
            asyncio.run(jobs.add.aenqueue(1))
        with pytest.raises(ConnectionLost):
            asyncio.run(jobs.add.aget_result("x"))


def test_a_blocking_call_in_a_coroutine_is_warned_of(local, jobs):
    async def enqueue():
        jobs.add.enqueue(1)

    with pytest.warns(RuntimeWarning, match=r"write 'await task\.aenqueue\(…\)'"):
        asyncio.run(enqueue())


# -- IMMEDIATE. -------------------------------------------------------------------------------


@pytest.fixture
def immediate(jobs):
    with tasks_settings(IMMEDIATE=True):
        backend = framework.task_backends["default"]
        backend.clear()
        yield backend


def test_immediate_runs_at_once_with_retries(immediate, jobs, tmp_path, signals):
    result = jobs.fail_twice.enqueue(str(tmp_path / "tries"))
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, "now", 3)
    assert [each.exception_class for each in result.errors] == [ValueError, ValueError]
    names = [name for name, _, _ in signals]
    assert names == ["enqueued", "started", "started", "started", "finished"]
    assert jobs.fail_twice.get_result(result.id) is result
    assert immediate.results == [result]


def test_immediate_failures_and_coroutines(immediate, jobs):
    assert jobs.fail.enqueue().errors[0].exception_class_path.endswith("Outer.Unusual")
    assert jobs.no_json.enqueue().errors[0].exception_class is TypeError
    assert jobs.fail_once_on_loop.enqueue().return_value == 2
    assert asyncio.run(jobs.add_on_loop.aenqueue(1, 2)).return_value == 3
    later = jobs.add.using(run_after=timedelta(days=1), unique=True).enqueue(1)
    assert later.return_value == 1
    with pytest.raises(KeyboardInterrupt):
        jobs.interrupt.enqueue()


def test_immediate_connects_to_nothing(jobs):
    with tasks_settings(IMMEDIATE=True, DSN="redis://127.0.0.1:1/0", OPTIONS={"retries": 1}):
        assert jobs.fail.enqueue().attempts == 2


def test_results_and_clear_are_for_tests_alone(sqlite_dsn, jobs, local):
    local.enqueue(jobs.add, 1)
    assert [each.args for each in local.backend.results] == [[1]]
    local.backend.clear()
    assert local.backend.results == []
    assert local.gator.len() == 0
    with tasks_settings(DSN=sqlite_dsn), pytest.raises(NotImplementedError, match="for tests"):
        framework.task_backends["default"].clear()


# -- Other queues. ----------------------------------------------------------------------------


def test_beanstalk_with_a_store(beanstalk_dsn, redis_dsn, jobs):
    with tasks_settings(DSN=beanstalk_dsn, STORE=redis_dsn):
        site = Site(beanstalk_dsn)
        assert site.backend.check() == []
        result = site.run(jobs.fail_once_on_loop)
        assert (result.return_value, result.attempts) == (2, 2)


def test_beanstalk_without_a_store_keeps_no_results(beanstalk_dsn, jobs):
    with tasks_settings(DSN=beanstalk_dsn):
        site = Site(beanstalk_dsn)
        (message,) = site.backend.check()
        assert message.id == "alligator.tasks.W002"
        result = site.enqueue(jobs.add, 1)
        with pytest.raises(NotImplementedError, match="keeps no results"):
            result.refresh()
        site.work()
        assert site.gator.len() == 0
    with tasks_settings(DSN=beanstalk_dsn, KEEP=0):
        assert framework.task_backends["default"].check() == []


def test_what_sqs_cannot_do_is_refused_at_the_task(sqs_dsn, jobs):
    with tasks_settings(DSN=sqs_dsn):
        backend = framework.task_backends["default"]
        with pytest.raises(InvalidTask, match="does not support setting priority"):
            jobs.add.using(priority=3)
        assert (backend.supports_priority, backend.supports_defer) == (False, True)
        with pytest.raises(UnsupportedOption, match="unique"):
            jobs.once.enqueue(1)


# -- Settings. --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"IMEDIATE": True}, "unknown key 'IMEDIATE'. Did you mean 'IMMEDIATE'?"),
        ({"ALIAS": "mial"}, "ALLIGATOR has no alias 'mial'. Did you mean 'mail'?"),
        ({"ALIAS": "mail", "DSN": "locmem://"}, "has both 'ALIAS' and 'DSN'; give one."),
        ({"DSN": "rediss"}, "TASKS['default']['OPTIONS']['DSN'] is 'rediss', and no DSN"),
        ({"DSN": "redsi://h:1/0"}, "redsi"),
        ({"KEEP": "x"}, "['KEEP'] is 'x', and neither a number of seconds nor a timedelta"),
        ({"IMMEDIATE": 1}, "neither True nor False"),
        ({"QUEUE": "x"}, "It belongs into the setting ALLIGATOR, or beside a 'DSN' here."),
        ({"DSN": "locmem://", "OPTIONS": {"retires": 1}}, "Did you mean 'retries'?"),
    ],
)
def test_check_tells_what_is_wrong(options, said, jobs):
    from django.test import override_settings

    with override_settings(ALLIGATOR={"mail": {"DSN": "locmem://mail"}}), tasks_settings(**options):
        (message,) = framework.task_backends["default"].check()
        assert said in message.msg
        with pytest.raises((AlligatorException, TypeError)):
            jobs.add.enqueue(1)


def test_without_the_setting_alligator(jobs):
    with tasks_settings():
        (message,) = framework.task_backends["default"].check()
        assert "The setting ALLIGATOR is missing" in message.msg


def test_an_alias_uses_the_gator_of_the_project(jobs, tmp_path):
    from django.test import override_settings

    from alligator.contrib.django import gators
    from alligator.contrib.django.tasks_backend import queue_names

    there = {"DSN": f"locmem://{tmp_path}", "OPTIONS": {"retries": 2}}
    with (
        override_settings(ALLIGATOR={"mail": there}),
        tasks_settings(queues=["low", "high"], ALIAS="mail"),
    ):
        backend = framework.task_backends["default"]
        assert backend.gator is gators["mail"]
        assert backend.check() == []
        assert queue_names("mail") == ["high", "low"]
        assert queue_names("other") == []
        result = jobs.fail.using(queue_name="low").enqueue()
        gators["mail"].on_queue("low").run_all()
        result.refresh()
        assert (result.status, result.attempts) == (FAILED, 3)


def test_one_gator_serves_all_threads(sqlite_dsn, jobs):
    found = []
    with tasks_settings(DSN=sqlite_dsn):
        backend = framework.task_backends["default"]

        def look():
            mine = framework.task_backends["default"]
            found.append((mine is backend, mine.gator))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert found == [(False, backend.gator)]
        assert isinstance(backend.gator, Gator)


def test_immediate_in_production_is_warned_of(jobs, monkeypatch):
    from alligator.contrib.django import tasks_backend

    with tasks_settings(IMMEDIATE=True):
        monkeypatch.setattr(tasks_backend, "_is_testing", lambda: False)
        (message,) = framework.task_backends["default"].check()
        assert message.id == "alligator.tasks.W001"
        assert "leave it out in production" in message.hint


def test_missing_results_of_immediate(immediate, jobs):
    with pytest.raises(exceptions.TaskResultDoesNotExist):
        immediate.get_result("x")


def test_without_the_framework_the_error_says_what_to_install(jobs, monkeypatch):
    from alligator.contrib.django import tasks_framework

    monkeypatch.setattr(tasks_framework, "find_spec", lambda name: None)
    with pytest.raises(MissingDriver, match="pip install django-tasks"):
        tasks_framework._name()


def test_the_path_of_the_backend(jobs):
    import alligator.contrib.django
    from alligator.contrib.django.tasks_backend import AlligatorBackend

    assert alligator.contrib.django.AlligatorBackend is AlligatorBackend
    with pytest.raises(AttributeError, match="has no attribute 'AligatorBackend'"):
        alligator.contrib.django.AligatorBackend  # noqa: B018


def test_a_dead_letter_can_be_shown_and_moved(local, jobs, tmp_path):
    from alligator.cli.show_dead_letter import as_test

    local.run(jobs.fail)
    (letter,) = local.dead()
    assert f"{jobs.__name__}" in as_test(local.gator, letter)
    waiting = local.enqueue(jobs.add, 1)
    info = local.gator.task_info(waiting.id)
    assert info.row.function == f"{jobs.__name__}.add"
