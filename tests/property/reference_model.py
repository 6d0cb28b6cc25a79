"""Model the contract of ``alligator/backends/base.py`` in plain Python, for one queue.

Slow, obvious, and without a thought for storage: what a backend does is held against it.
"""

from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from alligator.constants import DELAYED, FAILED, RUNNING, WAITING

TAIL, FRONT = 1, 0


@dataclass(frozen=True)
class Kind:
    """Where a backend may differ, as its documentation says."""

    ids: str = "own"  # or "given" by the server, or given and "changing" with retry and revival
    in_order: bool = True  # it can be told who is next
    exact: bool = True  # counts and deaths are exact
    portable: bool = True  # any client may settle what another one reserved
    remembers: bool = False  # to settle a task once more may be taken for a repeated success


@dataclass(eq=False)
class Item:
    """A task on the queue."""

    name: str
    data: Any
    priority: int = 0
    due: float = 0.0  # 0: now
    place: tuple[float, ...] = ()  # the order among its like
    state: int = WAITING
    task_id: str | None = None  # None: changed, and not seen since
    attempt: int = 0
    deaths: int = 0
    ends: float = 0.0  # of the lease
    holder: Any = None  # the delivery that may settle it
    behind: "tuple[Any, float, int] | None" = None  # pushed meanwhile: data, due, priority
    has_place: bool = True  # False: it was delayed when taken by its id
    put_at: Any = None  # its place when its data came, to which beanstalkd lets it go back


@dataclass
class Letter:
    """A dead letter."""

    data: Any
    priority: int
    error: str
    died_at: float
    task_id: str | None
    is_of_last_push: bool = True  # False: its id was pushed again since


def name_of(data: Any) -> str:
    """Return the name that the tests write into all data."""
    return (data if isinstance(data, str) else data.decode()).partition(".")[0]


@dataclass
class Model:
    """What should be there. Every method is told what time it is."""

    kind: Kind
    items: dict[str, Item] = field(default_factory=dict)
    dead: dict[str, Letter] = field(default_factory=dict)  # the oldest first
    settled: set[int] = field(default_factory=set)  # id() of deliveries that had their say
    _tickets: int = 0

    # -- Pushing. -------------------------------------------------------------------------

    def push(self, name, data, due, priority, now, task_id=None):
        """Queue, replace, or note down behind a running one."""
        due = due if due and due > now else 0.0
        item = self.items.get(name)
        self._overrule(name)
        if item is None:
            task_id = name if self.kind.ids == "own" else task_id
            item = self.items[name] = Item(name, data, priority, due, task_id=task_id)
        elif item.state == RUNNING:
            item.behind = (data, due, priority)
            return
        else:
            item.data = data
            if (item.priority, item.due) == (priority, due):
                return
            item.priority, item.due = priority, due
        self._to_tail(item)
        item.put_at = item.place

    def _ticket(self):
        self._tickets += 1
        return self._tickets

    def _to_tail(self, item, ticket=None):
        item.place, item.has_place = (TAIL, ticket or self._ticket()), True
        item.state = DELAYED if item.due else WAITING

    # -- Leasing. -------------------------------------------------------------------------

    def reserved(self, found, limit, lease, now, is_running):
        """Check what a reserve returned, and take note.

        :param is_running: asked for a name where two leases ended at the same instant.
        """
        if self._took_ended(found, lease, now, is_running):
            return
        self._promote(now)
        line = self.line()
        # One with deaths on its record goes alone.
        wanted = line[:1] + list(takewhile(lambda item: not item.deaths, line[1:limit]))
        if line and line[0].deaths:
            wanted = line[:1]
        names = [name_of(each.data) for each in found]
        assert len(set(names)) == len(names), "one task twice"
        taken = [self._known(each) for each in found]
        if self.kind.in_order:
            assert [self.key(item) for item in taken] == [self.key(item) for item in wanted]
        else:
            assert bool(taken) == bool(line)
            assert len(taken) <= limit
        for item, delivery in zip(taken, found, strict=True):
            assert item.state == WAITING, f"{item} was not there to take"
            self.lease(item, delivery, lease, now)

    def _took_ended(self, found, lease, now, is_running):
        """Expired leases go first and alone; with new data behind it, a task gives way."""
        while ended := [i for i in self.items.values() if i.state == RUNNING and i.ends <= now]:
            first = min(item.ends for item in ended)
            tied = [item for item in ended if item.ends == first]
            ticket = self._ticket()
            if all(item.behind for item in tied):
                for item in tied:
                    self.settle(item, now, ticket)
                continue
            assert len(found) == 1, "an expired lease goes first, and alone"
            (delivery,) = found
            item = self._known(delivery)
            assert item in tied, "another lease ended before"
            assert item.behind is None, "it had to give way"
            for other in tied:
                if other.behind and not is_running(other.name):
                    self.settle(other, now, ticket)
            self.lease(item, delivery, lease, now)
            return True
        return False

    def _known(self, delivery):
        name = name_of(delivery.data)
        assert name in self.items, f"{delivery.data!r} is not on the queue any more"
        return self.items[name]

    def _promote(self, now):
        ticket = self._ticket()
        for item in self.items.values():
            if item.state == DELAYED and item.due <= now:
                item.place = (FRONT, ticket, item.due)
                item.state, item.due = WAITING, 0.0

    def line(self):
        """Return the waiting tasks, in their order."""
        waiting = [item for item in self.items.values() if item.state == WAITING]
        return sorted(waiting, key=self.key)

    def key(self, item):
        """Return what tasks are ordered by; equal: no order is promised."""
        return (-item.priority, *item.place) if self.kind.in_order else ()

    def by_id(self, name, now):
        """Return what a reserve of this very id has to lease; None: nothing."""
        item = self.items.get(name)
        if item is not None and item.state == RUNNING:
            if item.ends > now:
                return None
            if item.behind:
                self.settle(item, now)
                item = self.items[name]
        if item is not None and item.state == DELAYED:
            item.due, item.has_place = 0.0, False
        return item

    def lease(self, item, delivery, lease, now):
        """Take note of a lease; the delivery must say what is known of the task."""
        item.attempt += 1
        item.deaths += item.state == RUNNING
        assert delivery.data == item.data
        assert type(delivery.data) is type(item.data)
        assert delivery.task_id == item.task_id or item.task_id is None
        if self.kind.exact:
            assert delivery.deaths == item.deaths
        if self.kind.ids == "own":
            assert delivery.attempt == item.attempt
        item.state, item.holder, item.ends = RUNNING, delivery, now + lease
        item.task_id = delivery.task_id

    # -- Settling. ------------------------------------------------------------------------

    def held(self, delivery):
        """Return the task that a delivery holds; None: it was overtaken, or is done."""
        item = self.items.get(name_of(delivery.data))
        return item if item is not None and item.holder is delivery else None

    def settle(self, item, now, ticket=None):
        """Remove a task; what was pushed behind it takes over."""
        self.settled.add(id(item.holder))
        del self.items[item.name]
        if item.behind:
            data, due, priority = item.behind
            due = due if due > now else 0.0
            self._overrule(item.name)
            heir = self.items[item.name] = Item(item.name, data, priority, due, task_id=item.name)
            self._to_tail(heir, ticket)

    def release(self, item, data, due, now):
        """Take a task back: unrun to its place, as a retry to the tail."""
        self.settled.add(id(item.holder))
        if item.behind:
            self.settle(item, now)
            return
        item.holder, item.due = None, due if due and due > now else 0.0
        if data is None and not item.due:
            assert item.has_place, "the test must not ask for what is not promised"
            item.state = WAITING
            return
        if data is not None:
            item.data, item.deaths = data, 0
            item.task_id = None if self.kind.ids == "changing" else item.task_id
        self._to_tail(item)
        if data is not None:
            item.put_at = item.place

    def lapse(self, item):
        """Let a lease end on a server that takes the task back at once."""
        item.state, item.deaths = WAITING, item.deaths + 1
        if not item.has_place:
            item.place, item.has_place = item.put_at, True

    def is_adrift(self, delivery):
        """Whether its lease ran out and no worker took the task since: the count is not defined."""
        item = self.held(delivery)
        return item is not None and item.state != RUNNING

    # -- Dead letters. --------------------------------------------------------------------

    def bury(self, item, data, error, now):
        """Make a task a dead letter."""
        self.dead.pop(item.name, None)
        data = item.data if data is None else data
        self.dead[item.name] = Letter(data, item.priority, error, now, item.task_id)
        self.settle(item, now)

    def _overrule(self, name):
        """A dead letter no longer tells the outcome of a task that is pushed again."""
        if name in self.dead:
            self.dead[name].is_of_last_push = False

    def revive(self, names, now):
        """Put dead letters back whose ids are not in use; return how many."""
        revived = [name for name in names if name in self.dead and name not in self.items]
        for name in revived:
            letter = self.dead.pop(name)
            task_id = None if self.kind.ids == "changing" else letter.task_id
            self.push(name, letter.data, None, letter.priority, now, task_id)
        return len(revived)

    def purge(self, until):
        """Forget the tasks that died up to a time; return how many."""
        old = [name for name, letter in self.dead.items() if letter.died_at <= until]
        for name in old:
            del self.dead[name]
        return len(old)

    # -- Looking. -------------------------------------------------------------------------

    def counts(self):
        """Return how many wait, are delayed, run, are dead."""
        states = [item.state for item in self.items.values()]
        behind = sum(item.behind is not None for item in self.items.values())
        running = states.count(RUNNING)
        return states.count(WAITING) + behind, states.count(DELAYED), running, len(self.dead)

    def find(self, name):
        """Return its state, and how many go first: least, and most where that is not promised."""
        item = self.items.get(name)
        if item is None:
            letter = self.dead.get(name)
            return (FAILED if letter and letter.is_of_last_push else None), 0, 0
        keys = [self.key(each) for each in self.line()]
        own = self.key(item)
        before = sum(key < own for key in keys)
        return item.state, before, before + keys.count(own) - 1
