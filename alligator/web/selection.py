"""What an action is about: tasks that were checked, or all that match on some queues."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.monitoring.queues import STATES
from alligator.monitoring.rows import TaskRow
from alligator.web.error_groups import pattern_of
from alligator.web.rendering import read_ref
from alligator.web.task_filter import TaskFilter
from alligator.web.view import View

#: Tasks that are read in one step.
_STEP = 250

#: Seconds for which the tasks are counted before a visitor is asked.
_COUNTING = 1.0


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

    def count(self, view: View) -> tuple[int, bool]:
        """Return how many tasks these are, and whether that is all of them."""
        if self.refs is not None:
            return len(self.refs), True
        if not (self.wanted.is_on or self.error):
            stats = map(view.gator.client.stats, self.queue_names)
            return sum(getattr(each, self.state) for each in stats), True
        count = sum(1 for _ in self.tasks(view, time.monotonic() + _COUNTING))
        return count, not self.was_cut

    def tasks(self, view: View, until: float) -> Iterator[tuple[str, str]]:
        """Yield queue and id of each of them; page by page, as each is asked for.

        :param until: when to read no further page, by ``time.monotonic()``.
        """
        self.was_cut = False
        if self.refs is not None:
            yield from self.refs
            return
        for name in self.queue_names:
            after = None
            while True:
                try:
                    page = view.gator.tasks(self.state, _STEP, after, queue_name=name)
                except UnsupportedOption:
                    break
                for row in page:
                    if self._has(row, view.now):
                        yield name, row.task_id
                if (after := page.next) is None:
                    break
                if time.monotonic() > until:
                    self.was_cut = True
                    return

    def _has(self, row: TaskRow, now: float) -> bool:
        if self.error and pattern_of(row.error) != self.error:
            return False
        return self.wanted.matches(row, now)
