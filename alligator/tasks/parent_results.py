"""Let what a task returned be an argument of its child; see :func:`alligator.result_of`.

In a message such an argument is null, and the option ``result_of`` says which arguments these are,
and of which tasks. So no argument of a user's can be taken for one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alligator.common.text import shorten
from alligator.exceptions import BadPayload, InvalidTask

#: Seconds that a parent keeps its result for a child, unless its own ``save_results`` says.
KEEP_RESULT = 86_400.0


@dataclass(frozen=True, slots=True)
class ResultOf:
    """Stand for what a task returned, as an argument of another.

    :param parent: the task, its id, or ``(queue_name, id)``.
    :param queue_names: the queues that it may have been on; set when the child is pushed.
    """

    parent: Any
    queue_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"result_of({getattr(self.parent, 'task_id', self.parent)!r})"


#: An argument: its index, or its name.
Where = int | str


def split(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any], dict[Where, ResultOf]]:
    """Return arguments with None for each result that they wait for; and these results."""
    given: list[tuple[Where, Any]] = [*enumerate(args), *kwargs.items()]
    found = {where: value for where, value in given if type(value) is ResultOf}
    plain_args, plain_kwargs = join(args, kwargs, dict.fromkeys(found))
    return list(plain_args), plain_kwargs, found


def join(
    args: Sequence[Any], kwargs: Mapping[str, Any], values: Mapping[Where, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments with some of them replaced."""
    return (
        tuple(values.get(index, each) for index, each in enumerate(args)),
        {name: values.get(name, each) for name, each in kwargs.items()},
    )


def read(
    given: Sequence[Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a message with the results that they wait for.

    :param given: the option ``result_of`` of the message.
    :raises BadPayload: it names no argument that is null, or no task.
    """
    free = {where for where, value in (*enumerate(args), *kwargs.items()) if value is None}
    found: dict[Where, Any] = {}
    for each in given:
        where: Any
        texts: list[Any]
        where, *texts = each if isinstance(each, list) and each else [None]
        fits = type(where) in (int, str) and where in free
        if not (fits and texts and all(isinstance(text, str) for text in texts)):
            raise BadPayload(
                f"Option 'result_of' has {shorten(repr(each), 60)}, not an argument that is null, "
                "and the id of a task."
            )
        found[where] = ResultOf(texts[0], tuple(texts[1:]))
    return join(args, kwargs, found)


def check_parent(parent: Any) -> None:
    """Refuse what is no task.

    :raises InvalidTask: it is no task, no id of one, and no ``(queue_name, id)``.
    """
    pair = isinstance(parent, tuple) and [type(part) for part in parent] == [str, str]
    if not (pair or isinstance(parent, str) or hasattr(parent, "task_id")):
        raise InvalidTask(
            f"result_of({shorten(repr(parent), 60)}): that is no task, no id of one, and no "
            "(queue_name, id)."
        )
