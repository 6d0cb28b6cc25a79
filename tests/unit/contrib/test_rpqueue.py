"""Test rpqueue's documentation, unchanged, on any Gator, and the errors for missing names."""

import asyncio
import importlib
import inspect
import sys
import threading
import time
import uuid
from datetime import timedelta

import pytest

from alligator import Gator, current_task
from alligator.contrib import rpqueue, rpqueue_functions
from alligator.exceptions import (
    InvalidDSN,
    InvalidTask,
    NotAllowed,
    ResultTimeout,
    TaskCanceled,
    TaskFailed,
    UnknownModuleError,
    UnsupportedOption,
)
from alligator.testing import FakeClock

#: The document's examples, in today's Python: ``print`` has brackets, bodies are not comments.
DOCUMENT = """
from datetime import timedelta
from rpqueue import task, periodic_task, cron_task

ran = []


@task
def echo_to_stdout(message):
    print(message)


@periodic_task(25, queue="low")
def function1():
    # Will be executed every 25 seconds from within the 'low' queue.
    ran.append("function1")


@task(attempts=3)
def fail_until_zero(value, **kwargs):
    ran.append(value)
    try:
        if value != 0:
            value -= 1
            raise Exception
    except:
        fail_until_zero.retry(value, **kwargs)
    else:
        print("succeeded")


@task
def my_task(args):
    ran.append(args)


@task(save_results=30)
def task_with_results():
    return 5


@cron_task('0 5 tue * *')
def function2():
    # Will be executed every Tuesday at 5AM.
    ran.append("function2")
"""

#: What else is looked at.
MORE = """
import asyncio, sys, threading, time
from rpqueue import task, periodic_task
from alligator import current_task

ran, go, begun = [], threading.Event(), threading.Event()


@task(attempts=3)
def raises():
    ran.append(current_task().retries)
    raise ValueError("not retried by itself")


@task(attempts=3, save_results=60)
def asks_first(then):
    ran.append(current_task().retries)
    asked = asks_first.retry(then)
    ran.append(asked)
    if then == "raise":
        raise ValueError("raised after it had asked")
    if then == "exit":
        sys.exit(3)
    return "went on"


@task(attempts=2, retry_delay=60)
def later(*delay):
    ran.append("later")
    later.retry(**({"delay": delay[0]} if delay else {}))


@task(attempts=2)
async def in_a_coroutine(value):
    await asyncio.sleep(0)
    ran.append(value)
    in_a_coroutine.retry(value + 1)


@task(attempts=3)
def calls_itself(value):
    ran.append(value)
    if value == 2:
        try:
            calls_itself(-1)
        except ValueError:
            calls_itself.retry(1)
    elif value < 0:
        raise ValueError


@task(attempts=3)
def asks_for_another():
    ran.append(raises.retry())


@task(attempts=2)
def asks_for_what_cannot_be(*args):
    try:
        asks_for_what_cannot_be.retry(*args, no_such=1)
    except Exception as err:
        ran.append(type(err).__name__)


@task(save_results=60, queue="slow")
def hold():
    begun.set()
    assert go.wait(60)
    return "held"


@task(queue="low")
def low():
    ran.append("low")


@task(queue="high")
def high():
    ran.append("high")


@task(save_results=60)
def divide(one, two=0):
    return one / two


@task(attempts=3, timeout=0.3)
def too_slow():
    ran.append("too_slow")
    too_slow.retry()
    while True:
        time.sleep(0.005)


@task(attempts=3)
def of_core():
    ran.append("of_core")
    current_task().retry()
"""


@pytest.fixture(autouse=True)
def a_process_of_its_own(monkeypatch):
    """As if nothing had been declared, and no connection been set."""
    monkeypatch.setattr(rpqueue_functions, "_gator", None)
    declared, priorities = dict(rpqueue_functions.declared), dict(rpqueue._priorities)
    rpqueue_functions.declared.clear()
    rpqueue._priorities.clear()
    yield
    for now, before in ((rpqueue_functions.declared, declared), (rpqueue._priorities, priorities)):
        now.clear()
        now.update(before)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Import a module of that text, with only the import changed."""
    monkeypatch.syspath_prepend(tmp_path)
    loaded = []

    def importing(text):
        name = f"usertasks_{uuid.uuid4().hex}"
        changed = text.replace("from rpqueue import", "from alligator.contrib.rpqueue import")
        (tmp_path / f"{name}.py").write_text(changed)
        importlib.invalidate_caches()
        loaded.append(name)
        return importlib.import_module(name)

    yield importing
    for name in loaded:
        del sys.modules[name]


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=["locmem", "sqlite", "redis"])
def gator(request):
    dsn = request.getfixturevalue(f"{request.param}_dsn")
    gator = Gator(dsn, f"rpq-{uuid.uuid4().hex[:8]}")
    yield gator
    for name in (gator.queue_name, "low", "high", "slow"):
        gator.client.drop_all(name)
    gator.close()


@pytest.fixture
def fake():
    """A Gator in memory, whose clock is moved by hand."""
    return rpqueue.use(Gator(f"locmem://{uuid.uuid4().hex}", clock=FakeClock()))


def work(**options):
    rpqueue.execute_tasks(burst=True, log_level="CRITICAL", **options)


# -- The document. ----------------------------------------------------------------------------


def test_echo(gator, load, capsys):
    usertasks = load(DOCUMENT)
    rpqueue.use(gator)
    usertasks.echo_to_stdout.execute("at once")
    delayed = usertasks.echo_to_stdout.execute("later", delay=3600)
    assert delayed.status == "early"
    assert delayed.args == ("later",)
    work()
    assert capsys.readouterr().out == "at once\n"
    assert delayed.cancel() is True
    assert delayed.status == "canceled"
    assert delayed.wait(0) is False


def test_fail_until_zero(gator, load, capsys):
    usertasks = load(DOCUMENT)
    rpqueue.use(gator)
    tried = usertasks.fail_until_zero.execute(2)
    work()
    assert usertasks.ran == [2, 1, 0], "attempts=3 runs three times"
    assert capsys.readouterr().out == "succeeded\n"
    assert tried.status == "done"
    del usertasks.ran[:]
    tried = usertasks.fail_until_zero.execute(3)
    work()
    assert usertasks.ran == [3, 2, 1], "and the retry returns without retrying"
    assert capsys.readouterr().out == ""
    assert tried.status == "done"
    assert gator.dead() == []


def test_waiting_for_execution(gator, load):
    usertasks = load(DOCUMENT)
    rpqueue.use(gator)
    executing_task = usertasks.my_task.execute("too late")
    if executing_task.wait(0.05):
        raise AssertionError("no worker is there")
    assert executing_task.cancel() is True
    executing_task = usertasks.my_task.execute("in time")
    worker = threading.Thread(target=work)  # not the main thread
    worker.start()
    assert executing_task.wait(20) is True
    worker.join(60)
    assert not worker.is_alive()
    assert usertasks.ran == ["in time"]
    assert executing_task.wait(0) is True
    assert executing_task.cancel() is False


def test_storing_results(gator, load, capsys):
    usertasks = load(DOCUMENT)
    rpqueue.use(gator)
    etask = usertasks.task_with_results.execute()
    assert etask.result is None, "it has not begun"
    worker = threading.Thread(target=work)
    worker.start()
    if etask.wait(20):
        print(etask.result)
    worker.join(60)
    assert capsys.readouterr().out == "5\n"
    assert etask.status == "done"
    by_id = rpqueue.EnqueuedTask("task_with_results", etask.taskid)
    assert (by_id.status, by_id.result, by_id.wait(0)) == ("done", 5, True)


@pytest.mark.parametrize("first", ["declared", "connected"])
def test_schedules(load, first, fake, monkeypatch):
    if first == "declared":
        monkeypatch.setattr(rpqueue_functions, "_gator", None)
    usertasks = load(DOCUMENT)
    rpqueue.use(fake)
    fake.run_until("+250s", rpqueue.known_queues())
    assert usertasks.ran == ["function1"] * 10
    ((tick, schedule),) = fake.schedules.coming(1, ["all"])
    when = time.gmtime(tick)
    assert (when.tm_wday, when.tm_hour, when.tm_min) == (1, 5, 0), "Tuesday at five"
    assert schedule.func == f"{usertasks.__name__}:function2"


def test_a_tuesday_comes_once_a_week(fake, load):
    usertasks = load(DOCUMENT.replace("(25, ", "(timedelta(days=7), never_skip=True, "))
    fake.clock.advance(2 * 7 * 86400)
    fake.run_until("+2w", rpqueue.known_queues())
    assert sorted(usertasks.ran) == ["function1"] * 2 + ["function2"] * 2
    assert [each.catch_up for each in fake.schedules] == [True, False]


def test_the_worker_of_the_document_queues_schedules(gator, load):
    usertasks = load(DOCUMENT.replace("(25, ", "(0.05, "))
    rpqueue.use(gator)
    rpqueue.execute_tasks(max_tasks=3, log_level="CRITICAL")
    assert usertasks.ran == ["function1"] * 3


def test_getting_started(redis_dsn, load):
    host, _, port = redis_dsn.removeprefix("redis://").partition("/")[0].partition(":")
    usertasks = load(DOCUMENT)
    gator = rpqueue.set_redis_connection_settings(host, int(port), 3)
    assert gator.queue_name == "default"
    etask = usertasks.task_with_results.execute()
    rpqueue.execute_tasks(max_tasks=1, log_level="CRITICAL")
    assert etask.result == 5
    gator.close()


@pytest.mark.parametrize("backend", ["beanstalk", "sqs"])
def test_where_results_are_kept_elsewhere(request, backend, load):
    dsn = request.getfixturevalue(f"{backend}_dsn")
    usertasks = load(DOCUMENT[: DOCUMENT.index("@cron_task")])
    name = f"rpq-{uuid.uuid4().hex[:8]}"
    gator = Gator(dsn, name, store=f"locmem://{name}")
    if backend == "sqs":
        for queue in (name, f"{name}-dead", "low", "low-dead"):
            gator.client.conn.create_queue(QueueName=queue)
    rpqueue.use(gator)
    etask = usertasks.task_with_results.execute(taskid=f"my-own-{name}")
    usertasks.fail_until_zero.execute(2)
    rpqueue.execute_tasks(max_tasks=2, queues=[name], log_level="CRITICAL")
    assert usertasks.ran == [2, 1, 0]
    assert (etask.taskid, etask.wait(10), etask.result) == (f"my-own-{name}", True, 5)
    gator.close()


# -- Attempts. --------------------------------------------------------------------------------


def test_an_exception_is_not_retried_by_itself(fake, load):
    tasks = load(MORE)
    failed = tasks.raises.execute()
    work()
    assert tasks.ran == [2], "as the document says"
    assert failed.status == "failed"
    assert [each.error for each in fake.dead()] == ["ValueError: not retried by itself"]
    assert fake.revive() == 1
    work()
    assert tasks.ran == [2, 2], "revived, it has all its attempts"


@pytest.mark.parametrize("then", ["return", "raise"])
def test_retry_returns_and_the_task_runs_again_however_it_ends(fake, load, then):
    tasks = load(MORE)
    asked = tasks.asks_first.execute(then)
    work()
    assert tasks.ran == [2, True, 1, True, 0, False]
    if then == "return":
        assert asked.result == "went on"
    else:
        with pytest.raises(TaskFailed, match="raised after it had asked"):
            _ = asked.result


def test_who_leaves_does_not_come_back(fake, load):
    tasks = load(MORE)
    asked = tasks.asks_first.execute("exit")
    work()
    assert tasks.ran == [2, True]
    assert asked.status == "failed"


def test_a_timeout_is_not_retried(fake, load):
    tasks = load(MORE)
    tasks.too_slow.execute()
    work()
    assert tasks.ran == ["too_slow"]
    assert fake.dead()[0].error.startswith("TaskTimeout")


def test_retry_waits_as_long_as_it_was_told(fake, load):
    tasks = load(MORE)
    for delays, seconds in (((), 60), ((5,), 5), ((0,), 0)):
        retried = tasks.later.execute(*delays)
        work()
        if seconds:
            assert retried.status == "retrying"
            fake.clock.advance(seconds - 1)
            work()
            assert tasks.ran == ["later"]
            fake.clock.advance(1)
            work()
        assert tasks.ran == ["later"] * 2
        del tasks.ran[:]


def test_coroutines(fake, load):
    tasks = load(MORE)
    tasks.in_a_coroutine.execute(1)
    work(threads_per_process=2)
    assert tasks.ran == [1, 2]
    assert inspect.iscoroutinefunction(tasks.in_a_coroutine)
    asyncio.run(tasks.in_a_coroutine(7))
    assert tasks.ran == [1, 2, 7]


def test_a_plain_call_inside_the_task_takes_no_attempts(fake, load):
    tasks = load(MORE)
    tasks.calls_itself.execute(2)
    work()
    assert tasks.ran == [2, -1, 1]
    del tasks.ran[:]
    tasks.asks_for_another.execute()
    work()
    assert tasks.ran == [False], "it is another that runs"


def test_a_plain_call(load, capsys):
    usertasks = load(DOCUMENT)
    usertasks.echo_to_stdout("here and now")
    usertasks.fail_until_zero(1)
    assert capsys.readouterr().out == "here and now\n"
    assert usertasks.ran == [1], "a plain call is the only attempt"
    assert usertasks.echo_to_stdout.__name__ == "echo_to_stdout"
    assert str(inspect.signature(usertasks.echo_to_stdout)) == "(message)"


def test_what_cannot_be_asked_for(fake, load):
    tasks = load(MORE)
    tasks.asks_for_what_cannot_be.execute()
    tasks.of_core.execute()
    work()
    assert tasks.ran[0] == "InvalidTask"
    assert tasks.ran[1:] == ["of_core"] * 3, "current_task().retry() counts the same attempts"


# -- What execute returns. --------------------------------------------------------------------


def test_an_unknown_id_is_not_done(gator):
    rpqueue.use(gator)
    unknown = rpqueue.EnqueuedTask("usertasks1.echo", "never-heard-of", "low")
    assert (unknown.status, unknown.queue, unknown.args) == ("unknown", "low", ())
    assert unknown.wait(0.05) is False
    assert unknown.cancel() is False
    with pytest.raises(ResultTimeout, match="Nothing is known"):
        _ = unknown.result


def test_the_result_of_one_that_runs_is_waited_for(gator, load):
    tasks = load(MORE)
    rpqueue.use(gator)
    held = tasks.hold.execute(taskid="mine")
    assert (held.taskid, held.queue, held.status) == ("mine", "slow", "waiting")
    worker = threading.Thread(target=work)
    worker.start()
    assert tasks.begun.wait(20)
    assert held.wait(20) is True
    assert rpqueue.EnqueuedTask("hold", "mine", "slow").status == "started"
    threading.Timer(0.1, tasks.go.set).start()
    assert held.result == "held"
    worker.join(60)
    assert "taskid=mine" in repr(held)


def test_results_that_are_none(fake, load):
    tasks = load(MORE)
    failed, canceled, unsaved = (
        tasks.divide.execute(1),
        tasks.divide.execute(2),
        tasks.low.execute(),
    )
    assert canceled.cancel()
    work()
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        _ = failed.result
    with pytest.raises(TaskCanceled):
        _ = canceled.result
    with pytest.raises(UnsupportedOption, match="save_results"):
        _ = unsaved.result
    assert (failed.wait(0), failed.status, unsaved.status) == (True, "failed", "done")


# -- Queues, and tasks by name. ---------------------------------------------------------------


def test_priorities_between_queues(gator, load):
    tasks = load(MORE)
    rpqueue.use(gator)
    own = gator.queue_name
    assert rpqueue.known_queues() == sorted([own, "low", "high", "slow"])
    rpqueue.set_priority("low", 2)
    rpqueue.set_priority(b"high", 1)
    assert rpqueue.known_queues() == ["high", "low", *sorted([own, "slow"])]
    tasks.low.execute()
    tasks.high.execute()
    tasks.low.execute()
    work()
    assert tasks.ran == ["high", "low", "low"]
    tasks.low.execute()
    tasks.high.execute()
    work(queues="high")
    assert tasks.ran[3:] == ["high"]


def test_without_tasks_it_is_the_queue_of_the_gator(fake):
    assert rpqueue.known_queues() == ["all"]


def test_call_task_by_name(gator, load):
    rpqueue.use(gator)
    tasks = load(MORE)
    name = tasks.__name__
    called = rpqueue.call_task(f"{name}.divide", None, 6, two=3)
    later = rpqueue.call_task(f"{name}.low", "another", delay=60, taskid=f"mine-{name}")
    assert (later.queue, later.status, later.taskid) == ("low", "early", f"mine-{name}")
    rpqueue_functions.declared.clear()  # as in a process that does not have its code
    unseen = rpqueue.call_task(f"{name}.high", "high", delay=0)
    assert unseen.queue == "high"
    rpqueue.execute_tasks([gator.queue_name, "high"], burst=True, log_level="CRITICAL")
    assert called.result == 2
    assert tasks.ran == ["high"]
    assert unseen.status == "done"
    with pytest.raises(InvalidTask, match=r"package\.module\.function"):
        rpqueue.call_task("no name")
    with pytest.raises(NotAllowed):
        rpqueue.call_task("os.system", None, "true")


def test_a_missing_function_is_kept(fake, load):
    name = load(MORE).__name__
    missing = rpqueue.call_task(f"{name}.not_deployed_yet")
    work()
    assert missing.status in ("early", "retrying"), "a deploy may be under way"
    fake.run_until("+1d")
    assert missing.status == "failed"
    (letter,) = fake.dead()
    assert "not_deployed_yet" in letter.error
    rpqueue.call_task(f"{name}.comes_later")
    work()
    vars(sys.modules[name])["comes_later"] = sys.modules[name].low
    fake.run_until("+1d")
    assert sys.modules[name].ran == ["low"]


def test_a_list_of_what_is_allowed_holds(load):
    tasks = load(MORE)
    name = f"{tasks.__name__}.low"
    rpqueue.use(Gator(f"locmem://{uuid.uuid4().hex}", "low", allowed=[name]))
    tasks.low.execute()
    with pytest.raises(NotAllowed):
        tasks.high.execute()
    work()
    assert tasks.ran == ["low"]


def test_flush_tasks(gator, load):
    tasks = load(MORE)
    rpqueue.use(gator)
    assert rpqueue.flush_tasks(timeout=0) is True
    tasks.low.execute(delay=3600)
    tasks.hold.execute()
    assert rpqueue.flush_tasks(timeout=0.05) is False
    worker = threading.Thread(target=work)
    worker.start()
    assert rpqueue.flush_tasks(timeout=20) is True
    assert tasks.begun.wait(20)
    assert rpqueue.flush_tasks(complete=True, timeout=0.05) is False
    tasks.go.set()
    assert rpqueue.flush_tasks(complete=True, timeout=20) is True
    worker.join(60)


def test_execute_tasks_imports_a_module(fake, load):
    name = load(MORE).__name__
    rpqueue.execute_tasks(module=name, burst=True, log_level="CRITICAL", wait_per_thread=2)
    with pytest.raises(UnknownModuleError):
        rpqueue.execute_tasks(module="no_such_module_here")
    with pytest.raises(UnsupportedOption, match="--processes"):
        rpqueue.execute_tasks(processes=2)
    with pytest.raises(InvalidTask, match="concurrency"):
        rpqueue.execute_tasks(threads_per_process=0)


# -- Connecting. ------------------------------------------------------------------------------


def test_without_a_connection(load):
    tasks = load(MORE)
    for call in (
        tasks.low.execute,
        rpqueue.known_queues,
        rpqueue.execute_tasks,
        rpqueue.flush_tasks,
        lambda: rpqueue.call_task("usertasks1.echo"),
        lambda: rpqueue.EnqueuedTask("usertasks1.echo", "1"),
    ):
        with pytest.raises(InvalidDSN, match=r"set_redis_connection_settings\(host"):
            call()
    with pytest.raises(InvalidTask, match="is no Gator"):
        rpqueue.use("redis://localhost:6379/0")


@pytest.mark.parametrize(
    ("settings", "dsn"),
    [
        ({}, "redis://localhost:6379/0"),
        ({"host": "db.example.com", "port": "6380", "db": 2}, "redis://db.example.com:6380/2"),
        ({"host": "::1", "ssl": True}, "rediss://[::1]:6379/0"),
        ({"socket_timeout": 3}, "redis://localhost:6379/0?timeout=3"),
        ({"unix_socket_path": "/run/my redis", "db": 1}, "redis+unix:///run/my%20redis?db=1"),
        (
            {"ssl": True, "ssl_ca_certs": "/etc/my ca&b"},
            "rediss://localhost:6379/0?ssl_ca_certs=%2Fetc%2Fmy+ca%26b",
        ),
    ],
)
def test_settings_become_a_dsn(settings, dsn):
    gator = rpqueue.set_redis_connection_settings(**settings)
    assert gator.conn_string == dsn
    assert rpqueue_functions.connected() is gator


@pytest.mark.parametrize("password", ["s:e/c?r@e#t %41", "@", "päss", "a&b=c"])
@pytest.mark.parametrize("where", [{}, {"unix_socket_path": "/run/redis.sock"}])
def test_passwords_arrive_and_are_never_shown(password, where):
    from alligator.backends.redis.config import parse_target

    gator = rpqueue.set_redis_connection_settings(password=password, **where)
    target = parse_target(gator.conn_string)
    assert target.options["password"] == password
    assert target.options["db"] == 0
    assert ":***@" in repr(gator)
    assert password == "@" or password not in repr(gator)
    with pytest.raises(InvalidDSN) as caught:
        rpqueue.set_redis_connection_settings(password="se" + "cret", db="zero", **where)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "evil@example.com"},
        {"host": "example.com/3"},
        {"host": "one,two"},
        {"host": ""},
        {"host": None},
        {"port": 0},
        {"port": 65536},
        {"port": "6379/1"},
        {"port": -1},
        {"db": -1},
        {"db": "0?timeout=1"},
        {"db": None},
        {"socket_timeout": 0},
        {"socket_timeout": "soon"},
        {"unix_socket_path": "run/redis.sock"},
        {"password": b"bytes"},
    ],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(InvalidDSN):
        rpqueue.set_redis_connection_settings(**settings)
    with pytest.raises(InvalidDSN, match="no connection yet"):
        rpqueue_functions.connected()


# -- Bad input. -------------------------------------------------------------------------------


def function(*args):
    """Something to decorate."""


@pytest.mark.parametrize(
    "declare",
    [
        lambda: rpqueue.task(attempts=0),
        lambda: rpqueue.task(attempts=True),
        lambda: rpqueue.task(attempts="3"),
        lambda: rpqueue.task(queue=7),
        lambda: rpqueue.task(save_results=-1),
        lambda: rpqueue.task(tz="Europe/Berlin"),
        lambda: rpqueue.task("low"),
        lambda: rpqueue.task(print),
        lambda: rpqueue.task()(type),
        lambda: rpqueue.periodic_task(0),
        lambda: rpqueue.periodic_task(function),
        lambda: rpqueue.periodic_task(timedelta(seconds=-1)),
        lambda: rpqueue.periodic_task("25"),
        lambda: rpqueue.periodic_task(25)(lambda: None),
        lambda: rpqueue.periodic_task(25)(inspect.getsource),
        lambda: rpqueue.periodic_task(25, attempts=0),
        lambda: rpqueue.periodic_task(25, overlap="no"),
        lambda: rpqueue.cron_task("0 5 tue *"),
        lambda: rpqueue.cron_task("0 0 31 2 *"),
        lambda: rpqueue.cron_task("0 5 tue * mon"),
        lambda: rpqueue.cron_task(25),
        lambda: rpqueue.cron_task("0 5 tue * *", tz="Europe/Nowhere"),
        lambda: rpqueue.set_priority("low", "high"),
        lambda: rpqueue.set_priority("low", float("nan")),
    ],
)
def test_what_cannot_be_declared(declare):
    with pytest.raises(InvalidTask):
        declare()
    assert rpqueue_functions.declared == {}


@pytest.mark.parametrize("option", ["retries", "no_such"])
def test_options_that_there_are_not(option):
    with pytest.raises(TypeError, match=option):
        rpqueue.task(**{option: 1})


def test_what_cannot_be_executed(fake, load):
    tasks = load(MORE)
    for call in (
        lambda: tasks.divide.execute(),
        lambda: tasks.divide.execute(object()),
        lambda: tasks.divide.execute(1, delay=-1),
        lambda: tasks.divide.execute(1, delay="soon"),
        lambda: tasks.divide.execute(1, taskid=7),
        lambda: rpqueue.task(lambda: None).execute(),
    ):
        with pytest.raises(InvalidTask):
            call()
    assert fake.len() == 0


def test_what_this_gator_cannot_take(load, beanstalk_dsn):
    tasks = load(DOCUMENT)
    storeless = Gator(beanstalk_dsn)
    with pytest.raises(UnsupportedOption, match="store="):
        rpqueue.use(storeless)
    with pytest.raises(InvalidDSN):
        tasks.echo_to_stdout.execute("not connected")
    rpqueue_functions.declared.clear()
    rpqueue.use(storeless)
    with pytest.raises(UnsupportedOption, match="store="):
        rpqueue.periodic_task(25)(function)
    rpqueue.task(save_results=5)(function)
    assert current_task() is None


def test_schedules_of_a_script_are_refused_as_its_tasks_are(sqlite_dsn, monkeypatch):
    def script():
        pass

    monkeypatch.setattr(script, "__module__", "__main__")
    monkeypatch.setattr(script, "__qualname__", "script")
    rpqueue.periodic_task(25)(script)
    with pytest.raises(InvalidTask, match="move it to a module"):
        rpqueue.use(Gator(sqlite_dsn))
    rpqueue.use(Gator(f"locmem://{uuid.uuid4().hex}"))
