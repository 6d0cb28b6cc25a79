"""Read what workers recorded, for a Gator."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from alligator.backends.activity_sums import KEEP_ACTIVITY, MAX_RECENT, added_up
from alligator.backends.base import LISTING, Client, time_on
from alligator.backends.dsn import mask_password
from alligator.backends.store import Store, record_key
from alligator.backends.types import Activity, DeadTask, Report
from alligator.common.clock import Clock
from alligator.common.ids import new_task_id
from alligator.common.text import describe_error, shorten
from alligator.constants import CANCELED, FAILED, RETRYING, RUNNING, SUCCESS
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.monitoring import progress
from alligator.monitoring.activity_counts import QUEUE, depth_numbers, to_depth, to_row
from alligator.monitoring.attempts import ended_as_recorded, read_history, with_revival
from alligator.monitoring.encoding import LONGEST_NAME, read_live, read_recent, written
from alligator.monitoring.message_summary import describe_briefly
from alligator.monitoring.queues import is_queue_name
from alligator.monitoring.rows import (
    ActivityRow,
    DepthRow,
    History,
    NowRow,
    QueueRow,
    RecentRow,
    RunningRow,
    WorkerRow,
)
from alligator.results.query import Results
from alligator.tasks.attempt_numbers import attempts_of
from alligator.tasks.functions import wire_name
from alligator.tasks.task import Task

log = logging.getLogger(__name__)

#: The states of tasks that are listed as ended, by the names that are understood, too.
ENDED_STATES = {
    "success": SUCCESS,
    "retrying": RETRYING,
    "failed": FAILED,
    "canceled": CANCELED,
}

#: Tasks on lease that are listed of one queue, the first ones leased.
MOST_RUNNING = 1_000

#: The name of what reports without being a worker.
_NO_WORKER = "none"

#: Minutes of activity that are kept.
_MOST_MINUTES = int(KEEP_ACTIVITY // 60)


class Monitor:
    """Answers for one Gator what its workers do, and did."""

    def __init__(self, results: Results, clock: Clock) -> None:
        self.results, self.clock = results, clock
        self.client: Client = results.client

    def workers(self) -> list[WorkerRow]:
        """Return the workers; see :meth:`alligator.Gator.workers`."""
        store = self._store()
        now = self._now(store)
        rows = (read_live(each, now) for each in store.live_workers())
        return sorted(
            (each for each in rows if each is not None),
            key=lambda row: (row.is_lost, row.host, row.pid, row.started, row.name),
        )

    def running(self) -> list[RunningRow]:
        """Return what is on lease; see :meth:`alligator.Gator.running`."""
        store = self._store()
        workers = [each for each in self.workers() if not each.is_lost]
        told = {
            (each.queue_name, each.task_id): (f"{worker.host}:{worker.pid}", each)
            for worker in workers
            for each in worker.running
        }
        found = [
            RunningRow(
                now.task_id,
                now.function,
                now.queue_name,
                now.attempt,
                now.started,
                worker,
                None,
                None,
            )
            for worker, now in told.values()
        ]
        if LISTING in self.client.controls:
            found = self._on_lease({each for worker in workers for each in worker.queues}, told)
        keys = [progress.document_key(record_key(row.queue_name, row.task_id)) for row in found]
        texts = store.documents(keys) if keys else []
        found = [
            replace(row, progress=progress.from_text(text)) if text else row
            for row, text in zip(found, texts, strict=True)
        ]
        return sorted(found, key=lambda row: (row.queue_name, row.started or inf, row.task_id))

    def _on_lease(
        self, served: set[str], told: dict[tuple[str, str], tuple[str, NowRow]]
    ) -> list[RunningRow]:
        """Return what is on lease, with what its worker told of it.

        :param served: queues that workers serve.
        """
        found = list[RunningRow]()
        served = {name for name in served if is_queue_name(self.client, name)}
        for queue_name in sorted({*(self.client.queue_names() or ()), *served}):
            tasks, _ = self.client.list_tasks(queue_name, RUNNING, MOST_RUNNING)
            now = time_on(self.client, queue_name, self.clock) if tasks else 0.0
            for each in tasks:
                worker, known = told.get((queue_name, each.task_id), ("", None))
                found.append(
                    RunningRow(
                        each.task_id,
                        known.function if known else describe_briefly(each.data).function,
                        queue_name,
                        attempts_of(each),
                        known.started if known else None,
                        worker,
                        None if each.until is None else max(0.0, each.until - now),
                        None,
                    )
                )
        return found

    def activity(self, minutes: int) -> list[ActivityRow]:
        """Return what happened lately; see :meth:`alligator.Gator.activity`."""
        return _activity_in(self._reported(minutes))

    def depths(self, minutes: int) -> list[DepthRow]:
        """Return how full queues were; see :meth:`alligator.Gator.depths`."""
        return _depths_in(self._reported(minutes))

    def activity_and_depths(
        self, minutes: int, ago: int, step: int = 1
    ) -> tuple[list[ActivityRow], list[DepthRow]]:
        """Return both, read at once; see :meth:`alligator.Gator.activity_and_depths`."""
        _check_whole("step", step, _MOST_MINUTES)
        if isinstance(ago, bool) or not isinstance(ago, int) or not 0 <= ago <= _MOST_MINUTES:
            shown = shorten(repr(ago), 60)
            raise InvalidTask(f"ago={shown} is no whole number from 0 to {_MOST_MINUTES}.")
        found = self._reported(minutes, ago)
        if step == 1:
            return _activity_in(found), _depths_in(found)
        return _activity_in(_added_up(found, 60 * step)), _depths_in(found)

    def record_depths(self, queues: Iterable[QueueRow]) -> None:
        """Record how full queues are; see :meth:`alligator.Gator.record_depths`."""
        minute = int(self.clock.time() // 60) * 60
        rows: list[Activity] = [
            (
                minute,
                row.name,
                QUEUE,
                depth_numbers(row.waiting, row.delayed, row.running, row.oldest),
            )
            for row in queues
        ]
        if rows:
            self._store().report(Report(f"{_NO_WORKER}:{new_task_id()}", activity=rows))

    def _reported(self, minutes: int, ago: int = 0) -> list[Activity]:
        _check_whole("minutes", minutes, _MOST_MINUTES)
        end = (int(self.clock.time() // 60) - ago + 1) * 60
        return self._store().activity(end - 60 * minutes, end if ago else None)

    def recent(
        self, limit: int, function: Any, state: int | str | None, parent: str | None = None
    ) -> list[RecentRow]:
        """Return what ended lately; see :meth:`alligator.Gator.recent`."""
        _check_whole("limit", limit, MAX_RECENT)
        name, wanted = _function_name(function), _ended_state(state)
        if parent is not None and not (isinstance(parent, str) and parent):
            raise InvalidTask(f"parent={shorten(repr(parent), 60)} is no id of a task.")
        part = written(parent) if parent else ""
        store, some = self._store(), name is None and wanted is None and parent is None
        found = list[RecentRow]()
        for text in store.recent(limit if some else MAX_RECENT):
            if part not in text:  # to read thousands takes long
                continue
            row = read_recent(text)
            if row is None or name not in (None, row.function):
                continue
            if parent is not None and parent[:LONGEST_NAME] not in row.parents:
                continue
            if wanted in (None, row.state):
                found.append(row)
                if len(found) == limit:
                    break
        return found

    def history(self, task: Task | str) -> History | None:
        """Return the history of a task; see :meth:`alligator.Gator.history`."""
        if not isinstance(task, Task) and not (isinstance(task, str) and task):
            raise InvalidTask(f"{shorten(repr(task), 60)} is no task and no id of one.")
        keys = self.results.keys(task)
        for text in self._store().documents([f"history:{each}" for each in keys]):
            found = read_history(text) if text else None
            if found is not None:
                return ended_as_recorded(found, self.results.record(task))
        return None

    def note_revived(self, letters: Iterable[DeadTask]) -> None:
        """Write into the histories of dead letters that they have just been revived.

        They run again in any case: if the store fails, that is logged.
        """
        store, recorder = self.results.store, self.results.recorder
        kept = {
            f"history:{key}": seconds
            for letter in letters
            if (seconds := describe_briefly(letter.data).kept_for)
            for key in recorder.keys_of_dead(letter)
        }
        if store is None or not store.monitors or not kept:
            return
        try:
            for key, text in zip(kept, store.documents(list(kept)), strict=True):
                noted = with_revival(text, self.clock.time()) if text else None
                if noted is not None:
                    store.put_document(key, noted, kept[key])
        except AlligatorException as err:
            log.warning("A revival is missing in the history of tasks: %s", describe_error(err))

    def _store(self) -> Store:
        store = self.results.store
        if store is None or not store.monitors:
            raise UnsupportedOption(
                f"{mask_password(self.client.conn_string)} keeps nothing of what workers do. Name "
                "a store that does, Gator(…, store='redis://localhost:6379/0'), for the workers, "
                "too."
            )
        return store

    def _now(self, store: Store) -> float:
        """Return the time by the clock of the store's server, if it has one."""
        home = store.home
        now = home.server_time("all") if isinstance(home, Client) else None
        return self.clock.time() if now is None else now


def _activity_in(found: Iterable[Activity]) -> list[ActivityRow]:
    rows = (to_row(*each) for each in found if each[2] != QUEUE)
    return sorted(rows, key=lambda row: (row.minute, row.queue_name, row.function))


def _added_up(found: Iterable[Activity], seconds: int) -> Iterator[Activity]:
    """Yield the rows of functions, with those of so many seconds as one.

    It takes less time than to read each of them as users see it.
    """
    parts = dict[tuple[int, str, str], list[Sequence[float]]]()
    for minute, queue_name, function, numbers in found:
        key = minute // seconds * seconds, queue_name, function
        parts.setdefault(key, []).append(numbers)
    for (minute, queue_name, function), some in parts.items():
        yield minute, queue_name, function, added_up(some)


def _depths_in(found: Iterable[Activity]) -> list[DepthRow]:
    rows = (to_depth(each[0], each[1], each[3]) for each in found if each[2] == QUEUE)
    return sorted(rows, key=lambda row: (row.minute, row.queue_name))


def _check_whole(name: str, value: Any, most: int) -> None:
    good = isinstance(value, int) and not isinstance(value, bool)
    if not good or not 1 <= value <= most:
        shown = shorten(repr(value), 60)
        raise InvalidTask(f"{name}={shown} is no whole number from 1 to {most}.")


def _function_name(function: Any) -> str | None:
    if function is None or isinstance(function, str):
        return function.replace(":", ".") if function else None
    return ".".join(wire_name(function))


def _ended_state(state: Any) -> int | None:
    if state is None:
        return None
    for name, number in ENDED_STATES.items():
        if state == number and not isinstance(state, bool):
            return number
        if isinstance(state, str) and state.lower() == name:
            return number
    known = ", ".join(ENDED_STATES)
    raise InvalidTask(
        f"state={shorten(repr(state), 60)} is no state of an ended task; these are {known}."
    )
