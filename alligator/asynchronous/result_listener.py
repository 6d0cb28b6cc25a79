"""Watch tasks for all coroutines that wait for them, in one thread.

The thread reads the records of all these tasks in one call, again and again: first every few
milliseconds, later every tenth of the time that a task has been waited for, at most every 0.1 s.
A look at the queue, which takes some round trips for each task, is made only where no record will
tell, and now and then. What the looks of one pass took, the thread then rests three times as long,
so that many tasks make it slower rather than busier. While a server does not answer, it goes on
asking.

What is watched is known to the thread alone. Coroutines tell it over a queue of C, and take no
lock: Ctrl-C raises an exception at any step of theirs, and at none of the thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from alligator.asynchronous import replies
from alligator.asynchronous.replies import Reply
from alligator.asynchronous.thread_pool import Threads
from alligator.backends.dsn import mask_password
from alligator.backends.store import ENDED, Record
from alligator.common.after_fork import renew_in_children
from alligator.common.ids import is_generated
from alligator.common.log import SafeTracebacks
from alligator.constants import RUNNING
from alligator.exceptions import ConnectionLost, NodeLost, QueueFull
from alligator.monitoring import progress
from alligator.results.query import Results, read_records
from alligator.tasks.task import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds between two looks at the record of a task, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1

#: The longest where the status or progress of a task is watched, or there is no record.
_LONGEST_WATCH = 0.25

#: Seconds between two looks at the queue for a task whose end will be recorded: it may have been
#: dropped. The first one is after a second.
_FIRST_CHECK, _LAST_CHECK = 1.0, 5.0

#: The part of the time waited so far that the next pause takes.
_PART = 0.1

#: Seconds of one pass that go to looks at queues; the rest of them come next.
_LOOKS = 0.05

#: How many times as long as a pass took the thread rests after it; and the longest rest in seconds.
_REST, _LONGEST_REST = 3, 0.25

#: How many records are read at once.
_AT_ONCE = 500

#: Seconds between two tries while a server does not answer.
_RETRY = 0.25

#: Seconds after which a call that is under way counts as not answered.
_SLOW = 0.5

#: Seconds after which the thread ends that has nothing to watch.
_IDLE = 5.0


class Observer(Protocol):
    """What waits for a task, for one coroutine or more."""

    #: Where its coroutines run.
    loop: asyncio.AbstractEventLoop
    #: Whether it is told of every status, rather than of the end.
    watches_status: bool
    #: Whether it is told of progress.
    watches_progress: bool

    def seen(self, watched: "Watched") -> list[Reply] | None:
        """Take what a look has found; called in the thread of the listener.

        :returns: what to tell, if it is done with the task; None: it is not.
        """

    def failed(self, error: BaseException) -> list[Reply]:
        """Take an error of the look that a repetition would not mend; return what to tell."""


class Watched:
    """A task that is waited for, and what is known of it.

    :ivar status: as it was last seen; see :attr:`is_seen`.
    :ivar trouble: why the server could not be asked the last time; None: it could.
    """

    def __init__(self, results: Results, task: Task | str) -> None:
        self.results, self.task = results, task
        self.followed: list[Following] = []
        self.since = time.monotonic()
        self.due = 0.0  # the next look at its record
        self.look_due = 0.0  # the next one at its queue
        #: Whether a record will show the end of this very push.
        self.is_recorded = isinstance(task, Task) and task.is_pushed and bool(task.known_for)
        if self.is_recorded and isinstance(task, Task) and task.status not in ENDED:
            self.look_due = self.since + _FIRST_CHECK
        self.is_answered = False  # whether the server was reached at all
        self.is_seen = False  # whether the status is known
        self.status: int | None = None
        self.record: Record | None = None
        self.progress: tuple[float, str] | None = None
        self.trouble: BaseException | None = None
        self.failures = 0  # how often its own node did not answer, in a row

    @property
    def watches_status(self) -> bool:
        """Whether any observer has to be told of every status."""
        return any(each.observer.watches_status for each in self.followed)

    @property
    def watches_progress(self) -> bool:
        """Whether any observer has to be told of progress."""
        return any(each.observer.watches_progress for each in self.followed)

    def schedule(self, now: float) -> None:
        """Set when to look at its record again."""
        longest = _LONGEST_PAUSE if self.results.store is not None else _LONGEST_WATCH
        self.due = now + min(longest, max(_FIRST_PAUSE, _PART * (now - self.since)))

    def schedule_look(self, now: float) -> None:
        """Set when to look at its queue again."""
        waited = _PART * (now - self.since)
        if self.is_recorded and not self.watches_status:
            pause = _LAST_CHECK
        elif isinstance(self.task, str) and not self.watches_status:
            pause = min(_LAST_CHECK, max(_FIRST_CHECK, waited))  # its record tells most
            if self.results.store is None:
                pause = min(_LONGEST_WATCH, max(_FIRST_PAUSE, waited))
        else:
            pause = min(_LONGEST_WATCH, max(_FIRST_PAUSE, waited))
        self.look_due = now + pause

    def is_decided_by(self, record: Record | None) -> bool:
        """Return whether a record shows the end of this task, without a look at its queue."""
        if record is None or not record.ended:
            return False
        return isinstance(self.task, Task) or is_generated(self.task)


class Following:
    """A task that one observer follows.

    :ivar watched: what is known of the task, for all that follow it.
    """

    def __init__(self, results: Results, task: Task | str, observer: Observer) -> None:
        results.keys(task)  # refuses what is no task
        self.observer = observer
        self.watched = Watched(results, task)
        self.is_over = False  # whether the observer is told nothing any more

    @property
    def has_left(self) -> bool:
        """Whether the observer is to be told nothing any more."""
        return self.is_over or self.observer.loop.is_closed()


class ResultListener:
    """Tells coroutines of the tasks that they wait for."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork, watch nothing that coroutines of the parent wait for."""
        #: What begins or ends to be followed; None: to look whether the thread is to end.
        self._told = SimpleQueue[Following | None]()
        self._watched: dict[Any, Watched] = {}  # of the thread
        self._threads = Threads(1, self._listen, "alligator-result-listener")
        self._asked = 0.0  # when the call began that is under way; 0: none is
        self._is_closed = False

    def follow(self, following: Following) -> None:
        """Have an observer told of a task until :meth:`leave`, or until it is done with it.

        :raises RuntimeError: the system has no room for a thread.
        """
        self._is_closed = False
        self._told.put(following)
        self._threads.start_one()  # unless there is one, which looks again as it ends

    def leave(self, following: Following) -> None:
        """Tell an observer nothing more of a task."""
        if not following.is_over:
            following.is_over = True
            self._told.put(following)

    def trouble_with(self, watched: Watched) -> ConnectionLost | None:
        """Return why it is not known how a task stands; None: it is known."""
        asked = self._asked
        is_answered = watched.trouble is None and watched.is_answered
        if is_answered and (not asked or time.monotonic() - asked < _SLOW):
            return None
        results = watched.results
        home = None if results.store is None else results.store.home
        server = getattr(home, "conn_string", results.client.conn_string)
        found = ConnectionLost(
            str(watched.trouble)
            if watched.trouble is not None
            else f"{mask_password(server)} has not answered in time, so it is not known how the "
            "task stands."
        )
        found.__cause__ = watched.trouble
        return found

    def close(self) -> None:
        """Let the thread end if nothing is waited for."""
        self._is_closed = True
        if len(self._threads):
            self._told.put(None)

    # -- In the thread. -----------------------------------------------------------------------

    def _listen(self) -> None:
        is_counted = True
        while is_counted:
            self._watch()
            self._threads.end_one()
            # What was told as this thread ended has started no other.
            is_counted = not self._told.empty() and self._threads.go_on()

    def _watch(self) -> None:
        """Look at what is watched, until there was nothing for a while."""
        rest_until = 0.0
        while self._watched or self._wait_for_first():
            self._take_told(0.0)
            now = time.monotonic()
            watched = [each for each in list(self._watched.values()) if self._is_followed(each)]
            fresh = [each for each in watched if each.due == 0.0]
            if not fresh:
                pause = max(min((each.due for each in watched), default=now), rest_until) - now
                if pause > 0:
                    self._take_told(pause)
                    continue
                fresh = [each for each in watched if each.due <= now + _FIRST_PAUSE]
            began = time.monotonic()
            try:
                self._pass(fresh)
            except Exception as err:
                log.exception("Tasks are not watched for the moment; it goes on.")
                self._put_off(fresh, err)
            finally:
                self._asked = 0.0
            ended = time.monotonic()
            rest_until = ended + min(_LONGEST_REST, _REST * (ended - began))

    def _wait_for_first(self) -> bool:
        """Wait for a task to watch; return False if there is none."""
        until = time.monotonic() + _IDLE
        while not self._watched:
            left = 0.0 if self._is_closed else until - time.monotonic()
            if not self._take_told(max(0.0, left)) and left <= 0:
                return False
        return True

    def _take_told(self, seconds: float) -> bool:
        """Take what was told, and wait for the first so long; False: nothing was."""
        try:
            told = self._told.get(timeout=seconds) if seconds > 0 else self._told.get_nowait()
            while True:
                if told is not None:
                    self._take(told)
                if self._told.empty():
                    return True
                told = self._told.get_nowait()
        except Empty:
            return False

    def _take(self, following: Following) -> None:
        watched = following.watched
        if following.is_over:
            self._drop(following)
            return
        known = self._watched.setdefault(_key(watched), watched)
        if known is not watched:
            following.watched = known
            known.due = 0.0
        known.followed.append(following)
        if following.observer.watches_status:
            known.look_due = 0.0

    def _is_followed(self, watched: Watched) -> bool:
        """Drop what has left, or was interrupted in that, and return whether any is there still."""
        for each in [each for each in watched.followed if each.has_left]:
            self._drop(each)
        return bool(watched.followed)

    def _drop(self, following: Following) -> None:
        following.is_over, watched = True, following.watched
        if following in watched.followed:
            watched.followed.remove(following)
        if not watched.followed and self._watched.get(_key(watched)) is watched:
            del self._watched[_key(watched)]

    def _put_off(self, watched: Iterable[Watched], err: BaseException) -> None:
        now = time.monotonic()
        for each in watched:
            each.trouble, each.due = err, now + _RETRY * min(8, 1 + each.failures)

    def _pass(self, watched: list[Watched]) -> None:
        """Look at tasks, and tell their observers."""
        looks_until = time.monotonic() + _LOOKS
        for first in range(0, len(watched), _AT_ONCE):
            some = watched[first : first + _AT_ONCE]
            by_store: dict[int, list[Watched]] = {}
            for each in some:
                by_store.setdefault(id(each.results.store), []).append(each)
            for group in by_store.values():
                self._look_at(group, looks_until)

    def _look_at(self, group: list[Watched], looks_until: float) -> None:
        """Look at tasks of one store.

        Where one node of several is lost, only its tasks wait for it. They are found one by one,
        and then asked for last, and one by one. What cannot be asked for, as an id that is no text,
        is found one by one as well, and fails alone.
        """
        sound = [each for each in group if not each.failures]
        doubtful = sorted((each for each in group if each.failures), key=lambda e: e.failures)
        try:
            if sound:
                self._read(sound, looks_until)
        except NodeLost as err:
            if len(sound) == 1:
                self._put_off(sound, err)
                sound[0].failures += 1
            else:
                doubtful = [*sound, *doubtful]
        except (ConnectionLost, QueueFull) as err:
            self._put_off(group, err)
            return
        except Exception as err:
            if len(sound) == 1:
                replies.send(self._fail(sound[0], err))
            else:
                doubtful = [*sound, *doubtful]
        self._one_by_one(doubtful, looks_until)

    def _one_by_one(self, doubtful: list[Watched], looks_until: float) -> None:
        for index, each in enumerate(doubtful):
            began = time.monotonic()
            try:
                self._read([each], looks_until)
                each.failures = 0
            except (ConnectionLost, QueueFull) as err:
                each.failures += 1
                self._put_off([each], err)
                if time.monotonic() - began > _RETRY:  # the others come first in the next pass
                    for other in doubtful[index + 1 :]:
                        other.due = time.monotonic()
                    return
            except Exception as err:
                replies.send(self._fail(each, err))

    def _read(self, group: list[Watched], looks_until: float) -> None:
        """Read the records of tasks, and tell their observers.

        :raises Exception: they cannot be read.
        """
        store = group[0].results.store
        records = self._ask(
            lambda: read_records(store, [(each.results, each.task) for each in group])
        )
        self._read_progress(group)
        told: list[Reply] = []
        for each, record in zip(group, records, strict=True):
            if store is not None:
                each.trouble, each.is_answered = None, True
            try:
                told += self._update(each, record, looks_until)
            except ConnectionLost as err:
                self._put_off([each], err)
                looks_until = 0.0  # the others would only wait for that, too
            except Exception as err:
                told += self._fail(each, err)
            if len(told) >= replies.AT_ONCE:
                replies.send(told)
                told = []
        replies.send(told)

    def _ask(self, call: Callable[[], Any]) -> Any:
        self._asked = time.monotonic()
        try:
            return call()
        finally:
            self._asked = 0.0

    def _read_progress(self, group: list[Watched]) -> None:
        wanted = [each for each in group if each.watches_progress]
        store = group[0].results.store
        if not wanted or store is None or not store.monitors:
            return
        keys = [[progress.document_key(key) for key in e.results.keys(e.task)] for e in wanted]
        texts = iter(self._ask(lambda: store.documents([key for some in keys for key in some])))
        for each, some in zip(wanted, keys, strict=True):
            found = [progress.from_text(next(texts)) for _ in some]
            each.progress = next((said for said in found if said is not None), None)

    def _update(self, watched: Watched, record: Record | None, looks_until: float) -> list[Reply]:
        now = time.monotonic()
        watched.schedule(now)
        task, results = watched.task, watched.results
        if watched.is_decided_by(record):
            if isinstance(task, Task):
                watched.status, watched.record = self._ask(lambda: results.look(task, record))
            else:
                assert record is not None
                watched.status, watched.record = record.state, record
        elif now >= watched.look_due:
            if now > looks_until:
                watched.due = now + _FIRST_PAUSE  # in the next pass
                return []
            watched.status, watched.record = self._ask(lambda: results.look(task))
            watched.trouble, watched.is_answered = None, True
            watched.schedule_look(time.monotonic())
            if not watched.is_recorded and results.store is None:
                watched.due = watched.look_due
        else:
            return self._tell(watched) if watched.is_seen and watched.watches_progress else []
        watched.is_seen = True
        return self._tell(watched)

    def _tell(self, watched: Watched) -> list[Reply]:
        told: list[Reply] = []
        for each in [each for each in watched.followed if not each.has_left]:
            found = self._ask(partial(each.observer.seen, watched))
            if found is not None:
                told += found
                self._drop(each)
        return told

    def _fail(self, watched: Watched, err: BaseException) -> list[Reply]:
        told: list[Reply] = []
        for each in list(watched.followed):
            told += each.observer.failed(err)
            self._drop(each)
        return told


def _key(watched: Watched) -> Any:
    task = watched.task  # a task object knows more than its id does
    return id(task) if isinstance(task, Task) else (watched.results.queue_name, task)


def shown_progress(watched: Watched) -> tuple[float, str] | None:
    """Return the progress of a task that runs; the document of a killed worker outlives it."""
    return watched.progress if watched.status == RUNNING else None
