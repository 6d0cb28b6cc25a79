"""Define the backends of the state machine: how time passes there, and how a lease ends."""

import time
import uuid

from alligator.backends.beanstalk import client as beanstalk_client
from alligator.backends.locmem import client as locmem_client
from alligator.backends.redis import client as redis_client
from alligator.backends.sqlite import client as sqlite_client
from alligator.backends.sqs import client as sqs_client
from alligator.constants import RUNNING
from alligator.testing import FakeClock
from tests.property.reference_model import Kind
from tests.support.servers.sqs import make_queue


class Environment:
    """A backend on a real clock: leases end only where a test lets them; all others are long."""

    kind = Kind()
    leases = (600.0,)  # seconds
    delays = (-5.0, 1000.0)  # seconds; the long one does not end within a test
    has_fake_clock = False
    most_lapses = 1000  # in one history
    backend = None

    def __init__(self, dsn):
        self.dsn = dsn
        self.queue = f"q-{uuid.uuid4().hex[:8]}"

    def prepare(self, client):
        """Make the queue, where that takes more than its name."""

    def open(self):
        """Return a new client."""
        return self.backend.Client(self.dsn)

    def now(self):
        """Return the time as the backend sees it."""
        return time.time()

    def end_lease(self, machine, item):
        """Let the lease of a running task end by itself."""
        lease = 0.01
        machine.extend(machine.client, [item.holder], lease)
        time.sleep(lease + 0.005)  # from its answer on: it may have come late

    def closed(self, machine, client):
        """Take note that a client was closed with the leases it had."""

    def to_the_end(self):
        """Let all delays and leases end, where that takes no time."""


class Faked(Environment):
    """A backend on a clock moved by hand: leases and delays of all lengths, and they end."""

    leases = (7.0, 60.0, 3000.0)
    delays = (-5.0, 7.0, 60.0, 3000.0)
    has_fake_clock = True

    def __init__(self, dsn):
        super().__init__(dsn)
        self.clock = FakeClock()

    def open(self):
        return self.backend.Client(self.dsn, clock=self.clock)

    def now(self):
        return self.clock.time()

    def end_lease(self, machine, item):
        self.clock.advance(max(0.0, item.ends - self.now()))

    def to_the_end(self):
        self.clock.advance(20_000.0)


class Locmem(Faked):
    backend = locmem_client


class Sqlite(Faked):
    backend = sqlite_client


class Redis(Environment):
    backend = redis_client


class Beanstalk(Environment):
    """The server gives ids and leases; those of a lost connection end at once."""

    backend = beanstalk_client
    kind = Kind(ids="changing", portable=False, remembers=True)

    def end_lease(self, machine, item):
        machine.crash_of(machine.owner(item.holder))

    def closed(self, machine, client):
        lost = [
            item
            for item in machine.model.items.values()
            if item.state == RUNNING and machine.owner(item.holder) is client
        ]
        for item in lost:
            machine.model.lapse(item)
        running = machine.model.counts()[2]
        deadline = time.monotonic() + 20
        while machine.clients[0].stats(self.queue).running != running:
            assert time.monotonic() < deadline, "the server did not take its jobs back"
            time.sleep(0.001)


class Sqs(Environment):
    """No order, no ids, counts about right; a lease is a second at least."""

    backend = sqs_client
    most_lapses = 1
    kind = Kind(ids="given", in_order=False, exact=False, portable=False, remembers=True)

    def prepare(self, client):
        for name in (self.queue, f"{self.queue}-dead"):
            make_queue(client.conn, name)

    def end_lease(self, machine, item):
        held = [each for each in machine.model.items.values() if each.state == RUNNING]
        for each in held:
            machine.extend(machine.owner(each.holder), [each.holder], 1.0)
        time.sleep(1.1)
        for each in held:
            machine.model.lapse(each)
            each.holder = None  # refused from now on, by the client's own clock
