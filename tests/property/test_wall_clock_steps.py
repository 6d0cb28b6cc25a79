"""Set the wall clock forward and back by up to an hour, between any two operations.

What is promised: nothing is hidden for longer than its lease or delay and the step together,
nothing comes earlier than the step explains, and no lease lasts for ever. On a server with a
clock of its own, a client's clock does not matter.
"""

import time
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alligator.backends.base import MAX_LEASE, Reason
from alligator.backends.locmem import client as locmem_client
from alligator.backends.redis import client as redis_client
from alligator.backends.sqlite import client as sqlite_client
from alligator.testing import FakeClock

HOUR = 3600.0
YEAR = 365 * 24 * HOUR
STEPS = st.lists(st.integers(-3600, 3600).map(float), min_size=6, max_size=6)
SPANS = st.sampled_from([0.5, 30.0, 900.0, HOUR, MAX_LEASE])

profile = settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Stepping:
    """A client whose wall clock steps after each operation, to anywhere within an hour of true.

    When the steps are used up, time only goes on.
    """

    def __init__(self, client, clock, offsets=()):
        self.client, self.clock = client, clock
        self.queue = f"q-{uuid.uuid4().hex[:8]}"
        self.offsets, self.offset = list(offsets), 0.0
        self.mark()

    def mark(self):
        """Count time and steps from now on."""
        self.began, self.true, self.seen = self.clock.monotonic(), self.offset, [0.0]

    @property
    def passed(self):
        """How many seconds have passed in truth."""
        return self.clock.monotonic() - self.began

    def do(self, operation, *args, **options):
        """Call an operation of the client; then the clock steps."""
        self.seen.append(self.offset - self.true)
        found = getattr(self.client, operation)(*args, **options)
        if self.offsets:
            before, self.offset = self.offset, self.offsets.pop(0)
            self.clock.step(self.offset - before)
        return found

    def push(self, data, delay=None):
        due = None if delay is None else self.clock.time() + delay
        self.do("push", self.queue, "x", data, due)

    def reserve(self, lease=MAX_LEASE):
        """Reserve one task, or None."""
        found = self.do("reserve", [self.queue], 1, lease).deliveries
        return found[0] if found else None

    def running(self):
        """Push a task and reserve it."""
        self.push("running")
        return self.reserve()


def delayed(it, span):
    it.mark()
    it.push("1", span)


def leased(it, span):
    it.push("1")
    it.mark()
    assert it.reserve(span)


def extended(it, span):
    held = it.running()
    it.mark()
    assert it.do("extend", [held], span) == []


def released(it, span):
    held = it.running()
    it.mark()
    assert it.do("release", held, None, it.clock.time() + span)


def retried(it, span):
    held = it.running()
    it.mark()
    assert it.do("release", held, "again", it.clock.time() + span)


def behind(it, span):
    held = it.running()
    it.mark()
    it.push("behind", span)
    assert it.do("ack", [held]) == []


HIDINGS = [delayed, leased, extended, released, retried, behind]


@pytest.fixture(params=[locmem_client, sqlite_client], ids=["locmem", "sqlite"])
def stepping(request, tmp_path):
    """Make clients whose clock steps, on one place."""
    clock = FakeClock()
    scheme = request.param.__name__.rpartition(".")[2].removesuffix("_backend")
    client = request.param.Client(f"{scheme}://{tmp_path}/q.db", clock=clock)
    yield lambda offsets=(): Stepping(client, clock, offsets)
    client.close()


@pytest.mark.parametrize("hide", HIDINGS, ids=lambda hide: hide.__name__)
def test_hidden_no_longer_and_no_shorter_than_the_steps_explain(stepping, hide):
    @profile
    @given(STEPS, SPANS)
    def check(offsets, span):
        it = stepping(offsets)
        hide(it, span)
        while not it.reserve():
            assert it.passed <= span - min(it.seen), "hidden for too long"
            rest = span - it.passed - it.seen[-1]
            it.clock.advance(max(0.25, rest - 0.25) if rest > 0 else 60.0)
        assert it.passed >= span - max(it.seen), "early"

    check()


def revived(it):
    assert it.do("bury", it.running(), None, Reason("why"))
    assert it.do("revive", it.queue) == 1


AT_ONCE = {
    "pushed": lambda it: it.push("1"),
    "meant for a minute ago": lambda it: it.push("1", -60.0),
    "handed back": lambda it: it.do("release", it.running()),
    "retried": lambda it: it.do("release", it.running(), "again"),
    "retried, meant for a minute ago": lambda it: it.do(
        "release", it.running(), "again", it.clock.time() - 60.0
    ),
    "revived": revived,
    "behind a running one": lambda it: (
        held := it.running(),
        it.push("behind"),
        it.do("ack", [held]),
    ),
    "behind a running one, for a minute ago": lambda it: (
        held := it.running(),
        it.push("behind", -60.0),
        it.do("ack", [held]),
    ),
}


@pytest.mark.parametrize("how", AT_ONCE)
def test_what_is_for_now_is_never_hidden(stepping, how):
    @profile
    @given(STEPS)
    def check(offsets):
        it = stepping(offsets)
        AT_ONCE[how](it)
        assert it.reserve() is not None

    check()


@pytest.mark.parametrize("lease", [30.0, MAX_LEASE, YEAR])
@pytest.mark.parametrize("back", [HOUR, 30 * YEAR])
def test_no_lease_is_immortal(stepping, lease, back):
    it = stepping([0.0, -back])
    it.push("1")
    assert it.reserve(lease).deaths == 0
    assert it.reserve() is None  # a worker looks, and sees the new time
    it.clock.advance(MAX_LEASE)
    assert it.reserve().deaths == 1


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_redis_goes_by_its_own_clock(redis_dsn, off):
    client = redis_client.Client(redis_dsn, clock=FakeClock(time.time() + off))
    queue = f"q-{uuid.uuid4().hex[:8]}"

    def seconds_until_there(since):
        while not (found := client.reserve([queue], 1, 0.2).deliveries):
            assert time.monotonic() - since < 20, "hidden for too long"
        return found[0], time.monotonic() - since

    began = time.monotonic()
    client.push(queue, "x", "1", time.time() + 0.2)
    _, passed = seconds_until_there(began)
    assert passed > 0.15
    again, passed = seconds_until_there(began + passed - 0.05)
    assert (again.deaths, passed > 0.15) == (1, True)
    began = time.monotonic()
    assert client.release(again, "retry", time.time() + 0.2)
    retry, passed = seconds_until_there(began)
    assert (retry.data, passed > 0.15) == ("retry", True)
    assert client.bury(retry, None, Reason("why"))
    assert client.purge_dead(queue, 60.0) == 0
    assert abs(client.dead(queue)[0].died_at - time.time()) < 60
    client.drop_all(queue)
    client.close()
