"""Many tasks with the same options, which are checked once."""

from typing import Any

from alligator.common.ids import new_task_id
from alligator.tasks.task import Task

_MISSING = object()
_OF_EACH = ("task_id", "func_args", "func_kwargs")


class Mold:
    """Makes tasks with one set of options.

    :raises TypeError, InvalidTask, MultipleDelayError: see :class:`alligator.Task`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        first = vars(Task(**options))
        self._differs = {
            name: value
            for name, value in first.items()
            if value != getattr(Task, name, _MISSING) and name not in _OF_EACH
        }
        if "delay_by" in self._differs:
            del self._differs["delay_until"]  # a delay counts from the push of each

    def cast(self, task_class: type[Task]) -> Task:
        """Return a new task of that class."""
        if task_class is not Task:  # a class of the user: its constructor decides
            return task_class(**self.options)
        task = Task.with_id(self.options.get("task_id") or new_task_id())
        task.func_args, task.func_kwargs = [], {}
        for name, value in self._differs.items():
            setattr(task, name, value)
        if "_depends_on" in self._differs:
            task.depends_on = list(task.depends_on or ())
        return task
