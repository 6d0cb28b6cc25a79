"""Run every loop of ``make chaos`` at a small size."""

import pytest

from chaos.__main__ import all_loops
from chaos.environment import open_environment
from chaos.table import line


def sizes():
    for name, loop in all_loops():
        for backend in loop.BACKENDS:
            size = loop.SMALL[backend] if isinstance(loop.SMALL, dict) else loop.SMALL
            if size:
                yield pytest.param(loop, backend, size, id=f"{name}-{backend}")


@pytest.mark.slow
@pytest.mark.parametrize(("loop", "backend", "size"), list(sizes()))
def test_nothing_is_lost(loop, backend, size, tmp_path):
    with open_environment(backend, tmp_path) as environment:
        row = loop.run(environment, size)
    assert not row.wrong, line(row)
    assert row.lost == 0, line(row)
    assert row.unexpected == 0, line(row)
    assert row.completed > 0, "nothing was put to the test"
