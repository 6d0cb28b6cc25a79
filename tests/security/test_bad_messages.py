"""Send each message of the table to a real worker, between two good tasks."""

import threading
import time
import uuid

import pytest

from alligator import DELAYED, Gator, Worker
from alligator.tasks.backoff import DEPLOY_DELAYS
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.corpus.messages import CASES, DEAD, FINE, LATER, MODULES

#: What a dead letter may take beside its data.
LONGEST_ERROR, LONGEST_TRACEBACK = 500, 32_768


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """The modules of the table, and a clean list of what was called."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    jobs.seen.clear()


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=FakeClock())


def cases(*ends):
    return [pytest.param(case, id=case.name) for case in CASES if case.ends in ends]


def work(gator):
    """Let a worker empty the queue."""
    try:
        assert Worker(gator, burst=True, log_level="CRITICAL").run_forever() == 0
    except BaseException as err:  # so that pytest does not take it for a Ctrl-C
        pytest.fail(f"the worker died: {err!r}")


def push_between(gator, case):
    """Push a message between two good tasks, and return the id it goes by."""
    gator.task(jobs.note, "before")
    task_id = gator.client.push("all", f"pushed as {case.name}", case.data)
    gator.task(jobs.note, "after")
    return task_id


def check_neighbours(calls_between):
    assert jobs.seen[0] == (("before",), {})
    assert jobs.seen[-1] == (("after",), {})
    assert len(jobs.seen) == 2 + calls_between


def check_letter(letter, case):
    """Hold a dead letter to what the table says of it."""
    kind, _, piece = case.says.partition(": ")
    assert letter.error.partition(":")[0] == kind
    assert piece in letter.error
    assert letter.error.isprintable()
    assert len(letter.error) <= LONGEST_ERROR
    assert len(letter.traceback) <= LONGEST_TRACEBACK, "a letter many times as long as its task"
    assert type(letter.data) is type(case.data)
    if letter.data != case.data:  # not in the assertion, whose explanation would take minutes
        pytest.fail(f"other bytes: {letter.data[:1000]!r}")


@pytest.mark.parametrize("case", cases(DEAD))
def test_it_is_set_aside_and_its_neighbours_run(case, gator):
    task_id = push_between(gator, case)
    work(gator)
    check_neighbours(calls_between=0)
    (letter,) = gator.dead()
    assert letter.task_id == task_id
    check_letter(letter, case)
    assert gator.stats() == {"waiting": 0, "delayed": 0, "running": 0, "dead": 1, "oldest": None}


@pytest.mark.parametrize("case", cases(FINE))
def test_it_runs_once_as_its_neighbours_do(case, gator):
    push_between(gator, case)
    work(gator)
    assert gator.dead() == []
    check_neighbours(calls_between=case.calls)
    assert gator.stats() == {"waiting": 0, "delayed": 0, "running": 0, "dead": 0, "oldest": None}


@pytest.mark.parametrize("case", cases(LATER))
def test_it_is_tried_again_and_then_set_aside(case, gator):
    task_id = push_between(gator, case)
    for delay in DEPLOY_DELAYS:
        work(gator)
        check_neighbours(calls_between=0)
        place = gator.client.find("all", task_id)
        assert (place.state, place.due) == (DELAYED, gator.clock.time() + delay)
        gator.clock.advance(delay)
    work(gator)
    (letter,) = gator.dead()
    assert (letter.task_id, letter.attempts) == (task_id, len(DEPLOY_DELAYS) + 1)
    check_letter(letter, case)


def small(case):
    """Whether every backend takes it: beanstalkd has room for 64 KiB, traceback and all."""
    data = case.data if isinstance(case.data, bytes) else case.data.encode(errors="surrogatepass")
    return len(data) < 20_000


def test_all_that_is_bad_is_set_aside_by_one_worker_on_every_backend(durable_gator):
    gator = durable_gator(f"corpus-{uuid.uuid4().hex[:8]}")
    sample = 25 if gator.conn_string.startswith("sqs") else 1  # the emulator takes its time
    bad = [case for case in CASES if case.ends == DEAD and small(case)][::sample]
    gator.task(jobs.note, "before")
    pushed = {gator.client.push(gator.queue_name, case.name, case.data): case for case in bad}
    gator.task(jobs.note, "after")
    worker = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    deadline = time.monotonic() + 60
    while gator.stats()["dead"] < len(bad) or len(jobs.seen) < 2:
        assert thread.is_alive(), "the worker died"
        assert time.monotonic() < deadline, gator.stats()
        time.sleep(0.02)
    worker.keep_running = False
    thread.join(20)
    assert sorted(args for args, _ in jobs.seen) == [("after",), ("before",)]
    letters = {letter.task_id: letter for letter in gator.dead(2 * len(bad))}
    assert letters.keys() == pushed.keys()
    for task_id, case in pushed.items():
        check_letter(letters[task_id], case)


def test_the_table_has_each_name_once():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) > 60
