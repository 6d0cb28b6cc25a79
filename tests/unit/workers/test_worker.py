"""Test the worker, in this process."""

import logging
import os
import signal
import threading
import time
import uuid
from itertools import pairwise

import pytest

from alligator import Gator, Worker
from alligator.backends.locmem_backend import Client
from alligator.exceptions import ConnectionLost, InvalidTask
from alligator.execution.attempt import attempt
from tests.support.helpers import eventually

ran = []
ends: list = []


def note(value):
    ran.append(value)
    return value


def nap(seconds):
    time.sleep(seconds)
    ends.append(time.monotonic())
    ran.append(seconds)


def fail():
    raise ValueError("too much")


def leave():
    raise SystemExit(3)


def recurse():
    return recurse()


def stop_myself():
    os.kill(os.getpid(), signal.SIGTERM)
    ran.append("finished")


def insist():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGQUIT)
    ran.append("never")


go_on = threading.Event()


def hold():
    """Take as long as the test wants."""
    assert go_on.wait(60)
    ran.append("held")


def together(barrier_size):
    ran.append("start")
    deadline = time.monotonic() + 30
    while ran.count("start") < barrier_size and time.monotonic() < deadline:
        time.sleep(0.005)
    ran.append(ran.count("start"))


def begin_and_end(seconds):
    ran.append("begin")
    time.sleep(seconds)
    ran.append("end")


@pytest.fixture
def gator():
    ran.clear()
    go_on.clear()
    yield Gator(f"locmem://{uuid.uuid4().hex}")
    go_on.set()


def test_two_hundred_no_ops_take_well_under_a_second(gator):
    for _ in range(5):  # the machine may be busy
        ran.clear()
        for number in range(200):
            gator.task(note, number)
        started = time.monotonic()
        worker = Worker(gator, max_tasks=200, log_level=logging.WARNING)
        assert worker.run_forever() == 0
        took = time.monotonic() - started
        assert ran == list(range(200))
        assert worker.tasks_complete == 200
        if took < 1:
            break
    assert took < 1
    assert gator.stats()["running"] == 0


def test_documented_lines_and_results(gator, capsys):
    gator.task(note, "a result")
    worker = Worker(gator, max_tasks=1)
    worker.run_forever()
    out = capsys.readouterr().out
    ident = f"Alligator Worker (#{os.getpid()})"
    assert worker.ident() == ident
    assert f'{ident} starting & consuming "all".' in out
    assert f"{ident} will die after 1 tasks." in out
    assert "'a result'" in out
    assert f'{ident} for "all" shutting down. Consumed 1 tasks.' in out


def test_several_queues_in_the_lines(gator, capsys):
    Worker(gator, to_consume=["mail", "images"], burst=True).run_forever()
    out = capsys.readouterr().out
    assert 'starting & consuming "mail", "images".' in out
    assert 'for "mail", "images" shutting down.' in out


def test_a_second_worker_does_not_double_the_lines_and_levels_are_kept(gator, capsys):
    quiet = Worker(gator, log_level=logging.ERROR)
    workers = [Worker(gator), Worker(gator)]
    workers[1].starting()
    quiet.starting()
    assert capsys.readouterr().out.count("will never die") == 1


def test_max_tasks_is_never_overrun(gator):
    for number in range(10):
        gator.task(note, number)
    for concurrency in (1, 3):
        Worker(gator, max_tasks=3, concurrency=concurrency, prefetch=50).run_forever()
    assert len(ran) == 6
    assert gator.len() == 4


def test_max_tasks_is_not_overrun_in_threads_while_acks_take_their_time(gator, monkeypatch):
    for number in range(4):
        gator.task(nap, 0.01 + number / 1e6)
    ack = gator.client.ack

    def late(deliveries):
        time.sleep(0.2)
        return ack(deliveries)

    monkeypatch.setattr(gator.client, "ack", late)
    Worker(gator, max_tasks=2, concurrency=2).run_forever()
    assert len(ran) == 2
    assert gator.len() == 2


def test_it_consumes_the_gators_queue_or_those_named_in_order():
    dsn = f"locmem://{uuid.uuid4().hex}"
    ran.clear()
    mail, images = Gator(dsn, "notifications"), Gator(dsn, "images")
    for number in range(3):
        images.task(note, f"image {number}")
    mail.task(note, "mail")
    assert Worker(mail).to_consume == "notifications"
    Worker(mail, max_tasks=1).run_forever()
    assert ran == ["mail"]
    mail.task(note, "mail 2")
    Worker(mail, to_consume=["notifications", "images"], max_tasks=4, burst=True).run_forever()
    assert ran == ["mail", "mail 2", "image 0", "image 1", "image 2"]
    with pytest.raises(InvalidTask):
        Worker(mail, to_consume="no such name!")


def test_check_and_run_task_never_raises(gator, monkeypatch):
    worker = Worker(gator)
    assert worker.check_and_run_task() is False
    gator.task(note, 1)
    assert worker.check_and_run_task() is True
    for func in (fail, leave, recurse):
        gator.task(func)
        assert worker.check_and_run_task() is False
    assert gator.stats() == {"waiting": 0, "delayed": 0, "running": 0, "dead": 3, "oldest": None}
    assert worker.tasks_complete == 1

    def lost(*args, **kwargs):
        raise ConnectionLost("gone")

    monkeypatch.setattr(gator.client, "reserve", lost)
    assert worker.check_and_run_task() is False


def test_failures_do_not_end_the_worker(gator):
    for func in (fail, leave, recurse):
        gator.task(func)
    gator.client.push("all", "bad", "not json")
    gator.task(note, "after")
    worker = Worker(gator, burst=True)
    worker.run_forever()
    assert ran == ["after"]
    assert {letter.error.split(":")[0] for letter in gator.dead()} == {
        "ValueError",
        "SystemExit",
        "RecursionError",
        "BadPayload",
    }


def test_an_idle_worker_wakes_at_once(gator):
    worker = Worker(gator, max_tasks=20, nap_time=30, log_level=logging.WARNING)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    waits = []
    for number in range(20):
        started = time.monotonic()
        gator.task(note, number)
        eventually(lambda count=number: len(ran) > count)
        waits.append(time.monotonic() - started)
    thread.join(30)
    assert not thread.is_alive()
    assert sorted(waits)[5] < 0.1, "the machine may be busy"


def test_in_another_thread_it_stops_on_keep_running(gator):
    worker = Worker(gator)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    gator.task(note, 1)
    eventually(lambda: ran == [1])
    worker.keep_running = False
    thread.join(30)
    assert not thread.is_alive()


def test_first_signal_finishes_the_task_and_puts_handlers_back(gator, capsys):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    gator.task(stop_myself)
    gator.task(note, "left")
    worker = Worker(gator)
    assert worker.run_forever() == 0
    assert ran == ["finished"]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert "shutting down. Consumed 1 tasks." in capsys.readouterr().out
    assert gator.stats()["waiting"] == 1
    assert gator.stats()["running"] == 0


def stopped_deaths(gator):
    """Let the lease of what runs end, and return the deaths that are counted."""
    (held,) = gator.client.taken
    assert gator.client.extend([held], -1.0) == []
    (again,) = gator.client.reserve([gator.queue_name], task_id=held.task_id).deliveries
    assert gator.client.release(again)
    return again.deaths


class Noting(Client):
    """Knows what it handed out, and of what a stop was noted."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.taken, self.stopped, self.failures = [], [], 0

    def reserve(self, *args, **kwargs):
        reserved = super().reserve(*args, **kwargs)
        self.taken += reserved.deliveries
        return reserved

    def note_stop(self, deliveries):
        if self.failures:
            self.failures -= 1
            raise ConnectionLost("out of reach")
        super().note_stop(deliveries)
        self.stopped += deliveries

    def release(self, *args, **kwargs):
        if self.failures:
            self.failures -= 1
            raise ConnectionLost("out of reach")
        return super().release(*args, **kwargs)


@pytest.fixture
def noting(gator):
    return Gator(gator.conn_string, backend_class=Noting)


def stop_and_wait(conn_string):
    """Have this worker told to stop, and see what is noted while it goes on."""
    client = noting_clients[conn_string]
    ran.append(len(client.stopped))
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + 30
    while not client.stopped and time.monotonic() < deadline:
        time.sleep(0.005)
    ran.append([each.task_id for each in client.stopped])


noting_clients = {}


@pytest.mark.parametrize("options", [{"prefetch": 2}, {"concurrency": 2}])
@pytest.mark.parametrize("failures", [0, 2])
def test_a_stop_is_noted_at_once_on_what_is_held(noting, options, failures, monkeypatch):
    monkeypatch.setitem(noting_clients, noting.conn_string, noting.client)
    task = noting.task(stop_and_wait, noting.conn_string)
    noting.task(note, "later")
    noting.client.failures = failures
    worker = Worker(noting, log_level=logging.CRITICAL, **options)
    worker.run_forever()
    assert ran[0] == 0
    assert task.task_id in ran[1]
    assert len({each.receipt for each in noting.client.stopped}) == len(noting.client.stopped)
    assert noting.stats()["running"] == 0


def test_to_end_by_itself_is_no_stop(noting):
    noting.task(nap, 0.3)
    noting.task(note, 1)
    Worker(noting, max_tasks=2, concurrency=2).run_forever()
    noting.task(nap, 0.3)
    Worker(noting, burst=True).run_forever()
    noting.task(nap, 0.3)
    Worker(noting).check_and_run_task()
    assert len(ran) == 4
    assert noting.client.stopped == []


def test_a_stop_by_keep_running_is_noted_as_well(noting):
    noting.task(hold)
    worker = Worker(noting)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: noting.client.taken)
    worker.keep_running = False
    eventually(lambda: noting.client.stopped)
    assert noting.client.stopped == noting.client.taken
    assert stopped_deaths(noting) == 0
    go_on.set()
    thread.join(30)


def test_a_backend_without_such_notes_is_not_asked(noting, monkeypatch):
    monkeypatch.setattr(Noting, "notes_stops", False)
    noting.task(stop_myself)
    Worker(noting).run_forever()
    assert ran == ["finished"]
    assert noting.client.stopped == []


def fork_and_terminate():
    """Kill a child by a signal that only the child gets."""
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        os._exit(1)
    ran.append(os.waitpid(pid, 0)[1])
    time.sleep(0.5)  # two turns of the lease thread


def handle_myself():
    """Take a stop signal for its own."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: ran.append("handled"))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)  # a turn of the lease thread
    signal.signal(signal.SIGTERM, before)


def test_a_stop_signal_that_a_task_handles_is_none_of_the_next(noting):
    noting.task(handle_myself)
    noting.task(nap, 0.5)
    Worker(noting, max_tasks=2).run_forever()
    assert ran == ["handled", 0.5]
    assert noting.client.taken[1] not in noting.client.stopped


def test_a_signal_to_a_forked_child_is_no_stop_of_its_worker(noting):
    noting.task(fork_and_terminate)
    noting.task(note, 1)
    Worker(noting, max_tasks=2).run_forever()
    assert ran == [0, 1]
    assert noting.client.stopped == []
    assert signal.set_wakeup_fd(-1) == -1


def test_a_wakeup_descriptor_of_the_users_own_stays(noting):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        noting.task(stop_myself)
        Worker(noting).run_forever()
        assert ran == ["finished"]
        assert os.read(reader, 10) == bytes([signal.SIGTERM])
    finally:
        assert signal.set_wakeup_fd(-1) == writer
        os.close(reader)
        os.close(writer)


def test_who_insists_makes_it_leave_at_once_and_hand_back(gator):
    gator.task(insist)
    worker = Worker(gator)
    worker.run_forever()
    assert ran == []
    stats = gator.stats()
    assert (stats["waiting"], stats["running"], stats["dead"]) == (1, 0, 0)


def test_concurrency_runs_side_by_side(gator):
    for _ in range(4):
        gator.task(together, 4)
    Worker(gator, max_tasks=4, concurrency=4).run_forever()
    assert ran.count(4) == 4


def test_concurrency_with_burst_drains_everything(gator):
    for number in range(300):
        gator.task(note, number)
    gator.options(retries=2)(fail)
    Worker(gator, concurrency=4, burst=True, log_level=logging.CRITICAL).run_forever()
    assert sorted(ran) == list(range(300))
    assert gator.stats() == {"waiting": 0, "delayed": 0, "running": 0, "dead": 1, "oldest": None}


def test_a_task_longer_than_its_lease_runs_once(gator, monkeypatch):
    extend, extended = gator.client.extend, []

    def noted(*args):
        lost = extend(*args)
        extended.append(time.monotonic())
        return lost

    monkeypatch.setattr(gator.client, "extend", noted)
    for _ in range(5):
        ran.clear()
        ends.clear()
        extended[:] = [time.monotonic()]
        gator.task(nap, 1.0)
        other = Worker(gator, lease=0.3, max_tasks=1)
        thread = threading.Thread(target=other.run_forever, daemon=True)
        thread.start()
        eventually(lambda: gator.stats()["waiting"] == 0)  # else the other one may get it
        idle = Worker(gator, lease=0.3, log_level=logging.ERROR)
        watcher = threading.Thread(target=idle.run_forever, daemon=True)
        watcher.start()
        thread.join(30)
        idle.keep_running = False
        watcher.join(30)
        times = [each for each in extended if each < ends[0]] + ends[:1]
        if max(after - before for before, after in pairwise(times)) < 0.25:
            break  # else a busy machine let the lease run out
    assert ran == [1.0]
    assert gator.stats()["running"] == 0


def test_a_slow_task_does_not_hold_prefetched_ones(gator, noting):
    gator.task(hold)
    for number in range(5):
        gator.task(note, number)
    holder = Worker(noting, prefetch=6)
    slow = threading.Thread(target=holder.run_forever, daemon=True)
    slow.start()
    eventually(lambda: len(noting.client.taken) >= 6)
    other = threading.Thread(target=Worker(gator, max_tasks=5).run_forever, daemon=True)
    other.start()
    other.join(30)
    assert sorted(ran) == [0, 1, 2, 3, 4], "handed back one by one, in whatever order"
    holder.keep_running = False
    go_on.set()
    slow.join(30)
    assert ran[-1] == "held"
    assert gator.stats()["running"] == 0


def has_died_once(gator, *call):
    """Push a task with a worker that is killed; return a function that lets its lease run out."""
    task_id = gator.task(*call).task_id
    held = gator.client.reserve([gator.queue_name], task_id=task_id).deliveries
    extend = gator.client.extend
    return lambda: extend(held, -1.0)


def test_a_suspect_is_not_held_while_others_run(gator, monkeypatch):
    # Else one of those others that kills the worker would be counted against it.
    lease_ends = has_died_once(gator, note, "suspect")
    gator.task(hold)
    seen, reserve = [], gator.client.reserve

    def noted(*args, **kwargs):
        found = reserve(*args, **kwargs)
        seen.extend(each.deaths for each in found.deliveries)
        return found

    monkeypatch.setattr(gator.client, "reserve", noted)
    worker = Worker(gator, concurrency=4, max_tasks=2)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: seen == [0])
    lease_ends()
    eventually(lambda: seen[:2] == [0, 1])

    def is_put_aside():  # for a second at a time
        stats = gator.stats()
        return (stats["delayed"], stats["running"]) == (1, 1)

    eventually(is_put_aside)
    assert ran == []
    go_on.set()
    thread.join(30)
    assert ran == ["held", "suspect"]


def test_nothing_runs_beside_a_suspect(gator, monkeypatch):
    ack = gator.client.ack
    lease_ends = has_died_once(gator, begin_and_end, 0.6)
    gator.task(nap, 0.3)

    def late(deliveries):
        time.sleep(0.3)
        return ack(deliveries)

    monkeypatch.setattr(gator.client, "ack", late)  # of the nap, while the suspect begins
    worker = Worker(gator, concurrency=4, max_tasks=3)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: gator.stats()["waiting"] == 0)
    lease_ends()
    eventually(lambda: "begin" in ran)
    gator.task(note, "beside")
    thread.join(30)
    assert ran == [0.3, "begin", "end", "beside"]


def test_acks_leave_while_a_long_task_runs(gator):
    for number in range(5):
        gator.task(note, number)
    gator.task(hold)
    worker = Worker(gator, prefetch=6, max_tasks=6)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: len(ran) == 5)
    eventually(lambda: gator.stats()["running"] == 1)
    go_on.set()
    thread.join(30)
    assert not thread.is_alive()


def test_an_outage_is_ridden_out(gator, monkeypatch, capsys):
    real, failures = gator.client.reserve, [ConnectionLost("gone")] * 4

    def flaky(*args, **kwargs):
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(gator.client, "reserve", flaky)
    gator.task(note, 1)
    Worker(gator, max_tasks=1).run_forever()
    assert ran == [1]
    out = capsys.readouterr().out
    assert out.count("cannot be reached") == 1
    assert out.count("can be reached again") == 1


class CarefulWorker(Worker):
    seen = 0

    def check_and_run_task(self):
        type(self).seen += 1
        return super().check_and_run_task()


def test_a_subclass_may_override_check_and_run_task(gator):
    for number in range(3):
        gator.task(note, number)
    CarefulWorker(gator, max_tasks=3).run_forever()
    assert (ran, CarefulWorker.seen) == ([0, 1, 2], 3)


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"lease": 0}, {"prefetch": 0}, {"prefetch": "many"}, {"grace": -1}],
)
def test_bad_values_are_refused(gator, options):
    with pytest.raises(InvalidTask):
        Worker(gator, **options)


class SlowToRelease(Client):
    def release(self, delivery, data=None, delay_until=None):
        time.sleep(0.1)
        return super().release(delivery, data, delay_until)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_burst_does_not_end_before_what_is_being_handed_back(concurrency):
    ran.clear()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", backend_class=SlowToRelease)
    for _ in range(concurrency):
        gator.task(nap, 0.25)
    for number in range(4):
        gator.task(note, number)
    Worker(gator, burst=True, prefetch=4 + concurrency, concurrency=concurrency).run_forever()
    assert gator.len() == 0
    assert len(ran) == 4 + concurrency


class Unshowable(Exception):
    """Raise in any code that shows it, at one place or another."""

    def __init__(self, where):
        self.where = where

    def __str__(self):
        if self.where == "text":
            raise SystemExit(3)
        return "fine"

    @property
    def __notes__(self):
        if self.where == "notes":
            raise ZeroDivisionError
        return []


class Unprintable:
    def __repr__(self):
        raise SystemExit(3)


def fail_unshowably(where):
    if where == "result":
        return Unprintable()
    raise SyntaxError("m", ("f", 1, "a", "t")) if where == "details" else Unshowable(where)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_cannot_be_shown_ends_no_worker_and_no_thread(gator, concurrency, capsys):
    places = ("text", "notes", "details")
    for where in (*places, "result"):
        gator.task(fail_unshowably, where)
    gator.task(note, 1)
    worker = Worker(gator, concurrency=concurrency, burst=True)
    assert worker.run_forever() == 0
    assert ran == [1]
    letters = gator.dead()
    assert len(letters) == 3
    assert all(letter.traceback and letter.error for letter in letters)
    assert gator.stats()["running"] == 0
    assert capsys.readouterr().out.count("became a dead letter") == 3


@pytest.mark.parametrize("concurrency", [1, 2])
def test_whatever_else_goes_wrong_with_a_task_a_worker_stays(gator, concurrency, monkeypatch):
    class Odd(BaseException):
        pass

    faults = [Odd()]

    def broken(*args, **kwargs):
        if faults:
            raise faults.pop()
        return attempt(*args, **kwargs)

    monkeypatch.setattr("alligator.workers.processor.attempt", broken)
    gator.task(note, 1)
    worker = Worker(gator, concurrency=concurrency, lease=0.3, max_tasks=1)
    assert worker.run_forever() == 0
    assert ran == [1], "it came back by its lease"


def test_the_text_of_an_outage_cannot_pass_for_a_line(gator, monkeypatch, capsys):
    real, failures = gator.client.reserve, [ValueError("cannot read \x1b[2J\n2026 forged")]

    def failing(*args, **kwargs):
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(gator.client, "reserve", failing)
    gator.task(note, 1)
    Worker(gator, max_tasks=1).run_forever()
    out = capsys.readouterr().out
    assert "cannot be reached" in out
    assert "\x1b" not in out
    assert not any(line.startswith("2026 forged") for line in out.splitlines())
