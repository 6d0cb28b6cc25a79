"""Define the tasks of ``@task``: those of Django's framework, with the options of Alligator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from alligator.common.text import shorten
from alligator.contrib.django.tasks_framework import InvalidTask, base
from alligator.exceptions import InvalidTask as InvalidGatorTask
from alligator.tasks.validation import CHECKS

#: Options of a Gator that the framework has as well, or that are no options of one task: what to
#: write instead.
_ELSEWHERE = {
    "delay_by": "use run_after=timedelta(…)",
    "delay_until": "use run_after=",
    "is_async": "the setting OPTIONS = {'IMMEDIATE': True} of TASKS runs tasks at once",
    "async": "the setting OPTIONS = {'IMMEDIATE': True} of TASKS runs tasks at once",
    "task_id": "enqueue() makes the id, and its result has it",
    "tz": "it is for schedules",
    "catch_up": "it is for schedules",
    "overlap": "it is for schedules",
}


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class AlligatorTask(base.Task):  # type: ignore[misc]
    """A task of Django's framework that takes the options of :meth:`alligator.Gator.options`.

    ::

        @task(retries=3, unique=True)
        def notify(user_id): ...

        notify.using(timeout=30).enqueue(user.pk)

    :param options: those options, by name, checked; each may also be given by itself.
    :param run_after: when it is to run, or a timedelta from now on.
    :raises TypeError: there is no such option, or the framework spells it otherwise.
    :raises InvalidTask: that of the framework: an option cannot have this value.
    """

    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __init__(
        self,
        *,
        func: Callable[..., Any],
        priority: int = base.DEFAULT_TASK_PRIORITY,
        backend: str = base.DEFAULT_TASK_BACKEND_ALIAS,
        queue_name: str = base.DEFAULT_TASK_QUEUE_NAME,
        run_after: datetime | timedelta | None = None,
        takes_context: bool = False,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        if not isinstance(run_after, datetime | timedelta | None):
            raise InvalidTask(
                f"run_after is {shorten(repr(run_after), 60)}; it is a datetime, or a timedelta "
                "from now on."
            )
        if isinstance(run_after, timedelta):
            try:
                run_after = timezone.now() + run_after
            except OverflowError as err:
                raise InvalidTask(
                    f"run_after={run_after} from now on is later than any datetime; the last is "
                    f"{datetime.max}."
                ) from err
        given: dict[str, Any] = {"func": func, "priority": priority, "backend": backend}
        given |= {"queue_name": queue_name, "run_after": run_after, "takes_context": takes_context}
        given["options"] = _checked({**(options or {}), **more})
        for name, value in given.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | timedelta | None = None,
        backend: str | None = None,
        **options: Any,
    ) -> "AlligatorTask":
        """Return this task with other options; one that is None is as before.

        ::

            notify.using(retries=5, unique=f'user {user.pk}').enqueue(user.pk)

        :raises TypeError: there is no such option.
        :raises InvalidTask: that of the framework: a value cannot be.
        """
        framework: dict[str, Any] = {"priority": priority, "queue_name": queue_name}
        framework |= {"run_after": run_after, "backend": backend}
        kept: dict[str, Any] = {
            name: getattr(self, name) if value is None else value
            for name, value in framework.items()
        }
        changed = {name: value for name, value in options.items() if value is not None}
        return type(self)(
            func=self.func,
            takes_context=self.takes_context,
            options={**self.options, **changed},
            **kept,
        )


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in options.items():
        if name in _ELSEWHERE:
            raise TypeError(f"A task of Django's framework takes no {name}=: {_ELSEWHERE[name]}.")
        if value is None:
            continue
        if name == "depends_on":
            some = value if isinstance(value, list | tuple) else [value]
            value = [_place(each) for each in some]
        try:
            found[name] = CHECKS[name](value) if name in CHECKS else value
        except InvalidGatorTask as err:
            raise InvalidTask(str(err)) from err
    return found


def _place(parent: Any) -> Any:
    """Return the queue and the id of a result; anything else as it is."""
    return (parent.task.queue_name, parent.id) if isinstance(parent, base.TaskResult) else parent
