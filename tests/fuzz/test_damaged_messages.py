"""Feed a worker with thousands of damaged messages: each ends correctly, and no worker ends.

``make fuzz`` feeds a million of them; the default suite a few thousand, always the same.
"""

import os
import sys
import uuid
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alligator import Gator, Worker
from alligator.backends.base import Data, Delivery
from alligator.exceptions import (
    AlligatorException,
    ImportFailed,
    UnknownCallableError,
    UnknownModuleError,
)
from alligator.testing import FakeClock
from tests.fuzz.mutations import mutate
from tests.support import jobs
from tests.support.corpus.messages import MODULES

AT_ONCE = 50
MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "3000"))

#: The outcomes of all messages: shown at the end of ``make fuzz``.
ends: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    """The modules of the corpus."""
    folder = tmp_path_factory.mktemp("modules")
    for name, source in MODULES.items():
        (folder / f"{name}.py").write_text(source)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    for name in MODULES:
        sys.modules.pop(name, None)
    if "FUZZ_MESSAGES" in os.environ:
        print(f"\n{ends.total()} messages: {dict(ends)}")


def read(gator: Gator, number: int, data: Data) -> str:
    """Return 'good', 'broken', 'unknown' or 'bad'; any other error is a finding."""
    delivery = Delivery("all", str(number), data, 1, 0, "receipt")
    try:
        gator.codec.decode(delivery)
    except ImportFailed:
        return "broken"
    except (UnknownModuleError, UnknownCallableError, KeyboardInterrupt):
        return "unknown"
    except AlligatorException:
        return "bad"
    return "good"


@settings(
    max_examples=max(1, MESSAGES // AT_ONCE),
    deadline=None,
    database=None,
    derandomize="FUZZ_MESSAGES" not in os.environ,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(st.integers(0, 2**64), min_size=AT_ONCE, max_size=AT_ONCE).map(
        lambda seeds: [mutate(seed) for seed in seeds]
    )
)
def test_a_worker_survives_all_of_them(messages):
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    jobs.seen.clear()
    expected = [read(gator, number, data) for number, data in enumerate(messages)]
    for number, data in enumerate(messages):
        assert gator.client.push("all", str(number), data) == str(number)
    gator.task(jobs.note, "the last one")
    # A message may ask for a million retries: enough for the first try of all.
    worker = Worker(gator, burst=True, log_level="CRITICAL", max_tasks=3 * len(messages))
    assert worker.run_forever() == 0
    assert (("the last one",), {}) in jobs.seen

    letters = {letter.task_id: letter for letter in gator.dead(2 * len(messages))}
    for number, (data, kind) in enumerate(zip(messages, expected, strict=True)):
        letter, place = letters.get(str(number)), gator.client.find("all", str(number))
        if kind == "bad":
            assert letter is not None, "not buried"
        if kind == "broken":
            assert letter or place, "neither buried nor to be retried"
        if kind == "unknown":
            assert place, "not to be retried"
            assert place.due > clock.time()
        if letter is not None and kind != "good":
            if kind != "broken":  # of which retries have been spent
                assert letter.data == data
            assert type(letter.data) is type(data)
            assert letter.error.isprintable()
        ends[kind if kind != "good" else "failed" if letter else "later" if place else "ran"] += 1
    gator.close()
