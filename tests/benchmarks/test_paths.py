"""Test that the path of a push, and of a task in a worker, stays short."""

from benchmarks import paths


def test_a_push(redis_dsn):
    calls = paths.of_push(redis_dsn)
    assert len(calls.codes) <= 30
    assert len(calls.modules()) <= 10, calls.modules()


def test_a_task_in_the_steady_state_of_a_worker(redis_dsn):
    calls = paths.of_worker(redis_dsn)
    assert calls.on_path(paths.COUNTED) <= 19
    assert len(calls.codes) / paths.COUNTED <= 30, "with those for several tasks together"
    assert len(calls.modules(paths.COUNTED)) <= 10, calls.modules(paths.COUNTED)
