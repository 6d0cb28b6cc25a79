"""What an action is about: tasks that were checked, or all that match on some queues."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from alligator.constants import WAITING
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.monitoring.queues import STATES
from alligator.monitoring.rows import TaskRow
from alligator.web.error_groups import pattern_of
from alligator.web.rendering import read_ref
from alligator.web.task_filter import BRIEFLY, TaskFilter
from alligator.web.view import View

#: Tasks that are read in one step.
_STEP = 250

#: Seconds for which the tasks are counted before a visitor is asked.
_COUNTING = 1.0

#: Tasks that are named before a visitor is asked.
_NAMED = 5


@dataclass
class Summary:
    """Which tasks are meant, as a visitor is told who is asked about them.

    :param count: how many they are.
    :param is_all: whether that is all of them.
    :param looked: of how many of them the functions were counted.
    :param first: the first of them.
    """

    count: int = 0
    is_all: bool = True
    looked: int = 0
    functions: Counter[str] = field(default_factory=Counter)
    queue_names: list[str] = field(default_factory=list)
    first: list[TaskRow] = field(default_factory=list)

    def add(self, row: TaskRow) -> None:
        """Note one task."""
        self.looked += 1
        self.functions[row.function] += 1
        if row.queue_name not in self.queue_names:
            self.queue_names.append(row.queue_name)
        if len(self.first) < _NAMED:
            self.first.append(row)


@dataclass
class Selection:
    """Tasks to act on.

    :param refs: queues and ids of the tasks that were checked; None: all that match the rest.
    :param queue_names: the queues to look through.
    :param state: which tasks, as ``gator.tasks`` has it.
    :param error: only dead letters of this pattern; see
        :func:`alligator.web.error_groups.pattern_of`.
    """

    refs: list[tuple[str, str]] | None
    queue_names: list[str] = field(default_factory=list)
    state: str = "dead"
    wanted: TaskFilter = field(default_factory=TaskFilter)
    error: str = ""
    was_cut: bool = False  # the last look ended by its time

    @classmethod
    def of(cls, view: View, fields: dict[str, list[str]]) -> "Selection":
        """Return what the fields of an action select.

        :raises InvalidTask: they select nothing, or a queue or state that there cannot be.
        """
        if not fields.get("all"):
            refs = list(dict.fromkeys(map(read_ref, fields.get("task", ()))))
            if not refs:
                raise InvalidTask("No task is checked; check some first.")
            for name in {queue_name for queue_name, _ in refs}:
                view.gator.client.check_queue_name(name)
            return cls(refs)
        state = fields.get("state", ["dead"])[0]
        if state not in STATES:
            raise InvalidTask(f"state={state!r:.60} is none of {', '.join(STATES)}.")
        names = [each for each in fields.get("queue", ()) if each]
        for name in names:
            view.gator.client.check_queue_name(name)
        if not names:
            names = [each.name for each in view.gator.queues()]
        error = fields.get("error", [""])[0]
        return cls(None, names, state, TaskFilter.of(fields), error)

    def summary(self, view: View) -> Summary:
        """Return how many tasks these are, and which are the first."""
        found = Summary()
        if self.refs is not None:
            for queue_name, task_id in self.refs[:_NAMED]:
                found.add(_row_of(view, queue_name, task_id))
            found.queue_names = list(dict.fromkeys(name for name, _ in self.refs))
            found.count = len(self.refs)
            return found
        is_narrowed = self.wanted.is_on or bool(self.error)
        for row in self._rows(view, time.monotonic() + (_COUNTING if is_narrowed else BRIEFLY)):
            found.add(row)
        found.count, found.is_all = found.looked, not self.was_cut
        if not is_narrowed:
            stats = {name: view.gator.client.stats(name) for name in self.queue_names}
            counts = {name: getattr(each, self.state) for name, each in stats.items()}
            found.count, found.is_all = sum(counts.values()), True
            found.queue_names = [name for name, count in counts.items() if count]
        return found

    def tasks(self, view: View, until: float) -> Iterator[tuple[str, str]]:
        """Yield queue and id of each of them; page by page, as each is asked for.

        :param until: when to read no further page, by ``time.monotonic()``.
        """
        if self.refs is not None:
            yield from self.refs
            return
        for row in self._rows(view, until):
            yield row.queue_name, row.task_id

    def _rows(self, view: View, until: float) -> Iterator[TaskRow]:
        """Yield what the queues have of them; see :meth:`tasks`."""
        self.was_cut = False
        for name in self.queue_names:
            after = None
            while True:
                try:
                    page = view.gator.tasks(self.state, _STEP, after, queue_name=name)
                except UnsupportedOption:
                    break
                for row in page:
                    if self._has(row, view.now):
                        yield row
                if (after := page.next) is None:
                    break
                if time.monotonic() > until:
                    self.was_cut = True
                    return

    def _has(self, row: TaskRow, now: float) -> bool:
        if self.error and pattern_of(row.error) != self.error:
            return False
        return self.wanted.matches(row, now)


def _row_of(view: View, queue_name: str, task_id: str) -> TaskRow:
    """Return a task that was checked, as far as its queue still knows it."""
    try:
        info = view.gator.on_queue(queue_name).task_info(task_id)
    except AlligatorException:
        info = None
    if info is None or info.row is None:
        return TaskRow(task_id, "", queue_name, WAITING, "", "", 0, None, 0)
    return replace(info.row, error=info.row.error or info.error)
