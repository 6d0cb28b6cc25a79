"""Run every loop of ``make chaos`` at a small size."""

import pytest

from chaos.__main__ import all_loops
from chaos.environment import open_environment
from chaos.table import line

_BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")

#: Seconds in which something has to happen. How soon it does is for ``make chaos`` to tell, on a
#: machine that does nothing else; here it must not be left out, or wait for what has gone wrong.
PATIENCE = {
    "chaos.load.FAST": 8.0,
    "chaos.loops.pauses.OBEYED_WITHIN": 2.0,
    "chaos.loops.pauses.PAUSED": 2.35,
    "chaos.loops.rates.STARTED_WITHIN": 2.0,
    "chaos.loops.recovery.SLACK": 10.0,
    "chaos.loops.rolling_restarts.BACK_WITHIN": dict.fromkeys(_BACKENDS, 15.0),
    "chaos.loops.rolling_restarts.GONE_WITHIN": 8.0,
    "chaos.loops.slow_ahead.WITHIN": dict.fromkeys(_BACKENDS, 4.0),  # before the slow one ends
    "chaos.loops.unique_keys.ACKED_WITHIN": 3.0,
    "chaos.loops.worker_killed.ACKED_WITHIN": 2.0,
}


def sizes():
    for name, loop in all_loops():
        for backend in loop.BACKENDS:
            size = loop.SMALL[backend] if isinstance(loop.SMALL, dict) else loop.SMALL
            if size:
                yield pytest.param(loop, backend, size, id=f"{name}-{backend}")


@pytest.mark.slow
@pytest.mark.parametrize(("loop", "backend", "size"), list(sizes()))
def test_nothing_is_lost(loop, backend, size, tmp_path, monkeypatch):
    for name, seconds in PATIENCE.items():
        monkeypatch.setattr(name, seconds)
    with open_environment(backend, tmp_path) as environment:
        row = loop.run(environment, size)
    assert not row.wrong, line(row)
    assert row.lost == 0, line(row)
    assert row.unexpected == 0, line(row)
    assert row.completed > 0, "nothing was put to the test"
