"""Test the "Complex Usage" that the first README announced, unchanged, on every backend."""

import logging
import threading

import pytest

from alligator import CANCELED, FAILED, SUCCESS, Worker
from tests.support.helpers import skip_without_children

ASYNC_TASKS = True

ran: list = []
seen: list = []


def log_func(job):
    # A simple example of logging a failed task.
    if job.result != SUCCESS:
        logging.error("Job {} failed.".format(job.id))  # noqa: UP032 - as it stands there
    seen.append((job.id, job.status, job.result))


def sketchy_fetch_feeds(failures):
    ran.append("sketchy_fetch_feeds")
    if ran.count("sketchy_fetch_feeds") <= failures:
        raise OSError("sketchy")


def rebuild_cache():
    ran.append("rebuild_cache")


def this_can_wait():
    ran.append("this_can_wait")


@pytest.fixture
def gator(gator_with_store):
    skip_without_children(gator_with_store)
    ran.clear()
    seen.clear()
    return gator_with_store


@pytest.mark.parametrize("failures", [0, 2, 9], ids=["works", "sketchy", "broken"])
def test_complex_usage(gator, failures, caplog):
    # A context manager for supplying options
    with gator.options(retries=3, **{"async": ASYNC_TASKS}, on_error=log_func) as task:
        feeds_job = task(sketchy_fetch_feeds, failures, timeout=30)

    # Dependent tasks, will only run if the listed tasks succeed.
    with gator.options(depends_on=[feeds_job]) as task:
        cache_job = task(rebuild_cache)

    # Delayed tasks (run in an hour).
    with gator.options(run_after=60 * 60) as task:
        late_job = task(this_can_wait)

    tries, works = min(failures + 1, 4), failures < 4
    worker = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        assert feeds_job.wait(20) is True
        assert cache_job.wait(20) is works
        assert late_job.wait(0) is False
    finally:
        worker.keep_running = False
        thread.join(30)
    assert ran == ["sketchy_fetch_feeds"] * tries + ["rebuild_cache"] * works
    assert seen == [(feeds_job.id, FAILED, None)] * (tries - works)
    assert caplog.messages.count(f"Job {feeds_job.id} failed.") == len(seen)
    assert feeds_job.status == (SUCCESS if works else FAILED)
    assert cache_job.status == (SUCCESS if works else CANCELED)
