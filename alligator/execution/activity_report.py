"""Record what happens to tasks: added up in memory, and reported to the store once a second.

What each task costs is next to nothing: it is counted, and few of many are measured.
:meth:`Recording.flush` sends all of it in one report, from a thread that no task waits for. What
could not be sent is kept, within bounds, and sent with the next report. A middleware may be told
as well; see :func:`alligator.tasks.middleware.read_middleware`.
"""

import logging
import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from alligator.backends.activity_sums import OTHERS, added
from alligator.backends.base import Delivery
from alligator.backends.store import Store
from alligator.backends.types import QueueStats, Report
from alligator.common import after_fork
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error, describe_traceback
from alligator.constants import CANCELED, FAILED, RETRYING, SUCCESS
from alligator.exceptions import RunAgain
from alligator.execution.attempt import Outcome, Verdict
from alligator.monitoring import arguments, attempts
from alligator.monitoring.activity_counts import (
    LONG,
    QUEUE,
    Measured,
    Numbers,
    Sampling,
    Tally,
    depth_numbers,
    pushed_at,
    to_row,
    waited,
)
from alligator.monitoring.attempts import Attempt, Told
from alligator.monitoring.encoding import MOST_PARENTS, recent_text, rounded
from alligator.monitoring.message_summary import (
    Described,
    describe,
    describe_briefly,
    history_kept,
)
from alligator.monitoring.rows import ActivityRow, RecentRow
from alligator.results.recorder import Recorder

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Successes that are listed between two flushes; of more, the first ones. All else is listed.
LISTED = 50

#: What is kept while the store cannot be reached: functions, each in a minute; ended tasks; and
#: attempts for histories.
MOST_ROWS = 10_000
MOST_LISTED = 5_000
MOST_TOLD = 10_000

#: How many of these go into one report.
_LISTED_AT_ONCE = 1_000
_TOLD_AT_ONCE = 500

#: Functions that are counted apart at a time, and flushes after which an unused one is dropped.
_MOST_FUNCTIONS = 2_000
_UNUSED = 60

_ACK, _RETRY, _LATER = Verdict.ACK, Verdict.RETRY, Verdict.LATER


#: A queue, and the function of a task on it; or its name, if it could not be imported.
_Key = tuple[str, Any]


class _Counted(Tally):
    """A tally, and whose it is."""

    __slots__ = ("function", "parameters", "queue_name", "unused")

    def __init__(self, queue_name: str, function: str, parameters: Sequence[str]) -> None:
        super().__init__()
        self.queue_name, self.function, self.parameters = queue_name, function, parameters
        self.unused = 0  # flushes in a row


class Ended(list[Any]):
    """The functions of the successes on one queue since the last flush.

    It stays the same list, and is only appended to, which needs no lock.
    """

    __slots__ = ("measure_at", "sampling")

    def __init__(self) -> None:
        super().__init__()
        self.sampling = Sampling()
        #: How long it is when the next one is to be measured.
        self.measure_at = 0

    def take(self, seconds: float) -> list[Any]:
        """Return what came in the last seconds, and remove it."""
        count = len(self)
        found = self[:count]
        del self[:count]  # what came since then stays
        self.measure_at = self.sampling.next_second(count, seconds)
        return found


class _Entry(NamedTuple):
    """An attempt on its way into the history of its task."""

    key: str  # of the document
    seconds: float  # to keep it
    told: Told


class Recording:
    """Records for one worker, or for a Gator that runs tasks without one; safe to use from threads.

    A success of a short task without a history, which nearly all are, costs this much::

        ended = recording.ended[queue_name]
        ended.append(task.func)
        if len(ended) >= ended.measure_at:
            recording.notice(outcome, took)

    For everything else there is :meth:`record`.

    :param recorder: knows under which key the store keeps what is known of a task.
    :param store: None: nothing is kept, and only the listeners are told.
    :param show: what ``Gator(show_arguments=…)`` was given.
    :param listeners: called once a second with the rows of what was counted since; see
        :class:`alligator.monitoring.rows.ActivityRow`.
    """

    def __init__(
        self,
        recorder: Recorder,
        store: Store | None,
        show: arguments.Show | bool = True,
        listeners: Sequence[Callable[[list[ActivityRow]], object]] = (),
    ) -> None:
        self.store, self.show, self.listeners = store, show, listeners
        self._recorder, self._clock = recorder, recorder.clock
        self.renew()
        after_fork.renew_in_children(self)

    def renew(self) -> None:
        """Begin with nothing recorded: what a forked child inherits, its parent reports."""
        self.ended = defaultdict[str, Ended](Ended)
        #: Of this process: successes, and runs that failed.
        self.done = self.failed = 0
        self._measured: list[tuple[_Key, Measured]] = []
        self._lock = threading.Lock()
        self._tallies: dict[_Key, _Counted] = {}
        self._listed_left = LISTED
        self._taken_at = time.monotonic()
        self._flushing = threading.Lock()
        self._rows: dict[tuple[int, str, str], Numbers] = {}
        self._listed = deque[str](maxlen=MOST_LISTED)
        self._told = deque[_Entry](maxlen=MOST_TOLD)
        self._complained = False
        self._refused = list[Any]()  # listeners that raised, which is logged once

    # -- For each task. -----------------------------------------------------------------------

    def record(self, outcome: Outcome, took: float) -> None:
        """Record a task that has ended, before it is settled.

        Before a retry, its history goes to the store: the next attempt may begin anywhere.

        :param took: seconds.
        """
        try:
            if outcome.verdict is _ACK:
                ended = self.ended[outcome.delivery.queue_name]
                ended.append(getattr(outcome.task, "func", None))
                self.notice(outcome, took)
                if outcome.delivery.deaths:
                    self.note_deaths(outcome)
            elif outcome.verdict is not _LATER:  # else it did not run, and has not ended
                self._count(outcome, took)
                self._list(outcome, took)
                self._tell(outcome, took)
        except Exception as err:  # the user's own Task class may raise anything
            self._complain(err)

    def notice(self, outcome: Outcome, took: float) -> None:
        """Look closer at a success that is in :attr:`ended`: measure it, list it, tell of it."""
        try:
            task, queue_name = outcome.task, outcome.delivery.queue_name
            ended = self.ended[queue_name]
            if took >= LONG or len(ended) >= ended.measure_at:
                now = self._clock.time()
                measured = Measured(took, waited(task, now - took), took >= LONG)
                self._measured.append(((queue_name, getattr(task, "func", None)), measured))
                if took < LONG:
                    ended.measure_at = len(ended) + ended.sampling.measured()
                self._list_success(outcome, took)
            elif _parents_of(task):
                self._list_success(outcome, took)
            self._tell(outcome, took)
        except Exception as err:
            self._complain(err)

    def _list_success(self, outcome: Outcome, took: float) -> None:
        if self._listed_left > 0:
            self._listed_left -= 1
            self._list(outcome, took)

    def note_deaths(self, outcome: Outcome) -> None:
        """Count the leases that ran out before a run that has ended."""
        with self._lock:
            self._tally(outcome).add("lost", outcome.delivery.deaths)

    def note_lost(self, deliveries: Iterable[Delivery]) -> None:
        """Take back the successes of runs whose ack was refused: their lease had run out."""
        for delivery in deliveries:
            name = describe_briefly(delivery.data).function
            with self._lock:
                self._tally_of(delivery.queue_name, None, name).add("succeeded", -1)

    def _count(self, outcome: Outcome, took: float) -> None:
        task, error, by_task = outcome.task, outcome.error, True
        is_canceled = outcome.verdict is Verdict.CANCEL
        if is_canceled or isinstance(error, RunAgain):
            by_task = False
        with self._lock:
            tally = self._tally(outcome)
            if outcome.delivery.deaths:
                tally.add("lost", outcome.delivery.deaths)
            if outcome.verdict is _RETRY:
                tally.add("retried")
            elif is_canceled:
                tally.add("canceled")
            else:
                tally.add("expired" if outcome.expired else "dead")
            if error is not None and by_task:
                tally.add("failed")
                self.failed += 1
            if error is not None and task is not None:
                start = self._clock.time() - took
                tally.add_runs(1, [Measured(took, waited(task, start), is_single=True)])

    def _tally(self, outcome: Outcome) -> _Counted:
        """Return the tally of a task; the caller has the lock."""
        func = getattr(outcome.task, "func", None)
        name = describe_briefly(outcome.delivery.data).function if func is None else ""
        return self._tally_of(outcome.delivery.queue_name, func, name)

    def _tally_of(self, queue_name: str, func: Any, name: str = "") -> _Counted:
        """Return a tally; the caller has the lock.

        :param name: that of the function, if there is only that.
        """
        key: _Key = queue_name, name if func is None else _hashed(func)
        found = self._tallies.get(key)
        if found is None:
            if len(self._tallies) >= _MOST_FUNCTIONS:
                key, func, name = (queue_name, OTHERS), None, OTHERS
            made = _Counted(queue_name, name or _name_of(func), arguments.parameter_names(func))
            found = self._tallies.setdefault(key, made)
        return found

    def _list(self, outcome: Outcome, took: float) -> None:
        if self.store is None:
            return
        delivery, ended = outcome.delivery, self._clock.time()
        function, args, kwargs, pushed = self._described(outcome)
        row = RecentRow(
            task_id=self._task_id(outcome),
            function=function,
            queue_name=delivery.queue_name,
            state=_state_of(outcome),
            attempt=outcome.attempt,
            pushed=pushed,
            started=ended - took,
            ended=ended,
            worker=_worker(os.getpid()),
            args=arguments.joined(args, kwargs),
            error=_error_of(outcome),
            parents=_parents_of(outcome.task),
        )
        self._listed.append(recent_text(row))

    def _tell(self, outcome: Outcome, took: float) -> None:
        """Write the attempt into the history of the task, if that is kept."""
        delivery, task = outcome.delivery, outcome.task
        kept = describe_briefly(delivery.data).kept_for if task is None else history_kept(task)
        if not kept or self.store is None:
            return
        ended = self._clock.time()
        function, args, kwargs, pushed = self._described(outcome)
        traceback = outcome.reason.traceback
        if outcome.verdict is _RETRY and outcome.error is not None:
            traceback = describe_traceback(outcome.error)
        if isinstance(outcome.error, RunAgain):
            traceback = ""
        attempt = Attempt(
            delivery.attempt,
            rounded(ended - took),
            rounded(ended),
            _worker(os.getpid()),
            _outcome_of(outcome),
            _error_of(outcome),
            traceback,
        )
        result = getattr(task, "result", None) if outcome.verdict is _ACK else None
        told = Told(
            self._task_id(outcome),
            function,
            delivery.queue_name,
            args,
            kwargs,
            pushed,
            attempt,
            delivery.deaths,
            None if outcome.verdict is not _ACK else arguments.as_json(result),
        )
        key = f"history:{self._recorder.key_of(task, delivery)}"
        entry = _Entry(key, kept + outcome.delay, told)
        if outcome.verdict is not _RETRY:
            with self._lock:
                self._told.append(entry)
            return
        with self._flushing:  # what was told of it before goes first
            self._tell_all([*self._take_told_of(key), entry])

    def _described(self, outcome: Outcome) -> tuple[str, str, str, float]:
        """Return function, arguments, named arguments and the time of the push of a task."""
        delivery, task = outcome.delivery, outcome.task
        with self._lock:
            tally = self._tally(outcome)
        if task is None:
            found = describe(delivery.data)
            return tally.function, *self._shown(found), found.pushed_at
        shown = arguments.show_task(task, self.show, tally.parameters)
        return tally.function, *shown, pushed_at(task)

    def _shown(self, found: Described) -> tuple[str, str]:
        if self.show is not True:  # there is no task to be shown
            return arguments.NOT_SHOWN, arguments.NOT_SHOWN
        return arguments.show_call(found.args, found.kwargs)

    def _task_id(self, outcome: Outcome) -> str:
        task_id = getattr(outcome.task, "task_id", None)
        return task_id if isinstance(task_id, str) else outcome.delivery.task_id

    def note_running(
        self, delivery: Delivery, found: Described, started: float, deaths: int = 0
    ) -> None:
        """Write into the history of a task that it runs.

        :param started: a Unix timestamp.
        """
        args, kwargs = self._shown(found)
        attempt = Attempt(
            delivery.attempt, rounded(started), None, _worker(os.getpid()), attempts.RUNNING
        )
        told = Told(
            delivery.task_id,
            found.function,
            delivery.queue_name,
            args,
            kwargs,
            found.pushed_at,
            attempt,
            deaths,
        )
        key = f"history:{self._recorder.key_of(None, delivery)}"
        with self._lock:
            self._told.append(_Entry(key, found.kept_for, told))

    # -- Once a minute. -----------------------------------------------------------------------

    def note_depth(self, queue_name: str, stats: QueueStats) -> None:
        """Record how full a queue is; of what is noted in a minute, the most stays."""
        key = int(self._clock.time() // 60) * 60, queue_name, QUEUE
        numbers = depth_numbers(stats.waiting, stats.delayed, stats.running, stats.oldest)
        with self._flushing:
            if self.store is not None:
                self._rows[key] = added(self._rows.get(key, ()), numbers)

    # -- Once a second. -----------------------------------------------------------------------

    def flush(self, make: Callable[[], Report], *, always: bool = False) -> list[str | None] | None:
        """Send what was added up to the store, if there is anything, in one report.

        :param make: returns the report, with all that is not from here.
        :param always: send it even if there is nothing in it.
        :returns: the documents that were asked for; None: there was nothing to send.
        :raises Exception: it could not be sent; it is kept, within bounds, for the next call.
        """
        with self._flushing:
            self._take()
            if self.store is None:
                return None
            report = make()
            told, listed = self._take_told(), self._take_listed()
            activity = [(*key, numbers) for key, numbers in self._rows.items()]
            more = report.live or report.documents or report.ask
            if not (always or activity or listed or told or more):
                return None
            try:
                documents = {**report.documents, **self._merged(told[:_TOLD_AT_ONCE])}
                report = report._replace(activity=activity, recent=listed, documents=documents)
                found = self.store.report(report)
            except BaseException:
                self._put_back(listed, told)
                raise
            self._rows.clear()
            self._tell_all(told[_TOLD_AT_ONCE:])
            return found

    def count(self) -> None:
        """Add up what is new, and tell the listeners, as :meth:`flush` does; send nothing."""
        with self._flushing:
            self._take()

    def flush_quietly(self) -> None:
        """Do the same where no worker lives; log a failure once."""
        name = f"{_worker(os.getpid())}:{os.urandom(4).hex()}"
        try:
            self.flush(lambda: Report(name))
        except Exception as err:
            self._complain(err)

    def _take(self) -> None:
        now, moment = self._clock.time(), time.monotonic()
        minute = int(now // 60) * 60
        seconds, self._taken_at = moment - self._taken_at, moment
        ended = {name: each.take(seconds) for name, each in list(self.ended.items()) if each}
        self.done += sum(map(len, ended.values()))
        self._listed_left = LISTED
        measured, self._measured = self._measured, []
        fresh = list[tuple[str, str, Numbers]]()
        with self._lock:
            self._add_up(ended, measured)
            unused = []
            for key, tally in self._tallies.items():
                numbers = tally.take()
                if numbers is None:
                    tally.unused += 1
                    if tally.unused > _UNUSED:
                        unused.append(key)
                    continue
                tally.unused = 0
                fresh.append((tally.queue_name, tally.function, numbers))
            for key in unused:
                del self._tallies[key]
        if self.store is not None:
            for queue_name, function, numbers in fresh:
                row = minute, queue_name, function
                self._rows[row] = added(self._rows.get(row, ()), numbers)
            while len(self._rows) > MOST_ROWS:  # the store cannot be reached for long
                del self._rows[next(iter(self._rows))]
        if fresh and self.listeners:
            self._tell_listeners([to_row(minute, *each) for each in fresh])

    def _tell_listeners(self, rows: list[ActivityRow]) -> None:
        for listener in self.listeners:
            try:
                listener(rows)
            except Exception:
                if listener not in self._refused:
                    self._refused.append(listener)
                    log.exception("A middleware could not take what was counted.")

    def _add_up(self, ended: dict[str, list[Any]], measured: list[tuple[_Key, Measured]]) -> None:
        """Add successes to their tallies; the caller has the lock."""
        of_key = dict[_Key, list[Measured]]()
        for (queue_name, func), each in measured:
            of_key.setdefault((queue_name, _hashed(func)), []).append(each)
        for queue_name, functions in ended.items():
            try:
                counts = Counter(functions)
            except Exception:  # a callable that cannot be hashed
                counts = Counter(map(_hashed, functions))
            for func, count in counts.items():
                name = func if isinstance(func, str) else ""
                tally = self._tally_of(queue_name, None if name else func, name)
                tally.add("succeeded", count)
                tally.add_runs(count, of_key.pop((queue_name, func), ()))
        # Measured, and not counted yet: with the next ones.
        self._measured += [(key, each) for key, some in of_key.items() for each in some]

    def _take_listed(self) -> list[str]:
        with self._lock:
            count = min(len(self._listed), _LISTED_AT_ONCE)
            return [self._listed.popleft() for _ in range(count)]

    def _take_told(self) -> list[_Entry]:
        with self._lock:
            told, self._told = list(self._told), deque(maxlen=MOST_TOLD)
            return told

    def _take_told_of(self, key: str) -> list[_Entry]:
        with self._lock:
            found = [each for each in self._told if each.key == key]
            if found:
                self._told = deque((e for e in self._told if e.key != key), maxlen=MOST_TOLD)
            return found

    def _put_back(self, listed: Sequence[str], told: Sequence[_Entry]) -> None:
        with self._lock:  # of too many, the last ones stay
            self._listed = deque([*listed, *self._listed], maxlen=MOST_LISTED)
            self._told = deque([*told, *self._told], maxlen=MOST_TOLD)

    def _tell_all(self, told: Sequence[_Entry]) -> None:
        """Write attempts into the histories of their tasks."""
        store = self.store
        assert store is not None
        for start in range(0, len(told), _TOLD_AT_ONCE):
            some = told[start : start + _TOLD_AT_ONCE]
            try:
                for key, (text, seconds) in self._merged(some).items():
                    store.put_document(key, text, seconds)
            except BaseException:
                self._put_back((), told[start:])
                raise

    def _merged(self, told: Sequence[_Entry]) -> dict[str, tuple[str, float]]:
        """Return the histories as they are in the store, with these attempts in them."""
        keys = list(dict.fromkeys(each.key for each in told))
        if not keys or self.store is None:
            return {}
        texts = dict(zip(keys, self.store.documents(keys), strict=True))
        found = dict[str, tuple[str, float]]()
        for key, seconds, each in told:
            texts[key] = text = attempts.merged(texts[key], each)
            found[key] = text, seconds
        return found

    def _complain(self, err: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "What happened to a task could not be recorded; the worker goes on: %s",
                describe_error(err),
            )


def _worker(pid: int) -> str:
    return f"{host()}:{pid}"


@lru_cache(maxsize=1)
def host() -> str:
    """Return the name of this host."""
    import socket  # only here: it would slow ``import alligator`` down

    return socket.gethostname()


def _hashed(func: Any) -> Any:
    """Return a function, or its name if it is a callable that cannot be hashed."""
    try:
        hash(func)
    except Exception:
        return _name_of(func)
    return func


def _name_of(func: Any) -> str:
    module, name = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""


def _parents_of(task: Any) -> tuple[str, ...]:
    """Return the ids of what a task waited for, as far as its message has them."""
    ids = getattr(task, "_depends_on", None) or ()
    return tuple(each for each in ids[:MOST_PARENTS] if isinstance(each, str))


def _error_of(outcome: Outcome) -> str:
    if outcome.verdict is _ACK or isinstance(outcome.error, RunAgain):
        return ""
    if outcome.verdict is _RETRY:
        last: str = getattr(outcome.task, "last_error", "")
        return last or (describe_error(outcome.error) if outcome.error is not None else "")
    return outcome.reason.error


def _state_of(outcome: Outcome) -> int:
    if outcome.verdict is Verdict.CANCEL:
        return CANCELED
    return {_ACK: SUCCESS, _RETRY: RETRYING}.get(outcome.verdict, FAILED)


def _outcome_of(outcome: Outcome) -> str:
    if outcome.verdict is Verdict.CANCEL:
        return attempts.CANCELED
    if outcome.verdict is _ACK:
        return attempts.SUCCEEDED
    if outcome.verdict is _RETRY:
        return attempts.RETRIED
    return attempts.EXPIRED if outcome.expired else attempts.BURIED
