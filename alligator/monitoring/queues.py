"""Look at queues and the tasks on them, for a Gator; nothing is touched, and no code is imported.

A backend names its queues in ``Client.queue_names``. The queues of live workers and of this Gator's
schedules are added, and the ones that this process pushed to.
"""

import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from alligator.backends.base import LISTING, Client, Listed, Place
from alligator.backends.queue_pauses import Pauses
from alligator.backends.store import HELD as HELD_QUEUE
from alligator.common.text import shorten
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING
from alligator.exceptions import InvalidTask
from alligator.monitoring import progress
from alligator.monitoring.arguments import Show, parameter_names, show_task
from alligator.monitoring.encoding import read_queues
from alligator.monitoring.message_summary import Described, describe
from alligator.monitoring.rows import History, Page, QueueRow, TaskInfo, TaskRow
from alligator.results import explain
from alligator.results.explain import Facts
from alligator.results.query import Results
from alligator.tasks.attempt_numbers import attempts_of
from alligator.tasks.message import fields_in, fields_of, id_of
from alligator.tasks.task import Task

#: The states of tasks on a queue, by name.
STATES = {
    "waiting": WAITING,
    "delayed": DELAYED,
    "running": RUNNING,
    "held": HELD,
    "dead": FAILED,
}

#: The most tasks of one page.
MOST = 10_000


def is_queue_name(client: Client, name: str) -> bool:
    """Return whether a backend can have a queue of this name, which a worker has told."""
    try:
        client.check_queue_name(name)
    except InvalidTask:
        return False
    return True


class QueueViews:
    """What one Gator tells of queues and of the tasks on them.

    :param schedules: those of the Gator, each with a ``queue_name``.
    :param used: the queues that this process pushed to.
    :param show: what is shown of arguments; see ``Gator(show_arguments=…)``.
    """

    def __init__(
        self,
        results: Results,
        pauses: Pauses,
        schedules: Iterable[Any],
        used: Iterable[str],
        show: Show | bool | None = None,
    ) -> None:
        self.results, self.pauses = results, pauses
        self.schedules, self.used, self.show = schedules, used, show

    def queues(self) -> list[QueueRow]:
        """Return the queues; see :meth:`alligator.Gator.queues`."""
        client, store = self.results.client, self.results.store
        scheduled = {each.queue_name for each in self.schedules}
        names = {*scheduled, *self.used, self.results.queue_name, *(client.queue_names() or ())}
        if store is not None:
            served = {name for each in store.live_workers() for name in read_queues(each)}
            names |= {name for name in served if is_queue_name(client, name)}
        rows = []
        for name in sorted(names - {HELD_QUEUE}):
            stats = client.stats(name)
            workers = 0 if store is None else len(store.workers(name))
            paused = self.pauses.until(name) is not None
            counts = stats.waiting, stats.delayed, stats.running, stats.dead
            if any((*counts, stats.held, workers, paused, name in scheduled)):
                rows.append(QueueRow(name, *counts, stats.oldest, paused, workers))
        return rows

    def tasks(
        self, state: str | int, limit: int, after: str | None, queue_name: str
    ) -> Page[TaskRow]:
        """Return a page of tasks; see :meth:`alligator.Gator.tasks`."""
        wanted = _state(state)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
            shown = shorten(repr(limit), 60)
            raise InvalidTask(f"limit={shown} is no whole number from 1 to {MOST:,}.")
        client, store = self.results.client, self.results.store
        client.check_queue_name(queue_name)
        if wanted == HELD and store is not None:
            found, cursor = store.list_held(client, queue_name, limit, after)
        else:
            found, cursor = client.list_tasks(queue_name, wanted, limit, after)
        page = Page(self._row(queue_name, each) for each in found)
        page.next = cursor
        if LISTING not in client.controls and wanted in (WAITING, DELAYED):
            stats = client.stats(queue_name)
            count = stats.waiting if wanted == WAITING else stats.delayed
            page.left_out = max(0, count - len(page))
        return page

    def _row(self, queue_name: str, listed: Listed) -> TaskRow:
        found = describe(listed.data)
        args, kwargs = self._call(listed.task_id, found)
        return TaskRow(
            listed.task_id,
            found.function,
            queue_name,
            listed.state,
            args,
            kwargs,
            listed.priority,
            listed.due,
            attempts_of(listed),
            found.pushed_at or None,
            shorten(listed.error, 500),
            listed.died_at,
        )

    def _call(self, task_id: str, found: Described) -> tuple[str, str]:
        """Return the arguments that a message has, as they are shown."""
        if not found.function:
            return "", ""
        names = names_known(found.function)
        if not callable(self.show):
            call = SimpleNamespace(func_args=found.args, func_kwargs=found.kwargs)
            return show_task(call, self.show, names)
        task = Task()
        task.task_id = task_id  # any text: other programs write messages, too
        task.func, task.func_args, task.func_kwargs = found.function, found.args, found.kwargs
        return show_task(task, self.show, names)

    def info(
        self, task: Task | str, history: Callable[[Task | str], History | None] | None = None
    ) -> TaskInfo:
        """Return all that is known of a task; see :meth:`alligator.Gator.task_info`.

        :param history: returns its history; None: there is no place for any.
        """
        if not isinstance(task, Task) and not (isinstance(task, str) and task):
            raise InvalidTask(f"{shorten(repr(task), 60)} is no task and no id of one.")
        results = self.results
        facts = explain.gather(results, task)
        options, row = dict[str, Any](), None
        if found := self._listed(task, facts):
            row = self._row(results.queue_of(task), found)
            options = dict(fields_in(fields_of(found.data), "options"))
        headers = options.pop("headers", None)
        return TaskInfo(
            task_id=task.task_id if isinstance(task, Task) else task,
            queue_name=results.queue_of(task),
            status=facts.state,
            explanation=explain.sentence(facts),
            row=row,
            headers=headers if is_text_to_text(headers) else {},
            options=options,
            progress=self._progress(task) if facts.state == RUNNING else None,
            history=None if history is None else history(task),
            error=facts.error,
            traceback=facts.traceback,
        )

    def _listed(self, task: Task | str, facts: Facts) -> Listed | None:
        """Return a task as it stands on its queue, or is held in the store; None: it is not."""
        client, store = self.results.client, self.results.store
        queue_name, task_id = self.results.where(task)
        place, data = facts.place, facts.data
        if place is not None and data is None:
            data = client.peek(queue_name, task_id)
        if data is None and store is not None and store.bridged:
            data = store.peek_held(client, queue_name, id_of(task))
            place = None
        if data is None:
            return None
        place = place or Place(WAITING)  # it is held
        options = fields_in(fields_of(data), "options")
        numbers = [options.get("priority"), options.get("retried")]
        priority, retried = (each if isinstance(each, int) else 0 for each in numbers)
        attempts, deaths = place.attempts, place.deaths
        if attempts is None:  # else as many retries as its message notes
            is_leased = place.state == RUNNING
            leased = self._leased(queue_name, task_id) if is_leased else None
            attempts = retried + is_leased if leased is None else leased.attempts
            deaths = deaths if leased is None else leased.deaths
        return Listed(
            task_id,
            data,
            place.state,
            priority,
            place.due,
            attempts,
            place.until,
            deaths=deaths,
        )

    def _leased(self, queue_name: str, task_id: str) -> Listed | None:
        """Return a task on lease; None: it is not there, or cannot be listed."""
        client = self.results.client
        if LISTING not in client.controls:
            return None
        leased, _ = client.list_tasks(queue_name, RUNNING, MOST)
        return next((each for each in leased if each.task_id == task_id), None)

    def _progress(self, task: Task | str) -> tuple[float, str] | None:
        store = self.results.store
        return None if store is None or not store.monitors else progress.of_task(self.results, task)


def is_text_to_text(value: Any) -> bool:
    """Return whether a value is a dictionary from text to text, as headers are."""
    return isinstance(value, dict) and all(
        isinstance(each, str) for pair in value.items() for each in pair
    )


def _state(state: Any) -> int:
    for name, number in STATES.items():
        if isinstance(state, str) and state.lower() == name:
            return number
        if not isinstance(state, bool) and state == number:
            return number
    raise InvalidTask(
        f"state={shorten(repr(state), 60)} is no state of tasks on a queue; these are "
        f"{', '.join(STATES)}."
    )


def names_known(function: str) -> tuple[str, ...]:
    """Return the names of a function's parameters if its module is loaded; it is not imported."""
    module, _, name = function.rpartition(".")
    return parameter_names(getattr(sys.modules.get(module), "__dict__", {}).get(name))
