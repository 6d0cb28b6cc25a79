"""Test the whole path from the call to the worker, on every backend that outlives its client."""

import logging
import threading
import time
import uuid

import pytest

from alligator import Worker
from alligator.exceptions import InvalidTask
from tests.support import jobs

done = threading.Event()


def ring():
    done.set()


@pytest.fixture
def gator(durable_gator):
    jobs.seen.clear()
    return durable_gator(f"whole-{uuid.uuid4().hex[:8]}")


def work_until(gator, check, within=20.0):
    """Run a worker until ``check`` is true."""
    worker = Worker(gator, log_level=logging.CRITICAL)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    deadline = time.monotonic() + within
    try:
        while not check():
            assert time.monotonic() < deadline, f"not in time: {gator.stats()}, {jobs.seen}"
            time.sleep(0.02)
    finally:
        worker.keep_running = False
        thread.join(30)


def test_a_failure_is_retried_with_its_hooks_and_then_dead(gator):
    gator.options(retries=2, on_error=jobs.on_error)(jobs.fail, "schräg\nzwei")
    work_until(gator, lambda: gator.dead())
    (letter,) = gator.dead()
    assert letter.error == "ValueError: schräg\\nzwei"
    assert "in fail" in letter.traceback
    assert len(jobs.seen) == 3
    assert gator.revive(letter.task_id) == 1
    work_until(gator, lambda: len(jobs.seen) == 6 and gator.dead())


def test_what_cannot_be_run_is_set_aside_and_the_worker_goes_on(gator, monkeypatch):
    monkeypatch.setattr("alligator.tasks.backoff.DEPLOY_DELAYS", (0.1, 0.1))
    gator.client.push(gator.queue_name, "x1", "no json \x01")
    gator.client.push(gator.queue_name, "x2", b"\xff\x00")
    gator.task("tests.support.jobs.not_there")
    gator.task("tests.not_there.at_all")
    gator.task(jobs.note, "goes on")
    work_until(gator, lambda: len(gator.dead()) == 4)
    letters = gator.dead()
    errors = sorted(letter.error.partition(":")[0] for letter in letters)
    assert errors == ["BadPayload", "BadPayload", "UnknownCallableError", "UnknownModuleError"]
    assert {"no json \x01", b"\xff\x00"} <= {letter.data for letter in letters}
    assert jobs.seen == [(("goes on",), {})]


def test_too_large_is_refused_at_the_call_with_both_sizes(gator):
    largest = gator.client.max_size()
    if largest > 10_000_000:
        pytest.skip("takes any task that a test could make")
    with pytest.raises(InvalidTask, match=str(largest)):
        gator.task(jobs.note, "x" * largest)
    gator.task(jobs.note, "x" * (largest - 400))
    work_until(gator, lambda: jobs.seen)


def test_an_idle_worker_starts_a_task_at_once(gator):
    worker = Worker(gator, log_level=logging.CRITICAL)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    waits = []
    try:
        for _ in range(11):
            done.clear()
            started = time.monotonic()
            gator.task(ring)
            assert done.wait(10)
            waits.append(time.monotonic() - started)
    finally:
        worker.keep_running = False
        thread.join(30)
    assert sorted(waits)[5] < 2.5  # no more than a guard: the figures are measured elsewhere


def test_a_batch_and_several_threads(gator):
    with gator.batch() as batch:
        for number in range(60):
            batch.task(jobs.note, number)
    Worker(gator, concurrency=4, max_tasks=60, log_level=logging.CRITICAL).run_forever()
    assert sorted(call[0][0] for call in jobs.seen) == list(range(60))
    assert gator.dead() == []
