"""Test tasks of Django's framework that run in worker processes of their own."""

import signal
from pathlib import Path

import pytest

from alligator.contrib.django.tasks_framework import base
from tests.integration.django_tasks import worker
from tests.support.helpers import eventually
from tests.support.processes import processes

SUCCESSFUL = base.TaskResultStatus.SUCCESSFUL


@pytest.fixture
def start(durable_site, tmp_path):
    """Start a worker on the queue of ``durable_site``."""
    with processes(tmp_path) as begin:

        def start_worker(concurrency=1, lease=30):
            options = map(str, (concurrency, lease))
            return begin(worker.__file__, durable_site.dsn, durable_site.queue, *options)

        yield start_worker


def ended(result):
    def look():
        result.refresh()
        return result.is_finished

    eventually(look, f"the end of {result.id}")
    return result


def test_after_a_kill_the_task_runs_again(durable_site, jobs, start, tmp_path):
    result = durable_site.enqueue(jobs.die_first, str(tmp_path))
    killed = start(lease=1)
    assert killed.wait(60) == -signal.SIGKILL
    assert (tmp_path / "attempt-1").exists()
    result.refresh()
    assert (result.status, result.attempts) in [("RUNNING", 1), ("READY", 1)]
    assert result.started_at is not None
    start()
    ended(result)
    assert (result.status, result.return_value, result.attempts) == (SUCCESSFUL, [2, 2], 2)
    assert len(set(result.worker_ids)) == 2
    assert result.errors == []
    assert result.started_at < result.last_attempted_at < result.finished_at


def test_several_workers_run_each_task_once(durable_site, jobs, start, tmp_path):
    path = tmp_path / "ran"
    results = [durable_site.enqueue(jobs.append, str(path), number) for number in range(30)]
    results += [durable_site.enqueue(jobs.add_on_loop, number, 1) for number in range(10)]
    for _ in range(2):
        start(concurrency=2)
    for each in results:
        assert ended(each).attempts == 1
    assert sorted(map(int, path.read_text().split())) == list(range(30))
    assert [each.return_value for each in results[30:]] == list(range(1, 11))


def test_a_stop_lets_the_running_task_end(durable_site, jobs, start, tmp_path):
    began, go_on = tmp_path / "began", tmp_path / "go on"
    result = durable_site.enqueue(jobs.wait_for, str(began), str(go_on))
    process = start()
    eventually(began.exists, "the start of the task")
    process.send_signal(signal.SIGTERM)
    Path(go_on).touch()
    assert process.wait(60) == 0
    result.refresh()
    assert (result.status, result.attempts) == (SUCCESSFUL, 1)
