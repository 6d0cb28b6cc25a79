"""What a worker holds, and the thread that keeps it while the worker is busy.

The thread has three duties: it extends the leases of everything held, sends acks that
have waited for :data:`ACK_WITHIN`, and hands tasks back that do not get their turn. It
also watches over the grace time of a worker that was told to stop, notes on what is held that
it was, and tells again what could not be told: after an outage, and until a backend that is full
takes it.
"""

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from alligator.backends.base import MAX_LEASE, Client, Delivery, never
from alligator.common import after_fork
from alligator.common.text import shorten
from alligator.exceptions import NodeLost, QueueFull
from alligator.execution.acks import ACK_WITHIN, Acks, report_refused
from alligator.execution.lease_process import LeaseProcess
from alligator.execution.outage import Outage, tasks
from alligator.execution.reach import Reach
from alligator.execution.sent_ahead import SentAhead
from alligator.execution.unsettled import Unsettled

#: Seconds beyond the expected after which tasks that have not started are handed back.
PATIENCE = 0.1

#: Seconds after which they are handed back even if it was to be expected.
LONGEST_WAIT = 0.5

_LONGEST_PAUSE = 0.2

#: Seconds in which it is said once that the process stood still.
_SAID_FOR = 60.0

#: How many times as long a lease is, for each time that it ran out; and for how many of these.
LONGER = 4.0
_MOST_LAPSES = 2

#: Seconds before acks, or hand-backs, are tried again that the backend had no room for.
_REFUSED_PAUSE = 1.0


class Leases:
    """The deliveries of one worker: waiting for their turn, running, or done and not yet acked.

    Use it as a context manager: on leaving, acks are sent and what has not run is handed back.

    :param lease: seconds that a lease runs; it is extended every third of that.
    :param watch: called at every turn of the thread, at least every 0.2 s.
    :param outage: that of the worker, where it has one.
    :param process: what keeps leases while this thread cannot run; it is told what is held.
    """

    def __init__(
        self,
        client: Client,
        lease: float,
        *,
        log: logging.Logger,
        watch: Callable[[], None] | None = None,
        outage: Outage | None = None,
        process: LeaseProcess | None = None,
    ) -> None:
        self._process = process
        self._stood_still_at = -math.inf  # monotonic: when that was said last
        self.client, self.lease, self.log, self.watch = client, lease, log, watch
        self.expected = 0.0  # seconds that a task is expected to take
        self._beat = min(lease, client.lease_seconds or lease) / 3
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._arrived = threading.Condition(self._lock)
        self._reach = Reach()
        self._waiting: deque[Delivery] = deque()
        self._lookers = 0  # threads in wait_for_turn
        self._idle = 0  # threads in start_next
        self._leavers = 0  # have ended, and keep their place until it has been told of them
        self._running: dict[int, Delivery] = {}  # by id(): one task id may be on two queues
        self._settling: set[int] = set()  # of those, by id(): the settling says what was lost
        self._last_start = 0.0
        self._next_beat = 0.0
        self._ahead = SentAhead()
        self._noted: dict[int, Delivery] = {}  # as held by one who is being stopped; by id()
        self._outage = outage or Outage(log)
        self._unsettled = Unsettled(self._outage, self._was_overtaken)
        self._refused = dict[str, float]()  # duties that there was no room for, and until when
        #: For what has run.
        self.acks = Acks(client, self._outage, self._turn, log)
        self._extending = True
        self._leaving = threading.Lock()
        self._closed = False
        self._handing_back = threading.RLock()
        self._wake = threading.Event()
        self._rests = True  # longer than an ack may wait
        self._thread = threading.Thread(target=self._keep, name="alligator-leases", daemon=True)

    def __enter__(self) -> Self:
        self._next_beat = time.monotonic() + self._beat
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join(_LONGEST_PAUSE + 10)
        self._try(self.hand_back)
        self._try(self.acks.send)
        self._try(self._tell_the_last)

    # -- Called by the worker. ----------------------------------------------------------------

    def send_ahead(self, queue_names: Sequence[str], limit: int) -> None:
        """Send for a further batch, and acks with that, while what is held is run.

        :raises AlligatorException: it is not known whether that got through.
        """
        acks = self.acks.take()
        try:
            ahead = self.client.begin_reserve(queue_names, limit, self.lease, acks=acks)
        except BaseException:
            self.acks.give_back(acks)
            raise
        if ahead is None:
            self.acks.put_back(acks)
        else:
            self._ahead.put(ahead, acks)

    def collect(self) -> int | None:
        """Hold what was sent for; return how many came. None: nothing was sent for.

        :raises AlligatorException: the reply did not come; its acks are sent again.
        """
        sent = self._ahead.take()
        if sent is None:
            return None
        ahead, acks = sent
        try:
            found, refused = ahead.read()
        except BaseException:
            self.acks.give_back(acks)
            raise
        self.acks.were_sent(acks, refused)
        self.take(found)
        return len(found)

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Hold what was just reserved."""
        with self._turn:
            self._waiting.extend(deliveries)
            if self._process is not None and not self._process.hold(deliveries):
                self._note_held()
            self._last_start = time.monotonic()
            self._turn.notify_all()
            self._arrived.notify(len(deliveries))
        if len(deliveries) > 1:
            self._wake.set()

    def start_next(self, wait: float = 0.0, most: float = math.inf) -> Delivery | None:
        """Return the next delivery, now running; None: none came within ``wait`` seconds.

        :param most: how many may run at the same time.
        """
        now = time.monotonic()
        if self._process is not None and not self._process.is_fresh(now):
            self._come_back()
            now = time.monotonic()
        with self._lock:
            if not self._waiting or self._taken() >= most:
                if wait:
                    self._idle += 1
                    try:
                        self._arrived.wait(wait)
                    finally:
                        self._idle -= 1
                if not self._waiting or self._taken() >= most:
                    return None
                now = time.monotonic()
                if self._process is not None and not self._process.is_fresh(now):
                    return None  # it stood still in the meantime: look first
            delivery = self._waiting.popleft()
            self._running[id(delivery)] = delivery
            if self._process is not None:
                self._process.started()
            self._last_start = now
            if self._lookers and not self._waiting:
                self._turn.notify_all()
            return delivery

    def unattended(self, most: float) -> float:
        """Return the seconds since something started, where more could and no thread is idle."""
        with self._lock:
            if self._idle or not self._waiting or self._taken() >= most:
                return 0.0
            return time.monotonic() - self._last_start

    def settles(self, delivery: Delivery) -> None:
        """A running delivery is about to be settled by something else than an ack.

        Its lease is kept until :meth:`end`, but a heartbeat that finds it gone says nothing from
        here on: mostly it has just been settled. If it was lost, the settling is refused.
        """
        with self._lock:
            if id(delivery) in self._running:
                self._settling.add(id(delivery))

    def end(self, delivery: Delivery, *, ack: bool, leaves: bool = True) -> bool:
        """A delivery has run; with ``ack`` it is acked soon, else it has been settled.

        :param leaves: False: it keeps its place among those that run until :meth:`leave`.
        :returns: whether acks have waited long enough.
        """
        due = False
        with self._lock:
            self._running.pop(id(delivery), None)
            if self._settling:
                self._settling.discard(id(delivery))
            if ack:
                due = self.acks.add(delivery, time.monotonic())
            self._leavers += not leaves
            if (self._idle or self._lookers) and (leaves or not self._waiting):
                self._tell_of_end()
        if self._reach.differs:
            self._reach.forget(delivery)
        return due

    def leave(self) -> None:
        """Free the place of a delivery that has ended, and was left there."""
        with self._lock:
            self._leavers -= 1
            self._tell_of_end()

    def _tell_of_end(self) -> None:
        if self._waiting:
            if self._idle:  # for want of a place among those that run
                self._arrived.notify()
        elif self._lookers:
            self._turn.notify_all()

    def _taken(self) -> int:
        return len(self._running) + self._leavers

    def ack_soon(self) -> None:
        """Have the thread send acks as soon as they have waited for long enough.

        At once, where no company is to be expected: whatever depends on them may be all there is.
        """
        if not (self._running or self._waiting or self._lookers):
            self.acks.hurry()
            self._wake.set()
        elif self._rests:
            self._wake.set()

    @property
    def is_closed(self) -> bool:
        """Whether the thread has ended, or is about to."""
        return self._closed

    def cover(self, delivery: Delivery, seconds: float) -> None:
        """Let the lease of a running delivery reach for so long, though no heartbeat came.

        :raises AlligatorException: it could not be told; the next heartbeat says it again.
        """
        self._reach.cover(delivery, seconds)
        if seconds > 2 * self._beat:  # as much as any lease has left, while heartbeats go on
            lease = min(max(seconds, self.lease, self._reach.least(delivery)), MAX_LEASE)
            self._tell_of_lost(self.client.extend([delivery], lease))

    def lengthen(self, delivery: Delivery) -> None:
        """Before a task runs whose lease ran out before: let it have a longer one this time.

        Its worker may have lived, and C code kept this thread there from extending it. With a
        process beside the worker that cannot be. It raises nothing: what fails is said again
        by the next heartbeat.
        """
        client = self.client
        if self._process is not None or delivery.deaths >= client.max_deaths:
            return
        if lapses := min(client.lapses(delivery), _MOST_LAPSES):
            usual = max(self.lease, client.lease_seconds or 0.0)
            lease = min(usual * LONGER**lapses, MAX_LEASE)
            self._reach.lengthen(delivery, lease)
            self._try(lambda: self._stretch(delivery, lease))

    def _stretch(self, delivery: Delivery, lease: float) -> None:
        if not self.client.stretch(delivery, lease):
            self._tell_of_lost([delivery])

    def give_up(self, delivery: Delivery) -> None:
        """Let the lease of a running delivery run out."""
        self._reach.give_up(delivery)

    def wake_all(self) -> None:
        """Let everybody who waits look again."""
        with self._turn:
            self._turn.notify_all()
            self._arrived.notify_all()

    def tell_later(
        self,
        delivery: Delivery,
        tell: Callable[[], object],
        err: Exception,
        due: float | None = None,
        leased: Callable[[Delivery], object] | None = None,
    ) -> None:
        """Keep the lease of a delivery that could not be settled, and settle it by ``tell``.

        :param err: why it could not; with :exc:`QueueFull` it is told until the backend takes it.
        :param due: the Unix timestamp before which it must not run again, if it is to.
        :param leased: called if the same task is reserved here anew: ``tell`` is then about that.
        """
        self._unsettled.add(delivery, tell, err, due, leased)
        if self._closed:  # it ended after its worker, and nobody will tell it
            self._try(self._tell_the_last)

    def take_back(self, found: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return what is to be run of that which was just reserved: not what is held already."""
        return self._unsettled.take_back(found) if found and self._unsettled else found

    def outcomes_held(self) -> int:
        """Return how many have run whose outcome the backend has no room for just now."""
        return self._unsettled.count_refused()

    def wait_for_room(self, seconds: float, over: Callable[[], bool] = never) -> None:
        """Wait so long at most, and not any longer than until ``over()``, for it to take them."""
        until = time.monotonic() + seconds
        while self.outcomes_held() and time.monotonic() < until and not over():
            time.sleep(min(0.05, seconds))

    def catch_up(self, *, at_once: bool = False) -> None:
        """After an outage: keep the leases of what is held, then tell what could not be told.

        Call it before anything is reserved, which might be just that.

        :param at_once: a node that was lost answers again.
        """
        if at_once or self._outage.lasts or self._unsettled.is_due():
            self.acks.unpark()
            self._extend()
            self._unsettled.tell_all(at_once=at_once)

    def _tell_the_last(self) -> None:
        """Tell what is left for the last time; what there is no room for is handed back."""
        try:
            self._unsettled.tell_all(at_once=True)
        finally:
            self._hand_back_untold()

    def _hand_back_untold(self) -> None:
        untold = self._unsettled.take_refused()
        for index, (delivery, due) in enumerate(untold):
            try:
                self.client.release(delivery, None, due)
            except Exception as err:
                why = f"back by the lease, as it runs out ({err})"
                self._warn_of_untold(len(untold) - index, why)
                untold = untold[:index]
                break
        self._warn_of_untold(len(untold), "back")

    def _warn_of_untold(self, count: int, how: str) -> None:
        if count:
            self.log.warning(
                "The outcome of %s was not taken in time: handed %s, to run again.",
                tasks(count),
                shorten(how, 500),
            )

    def wait_for_turn(self, timeout: float, most: int = 0) -> None:
        """Block until the last of those that wait starts, or something ends or is handed back.

        :param most: return at once if nothing waits and fewer run: that just came about.
        """
        with self._lock:
            if not self._waiting and self._taken() < most:
                return
            self._lookers += 1
            try:
                self._turn.wait(timeout)
            finally:
                self._lookers -= 1

    def counts(self) -> tuple[int, int]:
        """Return how many wait for their turn, and how many run, or keep their place."""
        with self._lock:
            return len(self._waiting), self._taken()

    def hand_back(self) -> None:
        """Release what has not started."""
        with self._handing_back:
            self._try(self.collect)
            with self._turn:
                unstarted, self._waiting = list(self._waiting), deque()
                self._note_held()
                self._turn.notify_all()
            stay: list[Delivery] = []
            try:
                while unstarted:
                    try:
                        self.client.release(unstarted[-1])
                        self._outage.ends()
                    except NodeLost as err:  # those of other nodes go back all the same
                        stay.append(unstarted[-1])
                        self._outage.begins(err)
                    unstarted.pop()
            finally:
                if unstarted or stay:
                    with self._turn:
                        self._waiting.extendleft(stay)
                        self._waiting.extendleft(reversed(unstarted))
                        self._note_held()
                        self._arrived.notify_all()

    def note_stop(self) -> None:
        """Note on all that is held that its worker is being stopped, where the backend can.

        So a kill that follows counts as no death. Call it again and again, since more may come;
        what was noted is not noted again. It raises nothing: what fails is tried again then.
        """
        if self.client.notes_stops and self._outage.try_is_due():
            self._try(self._note_stop)

    def _note_stop(self) -> None:
        self._try(self.collect)
        fresh = [each for each in self._held() if id(each) not in self._noted]
        if fresh:
            untold = set[int]()
            try:
                self.client.note_stop(fresh)
                self._outage.ends()
            except NodeLost as err:
                untold = set(map(id, err.untold))
                self._outage.begins(err)
            # Them, and not only their ids, of which another may get one that is free again.
            self._noted.update((id(each), each) for each in fresh if id(each) not in untold)

    def wait_for_hand_back(self) -> None:
        """Block while tasks are neither held nor back on their queue."""
        with self._handing_back:
            pass

    def is_quiet(self) -> bool:
        """Whether nothing waits or runs, and no ack is to be sent, or on its way.

        An ack may queue further tasks: those that waited for the one that is done.
        """
        with self._lock:
            held = self._waiting or self._running or self._ahead
            return not (held or self.acks.are_on_their_way())

    def release_all(self, but: Delivery | None = None) -> None:
        """Release also what is running: this process is about to leave it.

        :param but: the one that makes it leave; its lease runs out, which counts as a death.
        """
        self._extending = False
        # Whoever calls second may end the process: not before the first is through.
        with self._leaving:
            self._try(self.acks.send)
            self._try(self.hand_back)
            self._try(self._tell_the_last)
            with self._lock:
                running, self._running = list(self._running.values()), {}
                self._settling.clear()
            for delivery in running:
                if delivery is but:
                    continue
                self._try(lambda each=delivery: self.client.release(each))  # type: ignore[misc]

    def snapshot(self) -> tuple[list[Delivery], list[Delivery]]:
        """Return what is to be acked, and what waits or runs; for :meth:`release_by`."""
        with self._lock:
            return self.acks.unsent(), [*self._waiting, *self._running.values()]

    def release_by(
        self,
        client: Client,
        held: tuple[Sequence[Delivery], Sequence[Delivery]],
        but: Delivery | None = None,
    ) -> None:
        """Do what :meth:`release_all` does, over another client, where that does not end.

        To say it twice changes nothing: a lease that has ended is not ended again. It takes no
        lock, since whoever holds one may never let it go.

        :param client: one for the same backend; leases are known by what is in the deliveries.
        :param held: the :meth:`snapshot`.
        """
        acks, deliveries = held
        with contextlib.suppress(Exception):
            if acks:
                client.ack(acks)
        for delivery in deliveries:
            if delivery is not but:
                with contextlib.suppress(Exception):  # it comes back by its lease
                    client.release(delivery)

    def stop_extending(self) -> None:
        """Let the leases of what runs end by themselves."""
        self._extending = False

    # -- The thread. --------------------------------------------------------------------------

    def _keep(self) -> None:
        origin = after_fork.generation
        while not self._closed:
            self._rests = True  # first, so that an ack that comes from here on is heard of
            pause = self._pause()
            self._rests = pause > ACK_WITHIN
            began = time.monotonic()
            self._wake.wait(pause)
            self._wake.clear()
            stood_still = time.monotonic() - began - pause
            if self._process is not None:
                self._come_back()
                self._process.beat()
            self._say_it_stood_still(stood_still)
            if self.watch:
                self.watch()
                after_fork.leave_unless(origin)  # a child that what is called there has forked
            if self._extending and self._outage.try_is_due():
                self._try(self._duties)

    def _pause(self) -> float:
        if self._outage.lasts:
            return _LONGEST_PAUSE
        if self.acks or self._waiting or self._ahead:
            return _LONGEST_PAUSE / 4 if self._refused else ACK_WITHIN
        return max(0.0, min(_LONGEST_PAUSE, self._next_beat - time.monotonic()))

    def _duties(self) -> None:
        self.acks.unpark()
        if self.acks.are_due():
            self._if_taken("acks", self.acks.send)
        patience = min(self.expected + PATIENCE, LONGEST_WAIT)
        overdue = time.monotonic() - self._last_start > patience
        if (self._waiting or self._ahead) and self._taken() and overdue:
            self._if_taken("hand-backs", self.hand_back)
        self.catch_up()
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + self._beat / 4  # in case that it is refused
            self._extend()
            self._next_beat = time.monotonic() + self._beat

    def _if_taken(self, name: str, duty: Callable[[], object]) -> None:
        """Do a duty; where there is no room for it, do it later, and the others in any case."""
        if time.monotonic() < self._refused.get(name, 0.0):
            return
        try:
            duty()
        except QueueFull as err:
            self._refused[name] = time.monotonic() + _REFUSED_PAUSE
            self._outage.begins(err)
        else:
            self._refused.pop(name, None)

    def _extend(self) -> None:
        if self._process is not None:
            self._process.look_after()
        self._try(self.collect)  # leases run from when it was sent
        held = self._held()
        if not held:
            return
        lost: list[Delivery] = []
        node_lost: NodeLost | None = None
        for lease, deliveries in self._reach.leases(held, self.lease):
            try:
                lost += self.client.extend(deliveries, lease)
            except NodeLost as err:
                lost += err.refused
                node_lost = err
        if node_lost is None:
            self._outage.ends()
        else:
            self._outage.begins(node_lost)
        gone = {id(delivery) for delivery in lost}
        self._unsettled.drop(gone)
        with self._lock:
            self._waiting = deque(each for each in self._waiting if id(each) not in gone)
            self._note_held()
        self._tell_of_lost(lost)

    def _note_held(self) -> None:
        """With the lock: note anew what is held, for whoever keeps it if this process cannot."""
        if self._process is not None:
            started = [*self._running.values(), *self.acks.unsent()]
            self._process.rewrite(started + self._unsettled.deliveries(), self._waiting)

    def _come_back(self) -> None:
        """After a standstill, before anything starts: let go of what was handed back meanwhile."""
        if self._process is None or self._process.is_fresh(time.monotonic()):
            return
        taken: list[Delivery] = []
        with self._turn:
            if not self._process.is_fresh(time.monotonic()) and self._process.was_taken_back():
                taken, self._waiting = list(self._waiting), deque()
                self._note_held()
                self._turn.notify_all()
        for each in reversed(taken):  # again: it may have been broken off
            self._try(lambda each=each: self.client.release(each))  # type: ignore[misc]

    def _say_it_stood_still(self, seconds: float) -> None:
        now = time.monotonic()
        if seconds < max(self._beat, 1.0) or now - self._stood_still_at < _SAID_FOR:
            return
        self._stood_still_at = now
        self.log.warning(
            "Nothing of Python ran in this process for %.1f s: it was stopped, or C code kept the "
            "interpreter's lock. Its leases, of %g s, %s.",
            seconds,
            self.lease,
            "were not extended: what runs may run again elsewhere. Give tasks that do so a timeout "
            "that is long enough (their lease reaches beyond it), or the worker a longer lease"
            if self._process is None
            else "were kept by the process beside it, unless it was stopped",
        )

    def _held(self) -> list[Delivery]:
        with self._lock:
            held = [*self._waiting, *self._running.values(), *self.acks.unsent()]
        return held + self._unsettled.deliveries()

    def _tell_of_lost(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            running = [each for each in deliveries if id(each) in self._running]
            lost = [each for each in running if id(each) not in self._settling]
            for each in lost:  # in here, since it has to be before it ends
                self._reach.give_up(each)  # it is said once
        report_refused(self.log, lost)

    def _was_overtaken(self, delivery: Delivery, lost: bool) -> None:
        if lost:
            report_refused(self.log, [delivery])
            return
        self.log.info(
            "What became of task %s was told again and refused: it counted the first time, though "
            "the reply was lost, or the lease had run out.",
            shorten(delivery.task_id),
        )

    def _try(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except Exception as err:
            # Nothing is lost: what could not be said is said again, or the lease runs out.
            self._outage.begins(err)
