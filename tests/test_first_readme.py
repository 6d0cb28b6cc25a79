"""The "Complex Usage" that the first README announced, as it stands there, on every backend."""

import logging
import uuid

import pytest

from alligator import FAILED, SUCCESS, Gator, Worker

PLACES = ["locmem", "sqlite", "redis", "beanstalk+redis", "sqs+sqlite"]
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
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=PLACES)
def gator(request):
    ran.clear()
    seen.clear()
    backend, _, store = request.param.partition("+")
    dsn = request.getfixturevalue(f"{backend}_dsn")
    store_dsn = request.getfixturevalue(f"{store}_dsn") if store else None
    gator = Gator(dsn, f"readme-{uuid.uuid4().hex[:8]}", store=store_dsn)
    if backend == "sqs":
        for name in (gator.queue_name, f"{gator.queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


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

    worker = Worker(gator, max_tasks=min(failures, 3) + 1, log_level="CRITICAL")
    worker.run_forever()
    tries = min(failures + 1, 4)
    assert ran == ["sketchy_fetch_feeds"] * tries
    assert seen == [(feeds_job.id, FAILED, None)] * (tries - (failures < 4))
    assert caplog.messages.count(f"Job {feeds_job.id} failed.") == len(seen)
    assert feeds_job.wait(10) is True
    assert feeds_job.status == (SUCCESS if failures < 4 else FAILED)
    if failures < 4:
        Worker(gator, max_tasks=1, log_level="CRITICAL").run_forever()
    assert cache_job.wait(10) is (failures < 4)
    assert ran[tries:] == ["rebuild_cache"] * (failures < 4)
    assert late_job.wait(0) is False
