"""Compare every backend with one model of the contract, through random histories.

``ALLIGATOR_TEST_EXAMPLES=2000 pytest tests/property/test_state_machine.py`` looks longer,
and each time elsewhere.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property import environments
from tests.property.state_machine import QueueMachine

MORE = int(os.environ.get("ALLIGATOR_TEST_EXAMPLES", "0"))

#: Histories, and steps in each: what takes some seconds.
SIZES = {
    "locmem": (100, 40),
    "sqlite": (70, 40),
    "redis": (50, 40),
    "beanstalk": (45, 30),
    "sqs": (5, 25),
}
ENVIRONMENTS = {name: getattr(environments, name.title()) for name in SIZES}


@pytest.mark.slow
@pytest.mark.timeout(600 + MORE)
@pytest.mark.parametrize("backend", SIZES)
def test_no_history_tells_it_from_the_model(backend, request, tmp_path):
    if backend == "locmem":
        dsn = f"locmem://{tmp_path}"
    else:
        dsn = request.getfixturevalue(f"{backend}_dsn")
    examples, steps = SIZES[backend]

    def make():
        return QueueMachine(ENVIRONMENTS[backend](dsn))

    profile = settings(
        max_examples=MORE or examples,
        stateful_step_count=steps,
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=bool(MORE),
    )
    run_state_machine_as_test(make, settings=profile)
