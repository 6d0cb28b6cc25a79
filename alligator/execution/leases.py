"""Track the deliveries of one worker, and extend their leases from a thread.

The thread also

* sends acks that have waited for :data:`~alligator.execution.acks.ACK_WITHIN`;
* hands back tasks that do not get their turn;
* settles outcomes that could not be settled: after an outage, and once a full backend has room;
* watches for a stop signal, and notes it on the deliveries, so that a kill counts as no death.
"""

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

from alligator.backends.base import MAX_LEASE, Ahead, Client, Delivery, never
from alligator.common import after_fork
from alligator.common.text import shorten
from alligator.exceptions import NodeLost, QueueFull
from alligator.execution.acks import ACK_WITHIN, Acks, report_refused
from alligator.execution.backend_trouble import Outage, tasks
from alligator.execution.lease_process import LeaseProcess
from alligator.execution.unsettled_outcomes import UnsettledOutcomes

#: Seconds beyond the expected after which tasks that have not started are handed back.
PATIENCE = 0.1

#: Seconds after which they are handed back even if the wait was to be expected.
LONGEST_PATIENCE = 0.5

_LONGEST_PAUSE = 0.2

#: Seconds in which the worker logs only once that its process stood still.
_SAID_FOR = 60.0

#: How many times as long a lease is, for each time that it ran out; and for how many of these.
LONGER = 4.0
_MOST_LAPSES = 2

#: Seconds before acks, or hand-backs, are sent again that the backend had no room for.
_REFUSED_PAUSE = 1.0


class Leases:
    """The deliveries of one worker: waiting, running, or done and not yet acked.

    Use it as a context manager: on leaving, acks are sent and what has not run is handed back.

    :param lease: seconds that a lease runs; it is extended every third of that.
    :param watch: called at every turn of the thread, at least every 0.2 s.
    :param outage: that of the worker, where it has one.
    :param process: the helper process, which extends leases while this thread cannot run.
    :param expected: returns the seconds that a task is expected to take.
    :param at_end: called as the ``with`` block ends, when nothing runs any more.
    :param refused: told of tasks that succeeded, and whose acks were refused.
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
        expected: Callable[[], float] = lambda: 0.0,
        at_end: Callable[[], None] | None = None,
        refused: Callable[[Sequence[Delivery]], None] | None = None,
    ) -> None:
        self.client, self.lease, self.log, self.watch = client, lease, log, watch
        self._expected, self._process, self._at_end = expected, process, at_end
        self._stood_still_at = -math.inf  # monotonic: when that was logged last
        self._every = min(lease, client.lease_seconds or lease) / 3
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._arrived = threading.Condition(self._lock)
        self._lengths = _Lengths()
        self._waiting: deque[Delivery] = deque()
        self._lookers = 0  # threads in wait_for_turn
        self._idle = 0  # threads in start_next
        self._kept_places = 0  # have ended, and keep their place until they are reported
        # With their starts (monotonic); by id(), since one task id may be on two queues.
        self._running: dict[int, tuple[Delivery, float]] = {}
        self._settling: set[int] = set()  # of those, by id(): the settlement reports a lost lease
        self._last_start = self._last_batch = 0.0  # monotonic; a batch has several
        self._extend_at = 0.0
        self._ahead: tuple[Ahead, list[Delivery]] | None = None  # with the acks that it carries
        self._ahead_lock = threading.Lock()
        self._noted: dict[int, Delivery] = {}  # with a note of the stop; by id()
        self._outage = outage or Outage(log)
        self._unsettled = UnsettledOutcomes(self._outage, self._was_overtaken)
        self._refused = dict[str, float]()  # duties that there was no room for, and until when
        self._acks = Acks(client, self._outage, self._lock, self._turn, log, refused)
        self._extending = True
        self._leaving = threading.Lock()
        self._closed = False
        self._handing_back = threading.RLock()
        self._wake = threading.Event()
        self._rests = True  # longer than an ack may wait
        self._thread = threading.Thread(target=self._serve, name="alligator-leases", daemon=True)

    def __enter__(self) -> Self:
        self._extend_at = time.monotonic() + self._every
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        self._wake.set()
        self._thread.join(_LONGEST_PAUSE + 10)
        self._outage.call(self.hand_back)
        self._outage.call(self._acks.send)
        self._outage.call(self._settle_the_last)
        if self._at_end is not None:
            self._at_end()

    # -- Reserving. ---------------------------------------------------------------------------

    def reserve(
        self,
        queue_names: Sequence[str],
        limit: int,
        wait: float,
        stop: Callable[[], bool],
        *,
        at_once: bool,
        may_end: bool,
    ) -> tuple[Sequence[Delivery], bool]:
        """Reserve deliveries, and send acks with that; the caller decides whether to :meth:`take`.

        :param at_once: whether a node that was lost answers again; see :meth:`catch_up`.
        :param may_end: whether the worker may end if nothing is there.
        :returns: those to run, and whether the worker may end: nothing waited, ran or was being
            acked before. (An ack may queue further tasks: the children of the task.)
        :raises AlligatorException: nothing was reserved; the acks are sent again.
        """
        acks = self._acks.take()
        try:
            quiet = may_end and self._is_quiet()
            self.catch_up(at_once=at_once)
            found, refused = self.client.reserve(
                queue_names, limit, self.lease, wait, acks=acks, stop=stop
            )
        except BaseException as err:
            self._acks.give_back(acks, err)
            raise
        self._outage.ends()
        self._acks.were_sent(acks, refused)
        return self.without_known(found), quiet

    def _is_quiet(self) -> bool:
        with self._lock:
            held = self._waiting or self._running or self._ahead
            return not (held or self._acks.are_on_their_way())

    def without_known(self, found: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the reserved deliveries to run: all but the tasks whose outcome waits here."""
        return self._unsettled.without_known(found) if found and self._unsettled else found

    def send_ahead(self, queue_names: Sequence[str], limit: int) -> None:
        """Send the request for a further batch, with acks, and do not wait for the reply.

        :raises AlligatorException: it is not known whether it got through.
        """
        acks = self._acks.take()
        try:
            ahead = self.client.begin_reserve(queue_names, limit, self.lease, acks=acks)
        except BaseException:
            self._acks.give_back(acks)
            raise
        if ahead is None:
            self._acks.put_back(acks)
        else:
            with self._ahead_lock:
                self._ahead = ahead, acks

    def collect(self) -> int | None:
        """Take the batch that was sent for; return its size. None: there was none.

        :raises AlligatorException: the reply did not come; its acks are sent again.
        """
        if self._ahead is None:
            return None
        with self._ahead_lock:  # one thread reads the reply
            sent, self._ahead = self._ahead, None
        if sent is None:
            return None
        ahead, acks = sent
        try:
            found, refused = ahead.read()
        except BaseException:
            self._acks.give_back(acks)
            raise
        self._acks.were_sent(acks, refused)
        self.take(found)
        return len(found)

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Let reserved deliveries wait for their turn here."""
        with self._lock:
            self._waiting.extend(deliveries)
            if self._process is not None and not self._process.hold(deliveries):
                self._share()
            now = self._last_start = time.monotonic()
            if self._lookers:
                self._turn.notify_all()
            if self._idle:
                self._arrived.notify(len(deliveries))
        if len(deliveries) > 1:
            self._last_batch = now
            if self._rests:  # else the thread looks soon enough
                self._wake.set()

    # -- Running. -----------------------------------------------------------------------------

    def start_next(self, wait: float = 0.0, most: float = math.inf) -> Delivery | None:
        """Return the next delivery, now running; None: none came within ``wait`` seconds.

        :param most: how many may run at the same time.
        """
        process, now = self._process, time.monotonic()
        if process is not None and now >= process.stale_at:
            self._come_back()
            now = time.monotonic()
        if not (self._waiting or wait):
            return None  # without the lock, as this is asked before each fetch
        with self._lock:
            if not self._waiting or len(self._running) + self._kept_places >= most:
                if not (wait and self._may_start_within(wait, most)):
                    return None
                now = time.monotonic()
            delivery = self._waiting.popleft()
            self._running[id(delivery)] = delivery, now
            if process is not None:
                process.started()
            self._last_start = now
            if self._lookers and not self._waiting:
                self._turn.notify_all()
            return delivery

    def _may_start_within(self, seconds: float, most: float) -> bool:
        self._idle += 1
        try:
            self._arrived.wait(seconds)
        finally:
            self._idle -= 1
        if not self._waiting or self._taken() >= most:
            return False
        # Else the process stood still in the meantime: the caller looks first.
        return self._process is None or time.monotonic() < self._process.stale_at

    def unattended(self, most: float) -> float:
        """Return the seconds since something started, where more could and no thread is idle."""
        with self._lock:
            if self._idle or not self._waiting or self._taken() >= most:
                return 0.0
            return time.monotonic() - self._last_start

    def settles(self, delivery: Delivery) -> None:
        """Note that a running delivery is about to be settled by another call than an ack.

        Its lease is extended until :meth:`end`. From here on, the thread reports no loss of the
        lease: mostly the delivery has just been settled. If it was lost, the settlement is refused.
        """
        with self._lock:
            if id(delivery) in self._running:
                self._settling.add(id(delivery))

    def end(self, delivery: Delivery, *, ack: bool, frees_place: bool = True) -> bool:
        """Note that a delivery has run; with ``ack`` it is acked soon, else it has been settled.

        :param frees_place: False: it keeps its place among the running ones until
            :meth:`free_place`.
        :returns: whether acks have waited long enough.
        """
        due = False
        with self._lock:
            self._running.pop(id(delivery), None)
            if self._settling:
                self._settling.discard(id(delivery))
            if ack:
                # In place, as this is done for every task: a call more takes 0.1 µs.
                acks, now = self._acks, time.monotonic()
                if not acks.unsent:
                    acks.oldest = now
                acks.unsent.append(delivery)
                due = now - acks.oldest >= ACK_WITHIN
            self._kept_places += not frees_place
            if (self._idle or self._lookers) and (frees_place or not self._waiting):
                self._notify_of_end()
        if self._lengths.differ:
            self._lengths.forget(delivery)
        return due

    def free_place(self) -> None:
        """Free the place of a delivery that has ended, and was left there."""
        with self._lock:
            self._kept_places -= 1
            self._notify_of_end()

    def _notify_of_end(self) -> None:
        if self._waiting:
            if self._idle:  # for want of a place among the running ones
                self._arrived.notify()
        elif self._lookers:
            self._turn.notify_all()

    def running(self) -> list[tuple[Delivery, float]]:
        """Return the deliveries that run, each with when it started (monotonic)."""
        with self._lock:
            return list(self._running.values())

    def _that_run(self) -> list[Delivery]:
        return [delivery for delivery, _ in self._running.values()]

    def _taken(self) -> int:
        return len(self._running) + self._kept_places

    def send_acks(self) -> None:
        """Send all acks now. If that fails, they are sent again."""
        self._outage.call(self._acks.send)

    def ack_soon(self) -> None:
        """Have the thread send acks as soon as they are due.

        They are due at once where nothing else is at hand: a child may wait for this very ack.
        """
        if not (self._running or self._waiting or self._lookers):
            self._acks.hurry()
            self._wake.set()
        elif self._rests:
            self._wake.set()

    @property
    def is_closed(self) -> bool:
        """Whether the thread has ended, or is about to."""
        return self._closed

    def unstarted(self) -> list[Delivery]:
        """Return the deliveries that wait for their turn here, in order."""
        with self._lock:
            return list(self._waiting)

    def last_unstarted(self) -> Delivery | None:
        """Return the last of these; None: there is none."""
        try:
            return self._waiting[-1]
        except IndexError:
            return None

    # -- The length of leases. ----------------------------------------------------------------

    def cover(self, delivery: Delivery, seconds: float) -> None:
        """Let the lease of a running delivery last so long, even if the thread cannot extend it.

        :raises AlligatorException: the backend could not be told; the thread tells it again.
        """
        self._lengths.cover(delivery, seconds)
        if seconds > 2 * self._every:  # as much as any lease has left, while the thread runs
            lease = min(max(seconds, self.lease, self._lengths.least(delivery)), MAX_LEASE)
            self._report_lost(self.client.extend([delivery], lease))

    def lengthen(self, delivery: Delivery) -> None:
        """Before a task runs whose lease ran out before, give it a longer one this time.

        Its worker may have lived, while C code kept this thread from extending the lease. With a
        helper process that cannot be. If the call fails, the thread repeats it.
        """
        client = self.client
        if self._process is not None or delivery.deaths >= client.max_deaths:
            return
        if lapses := min(client.lapses(delivery), _MOST_LAPSES):
            usual = max(self.lease, client.lease_seconds or 0.0)
            lease = min(usual * LONGER**lapses, MAX_LEASE)
            self._lengths.lengthen(delivery, lease)
            self._outage.call(lambda: self._stretch(delivery, lease))

    def _stretch(self, delivery: Delivery, lease: float) -> None:
        if not self.client.stretch(delivery, lease):
            self._report_lost([delivery])

    def give_up(self, delivery: Delivery) -> None:
        """Let the lease of a running delivery run out."""
        self._lengths.give_up(delivery)

    def stop_extending(self) -> None:
        """Let all leases run out by themselves."""
        self._extending = False

    # -- Outcomes that could not be settled. --------------------------------------------------

    def settle_later(
        self,
        delivery: Delivery,
        settle: Callable[[], object],
        err: Exception,
        due: float | None = None,
        leased: Callable[[Delivery], object] | None = None,
    ) -> None:
        """Extend the lease of a delivery that could not be settled, and call ``settle`` again.

        :param err: why it could not; with :exc:`QueueFull`, until the backend takes it.
        :param due: the Unix timestamp before which the task must not run again, if it is to.
        :param leased: called if the same task is reserved here again: ``settle`` is then about
            that lease.
        """
        self._unsettled.add(delivery, settle, err, due, leased)
        if self._closed:  # the task ended after its worker, whose thread has ended
            self._outage.call(self._settle_the_last)

    def outcomes_held(self) -> int:
        """Return how many have run whose outcome the backend has no room for just now."""
        return self._unsettled.count_blocked()

    def wait_for_room(self, seconds: float, over: Callable[[], bool] = never) -> None:
        """Block until the backend has taken these, ``over()``, or the time is up."""
        until = time.monotonic() + seconds
        while self.outcomes_held() and time.monotonic() < until and not over():
            time.sleep(min(0.05, seconds))

    def catch_up(self, *, at_once: bool = False) -> None:
        """After an outage, extend all leases, then settle the outcomes that are not settled.

        Call it before you reserve: the backend might deliver these very tasks.

        :param at_once: whether a node that was lost answers again.
        """
        if at_once or self._outage.lasts or self._unsettled.is_due():
            self._acks.unpark()
            self._extend()
            self._unsettled.settle_all(at_once=at_once)

    def _settle_the_last(self) -> None:
        """Settle what is unsettled for the last time; hand back what there is no room for."""
        try:
            self._unsettled.settle_all(at_once=True)
        finally:
            self._hand_back_unsettled()

    def _hand_back_unsettled(self) -> None:
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

    def _was_overtaken(self, delivery: Delivery, lost: bool) -> None:
        if lost:
            report_refused(self.log, [delivery])
            return
        self.log.info(
            "The outcome of task %s was sent again and refused: it counted the first time, though "
            "the reply was lost, or the lease had run out.",
            shorten(delivery.task_id),
        )

    # -- Waiting. -----------------------------------------------------------------------------

    def wait_for_turn(self, timeout: float, most: int = 0) -> None:
        """Block until the last waiting delivery starts, or one ends or is handed back.

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

    def wake_all(self) -> None:
        """Let all threads that wait here look again."""
        with self._turn:
            self._turn.notify_all()
            self._arrived.notify_all()

    def counts(self) -> tuple[int, int]:
        """Return how many wait for their turn, and how many run, or keep their place."""
        with self._lock:
            return len(self._waiting), len(self._running) + self._kept_places

    def wait_for_hand_back(self) -> None:
        """Block while tasks are neither held nor back on their queue."""
        with self._handing_back:
            pass

    # -- Stopping. ----------------------------------------------------------------------------

    def hand_back(self) -> None:
        """Release what has not started."""
        with self._handing_back:
            self._outage.call(self.collect)
            with self._turn:
                unstarted, self._waiting = list(self._waiting), deque()
                self._share()
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
                        self._share()
                        self._arrived.notify_all()

    def note_stop(self) -> None:
        """Note on all deliveries that the worker is being stopped, where the backend can.

        So a kill that follows counts as no death. Call it again and again, since more deliveries
        may come; each is noted once. A note that fails is written again by the next call.
        """
        if self.client.notes_stops and self._outage.try_is_due():
            self._outage.call(self._note_stop)

    def _note_stop(self) -> None:
        self._outage.call(self.collect)
        fresh = [each for each in self._held() if id(each) not in self._noted]
        if fresh:
            untold = set[int]()
            try:
                self.client.note_stop(fresh)
                self._outage.ends()
            except NodeLost as err:
                untold = set(map(id, err.untold))
                self._outage.begins(err)
            # The deliveries, not only their id(): another object may get one that is free again.
            self._noted.update((id(each), each) for each in fresh if id(each) not in untold)

    def release_all(self, but: Delivery | None = None) -> None:
        """Release what runs as well: this process is about to leave it.

        :param but: the delivery that makes it leave; its lease runs out, which counts as a death.
        """
        self._extending = False
        # The caller may end the process after this: a second one waits for the first.
        with self._leaving:
            self._outage.call(self._acks.send)
            self._outage.call(self.hand_back)
            self._outage.call(self._settle_the_last)
            with self._lock:
                running, self._running = self._that_run(), {}
                self._settling.clear()
            for delivery in running:
                if delivery is not but:
                    self._release(delivery)

    def _release(self, delivery: Delivery) -> None:
        self._outage.call(lambda: self.client.release(delivery))

    def snapshot(self) -> tuple[list[Delivery], list[Delivery]]:
        """Return what is to be acked, and what waits or runs; for :meth:`release_by`."""
        with self._lock:
            return self._acks.all(), [*self._waiting, *self._that_run()]

    def release_by(
        self,
        client: Client,
        held: tuple[Sequence[Delivery], Sequence[Delivery]],
        but: Delivery | None = None,
    ) -> None:
        """Do what :meth:`release_all` does, over another client, where that does not return.

        It is idempotent: a lease that has ended is not ended again. It takes no lock, since the
        thread that has it may never give it back.

        :param client: one for the same backend; a delivery itself identifies its lease.
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

    # -- The thread. --------------------------------------------------------------------------

    def _serve(self) -> None:
        origin = after_fork.generation
        while not self._closed:
            self._rests = True  # first, so that an ack from here on wakes this thread
            pause = self._pause()
            self._rests = pause > ACK_WITHIN
            began = time.monotonic()
            self._wake.wait(pause)
            self._wake.clear()
            stood_still = time.monotonic() - began - pause
            if self._process is not None:
                self._come_back()
                self._process.beat()
            self._warn_of_standstill(stood_still)
            if self.watch:
                self.watch()
                after_fork.exit_child_unless(
                    origin
                )  # it calls the user's code, which may have forked
            if self._extending and self._outage.try_is_due():
                self._outage.call(self._turn_once)

    def _pause(self) -> float:
        if self._outage.lasts:
            return _LONGEST_PAUSE
        if self._acks or self._waiting or self._ahead:
            return _LONGEST_PAUSE / 4 if self._refused else ACK_WITHIN
        if time.monotonic() - self._last_batch < 2 * ACK_WITHIN:
            return ACK_WITHIN  # the next batch is to be expected: it then need not wake this thread
        return max(0.0, min(_LONGEST_PAUSE, self._extend_at - time.monotonic()))

    def _turn_once(self) -> None:
        self._acks.unpark()
        if self._acks.are_due():
            self._unless_refused("acks", self._acks.send)
        patience = min(self._expected() + PATIENCE, LONGEST_PATIENCE)
        overdue = time.monotonic() - self._last_start > patience
        if (self._waiting or self._ahead) and self._taken() and overdue:
            self._unless_refused("hand-backs", self.hand_back)
        self.catch_up()
        if time.monotonic() >= self._extend_at:
            self._extend_at = time.monotonic() + self._every / 4  # in case that it fails
            self._extend()
            self._extend_at = time.monotonic() + self._every

    def _unless_refused(self, name: str, duty: Callable[[], object]) -> None:
        """Do a duty. If the backend has no room for it, do it later, and the others now."""
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
            self._process.restart_if_ended()
        self._outage.call(self.collect)  # leases run from when it was sent
        held = self._held()
        if not held:
            return
        lost: list[Delivery] = []
        node_lost: NodeLost | None = None
        for lease, deliveries in self._lengths.of(held, self.lease):
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
            self._share()
        self._report_lost(lost)

    def _share(self) -> None:
        """With the lock, write all deliveries again for the helper process."""
        if self._process is not None:
            started = [*self._that_run(), *self._acks.all()]
            self._process.rewrite(started + self._unsettled.deliveries(), self._waiting)

    def _come_back(self) -> None:
        """After a standstill, before any start: drop what the helper process has handed back."""
        process = self._process
        if process is None or time.monotonic() < process.stale_at:
            return
        taken: list[Delivery] = []
        with self._turn:
            if time.monotonic() >= process.stale_at and process.was_taken_back():
                taken, self._waiting = list(self._waiting), deque()
                self._share()
                self._turn.notify_all()
        for each in reversed(taken):  # again: the helper process may have been interrupted
            self._release(each)

    def _warn_of_standstill(self, seconds: float) -> None:
        now = time.monotonic()
        if seconds < max(self._every, 1.0) or now - self._stood_still_at < _SAID_FOR:
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
            else "were extended by the helper process, unless that was stopped as well",
        )

    def _held(self) -> list[Delivery]:
        with self._lock:
            held = [*self._waiting, *self._that_run(), *self._acks.all()]
        return held + self._unsettled.deliveries()

    def _report_lost(self, deliveries: Sequence[Delivery]) -> None:
        with self._lock:
            running = [each for each in deliveries if id(each) in self._running]
            lost = [each for each in running if id(each) not in self._settling]
            for each in lost:  # with the lock, since it has to be before the task ends
                self._lengths.give_up(each)  # so that it is reported once
        report_refused(self.log, lost)


class _Lengths:
    """The deliveries that need a longer lease than usual, or none any more.

    C code that holds the interpreter's lock stops the lease thread. So the lease of a task with a
    timeout covers all the time that the task may take, from its start.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[int, float] = {}  # monotonic, by id()
        self._least: dict[int, float] = {}  # seconds
        self._expiring: set[int] = set()
        #: Whether any delivery needs another lease than the usual one.
        self.differ = False

    def cover(self, delivery: Delivery, seconds: float) -> None:
        """Let the lease not end before so many seconds from now."""
        with self._lock:
            self._until[id(delivery)] = time.monotonic() + seconds
            self.differ = True

    def lengthen(self, delivery: Delivery, lease: float) -> None:
        """Let the lease have at least so many seconds each time."""
        with self._lock:
            self._least[id(delivery)] = lease
            self.differ = True

    def least(self, delivery: Delivery) -> float:
        """Return the seconds that :meth:`lengthen` was given; 0: none."""
        return self._least.get(id(delivery), 0.0)

    def give_up(self, delivery: Delivery) -> None:
        """Let the lease run out."""
        with self._lock:
            self._expiring.add(id(delivery))
            self.differ = True

    def forget(self, delivery: Delivery) -> None:
        """Drop a delivery that has ended."""
        with self._lock:
            self._until.pop(id(delivery), None)
            self._least.pop(id(delivery), None)
            self._expiring.discard(id(delivery))
            self.differ = bool(self._until or self._least or self._expiring)

    def of(self, held: Iterable[Delivery], lease: float) -> Iterator[tuple[float, list[Delivery]]]:
        """Yield leases in seconds, each with the deliveries that need it."""
        with self._lock:
            until, least, expiring = dict(self._until), dict(self._least), set(self._expiring)
        now, usual = time.monotonic(), []
        for delivery in held:
            left = max(until.get(id(delivery), 0.0) - now, least.get(id(delivery), 0.0))
            left = min(left, MAX_LEASE)
            if id(delivery) in expiring:
                continue
            if left > lease:
                yield left, [delivery]
            else:
                usual.append(delivery)
        if usual:
            yield lease, usual
