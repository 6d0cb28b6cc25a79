"""Provide a client that fails when a test says so, before a call took effect or after."""

import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, wraps
from typing import Any

from alligator.backends.base import Client, Data, Delivery, Reserved, never
from alligator.backends.store import Queues, Store
from alligator.exceptions import AlligatorException, ConnectionLost

#: The methods that talk to a server, and so can fail.
OPERATIONS = Client.__abstractmethods__ | {
    "push",
    "pop",
    "get",
    "reserve",
    "stretch",
    "note_stop",
    "server_time",
    "position",
    "lost_nothing_since",
    "next_change",
    "durability_warning",
}

#: What a client says of itself, class by class or one by one.
_OWN_ATTRIBUTES = frozenset(Client.__annotations__)


class _When(Enum):
    """When calls are to fail: before they take effect, after, or either."""

    BEFORE = "before"
    AFTER = "after"
    DOWN = "down"


@dataclass(eq=False)
class _Plan:
    """Some calls that are to fail."""

    when: _When
    operations: frozenset[str]
    left: float  # so many calls
    probability: float
    error: type[AlligatorException] = ConnectionLost


def _passed_on(operation: str) -> Any:
    """Return a method that passes its call on to the client inside, unless it is to fail."""

    @wraps(getattr(Client, operation), updated=())  # else it would be abstract as well
    def method(self: "FlakyClient", *args: Any, **kwargs: Any) -> Any:
        return self._call(operation, *args, **kwargs)

    return method


class FlakyClient(Client):
    """Wraps a client and lets calls of it fail with :exc:`~alligator.exceptions.ConnectionLost`.

    ::

        flaky = FlakyClient(Client('locmem://test'))
        gator = Gator('locmem://test', backend_class=lambda dsn: flaky)

    An operation is a method of the client by its name: ``"push"``, ``"reserve"``, ``"ack"``, …
    (a batch is ``"push_many"``). Where none is named, all are meant. As long as nothing was
    planned, it does what the client inside does. It may be used from many threads.

    :param inner: the client to wrap.
    :param rng: where probabilities come from; a seeded one makes a test repeatable.
    """

    def __init__(self, inner: Client, rng: random.Random | None = None) -> None:
        super().__init__(inner.conn_string, clock=inner.clock)
        vars(self).update({name: getattr(inner, name) for name in _OWN_ATTRIBUTES})
        #: The client inside.
        self.inner = inner
        #: How often each operation was called.
        self.calls: Counter[str] = Counter()
        #: How many of those failed.
        self.failed: Counter[str] = Counter()
        self._rng = rng or random.Random(0)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        self._plans: list[_Plan] = []

    def __getattr__(self, name: str) -> Any:
        # What a client has beyond the contract, such as ``conn``.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    @cached_property
    def store(self) -> Store | None:
        """The store of the client inside. Its steps that push or ack fail as those do."""
        return None if self.inner.store is None else _FlakyStore(self, self.inner.store)

    # -- What a test says. ----------------------------------------------------------------

    def fail(
        self,
        *operations: str,
        times: float = 1,
        probability: float = 1.0,
        error: type[AlligatorException] = ConnectionLost,
    ) -> None:
        """Let the next calls fail *before* they take effect: the request was lost.

        :param times: how many; ``math.inf``: until :meth:`heal`.
        :param probability: how likely each call is to be one of them.
        :param error: :exc:`~alligator.exceptions.QueueFull`: it was refused, for want of room.
        """
        self._add(_When.BEFORE, operations, times, probability, error)

    def lose_reply(self, *operations: str, times: float = 1, probability: float = 1.0) -> None:
        """Let the next calls fail *after* they took effect: the reply was lost.

        Parameters as for :meth:`fail`.
        """
        self._add(_When.AFTER, operations, times, probability)

    @contextmanager
    def down(self, *operations: str) -> Iterator[None]:
        """Let every call fail inside the ``with``; one that was waiting when it began, too."""
        plan = self._add(_When.DOWN, operations, math.inf, 1.0)
        try:
            yield
        finally:
            with self._lock:
                if plan in self._plans:
                    self._plans.remove(plan)

    def heal(self) -> None:
        """Forget whatever was planned."""
        with self._lock:
            self._plans.clear()

    def _add(
        self,
        when: _When,
        operations: Sequence[str],
        times: float,
        probability: float,
        error: type[AlligatorException] = ConnectionLost,
    ) -> _Plan:
        if unknown := set(operations) - OPERATIONS:
            raise ValueError(f"Not among the operations of a client: {sorted(unknown)}.")
        plan = _Plan(when, frozenset(operations or OPERATIONS), times, probability, error)
        with self._lock:
            self._plans.append(plan)
        return plan

    # -- The outcome of a call. -----------------------------------------------------------

    def _call(self, operation: str, *args: Any, **kwargs: Any) -> Any:
        return self.try_call(operation, getattr(self.inner, operation), *args, **kwargs)

    def try_call(
        self, operation: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Return what a call returns, unless an operation of that name is to fail."""
        with self._lock:
            self.calls[operation] += 1
        self._strike(operation, _When.BEFORE, "request")
        result = call(*args, **kwargs)
        self._strike(operation, _When.AFTER, "reply")
        return result

    def _strike(self, operation: str, when: _When, what: str) -> None:
        """Raise if a plan says so."""
        with self._lock:
            for plan in self._plans:
                if plan.when not in (when, _When.DOWN) or operation not in plan.operations:
                    continue
                if plan.left > 0 and self._rng.random() < plan.probability:
                    plan.left -= 1
                    self.failed[operation] += 1
                    if plan.error is not ConnectionLost:
                        raise plan.error(f"The {what} of {operation!r} was refused on purpose.")
                    raise ConnectionLost(f"The {what} of {operation!r} was lost on purpose.")

    def _is_down(self, operation: str) -> bool:
        with self._lock:
            downs = [each for each in self._plans if each.when is _When.DOWN]
        return any(operation in each.operations for each in downs)

    # -- The contract. --------------------------------------------------------------------

    def check_queue_name(self, queue_name: str) -> None:
        """Ask the client inside; never fails on purpose."""
        self.inner.check_queue_name(queue_name)

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        """Ask the client inside; an operation ``"release"``, and fails with that."""
        call = self.inner.postpone
        return bool(self.try_call("release", call, delivery, data, delay_until))

    def max_size(self) -> int | None:
        """Ask the client inside; never fails on purpose."""
        return self.inner.max_size()

    def out_of_reach(self, queue_names: Sequence[str]) -> dict[str, str]:
        """Ask the client inside; never fails on purpose."""
        return self.inner.out_of_reach(queue_names)

    def age(self, delivery: Delivery) -> tuple[float, float] | None:
        """Return what the client inside does."""
        return self.inner.age(delivery)

    def close(self) -> None:
        """Close the client inside; never fails on purpose."""
        self.inner.close()

    def withdraw(self, *args: Any, **kwargs: Any) -> Reserved:
        """Fail as a ``reserve`` does."""
        return self.try_call("reserve", self.inner.withdraw, *args, **kwargs)  # type: ignore[no-any-return]

    def reserve(self, *args: Any, stop: Callable[[], bool] = never, **kwargs: Any) -> Reserved:
        """Ack, then lease. Tasks whose reply was lost come back when their lease ends."""

        def stops() -> bool:
            return stop() or self._is_down("reserve")

        return self._call("reserve", *args, stop=stops, **kwargs)  # type: ignore[no-any-return]

    len = _passed_on("len")
    drop_all = _passed_on("drop_all")
    push = _passed_on("push")
    push_many = _passed_on("push_many")
    pop = _passed_on("pop")
    get = _passed_on("get")
    ack = _passed_on("ack")
    release = _passed_on("release")
    extend = _passed_on("extend")
    stretch = _passed_on("stretch")
    lapses = _passed_on("lapses")
    note_stop = _passed_on("note_stop")
    bury = _passed_on("bury")
    dead = _passed_on("dead")
    letter = _passed_on("letter")
    revive = _passed_on("revive")
    purge_dead = _passed_on("purge_dead")
    delete_dead = _passed_on("delete_dead")
    run_now = _passed_on("run_now")
    find = _passed_on("find")
    peek = _passed_on("peek")
    stats = _passed_on("stats")
    server_time = _passed_on("server_time")
    position = _passed_on("position")
    lost_nothing_since = _passed_on("lost_nothing_since")
    queue_names = _passed_on("queue_names")
    next_change = _passed_on("next_change")
    durability_warning = _passed_on("durability_warning")


def _asked(name: str) -> Any:
    """Return a method that asks the store inside; never fails on purpose."""

    @wraps(getattr(Store, name), updated=())
    def method(self: "_FlakyStore", *args: Any, **kwargs: Any) -> Any:
        return getattr(self.inner, name)(*args, **kwargs)

    return method


def _shared(name: str, operation: str) -> Any:
    """Return a method that is one step with an operation of the client, and fails with it."""

    @wraps(getattr(Store, name), updated=())
    def method(self: "_FlakyStore", client: Client, *args: Any, **kwargs: Any) -> Any:
        step = getattr(self.inner, name)
        if client is not self.flaky:
            return step(client, *args, **kwargs)
        return self.flaky.try_call(operation, step, self.flaky.inner, *args, **kwargs)

    return method


class _FlakyStore(Store):
    """The store of the client inside, to which the client around it is its own."""

    def __init__(self, flaky: FlakyClient, inner: Store) -> None:
        self.flaky, self.inner = flaky, inner
        kinds = ("follows_queues", "bridged", "monitors")
        vars(self).update((name, getattr(inner, name)) for name in kinds)

    @property
    def home(self) -> Queues | None:
        home = self.inner.home
        return self.flaky if home is self.flaky.inner else home

    note = _asked("note")
    record = _asked("record")
    records = _asked("records")
    forget = _asked("forget")
    watch = _asked("watch")
    claim = _asked("claim")
    confirm = _asked("confirm")
    unclaim = _asked("unclaim")
    beat = _asked("beat")
    workers = _asked("workers")
    last_seen = _asked("last_seen")
    report = _asked("report")
    live_workers = _asked("live_workers")
    activity = _asked("activity")
    recent = _asked("recent")
    put_document = _asked("put_document")
    documents = _asked("documents")
    delete_documents = _asked("delete_documents")
    maintain = _asked("maintain")
    next_maintenance = _asked("next_maintenance")
    release_children = _asked("release_children")
    close = _asked("close")
    push_once = _shared("push_once", "push_many")
    hold = _shared("hold", "push_many")
    settle = _shared("settle", "ack")
    cancel_held = _shared("cancel_held", "ack")
    waits_for = _shared("waits_for", "peek")
    peek_held = _shared("peek_held", "peek")
    list_held = _shared("list_held", "peek")
