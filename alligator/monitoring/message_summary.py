"""Say what a message asks for, without an import of what it names."""

from typing import Any, NamedTuple

from alligator.backends.base import Data
from alligator.monitoring.activity_counts import when_pushed
from alligator.security.signing import body_of
from alligator.tasks.message import fields_in, fields_of

#: Characters of a message that is read only for the name of its function.
_LONGEST = 100_000

_LONGEST_NAME = 200

#: In a JSON text, this cannot be part of a string: the quotation marks would be escaped.
_ARGS = ',"args":'
_LONGEST_HEAD = 2_000


class Described(NamedTuple):
    """What a message says, unchecked; '' or 0 where it says nothing."""

    function: str = ""  # 'module.name'
    args: Any = ()
    kwargs: Any = {}  # noqa: RUF012 - never changed
    pushed_at: float = 0.0
    kept_for: float = 0.0  # seconds for which its history is kept; 0: it has none


def describe(data: Data) -> Described:
    """Return what a message says; a message that cannot be read says nothing."""
    fields = fields_of(data)
    options = fields_in(fields, "options")
    args, kwargs = fields.get("args"), fields.get("kwargs")
    return Described(
        _name(fields),
        args if isinstance(args, list) else (),
        kwargs if isinstance(kwargs, dict) else {},
        when_pushed(
            _seconds(options.get("pushed_at")), fields.get("task_id"), own="own_id" in options
        ),
        _kept(options.get("history"), options.get("save_results")),
    )


def describe_briefly(data: Data) -> Described:
    """Do the same for a message that may be large: of that, read no more than its function."""
    if len(data) <= _LONGEST:
        return describe(data)
    body = body_of(data)
    text = body if isinstance(body, str) else body[:_LONGEST_HEAD].decode(errors="replace")
    head, args, _ = text[:_LONGEST_HEAD].partition(_ARGS)
    return describe(head + "}") if args else Described()


def history_kept(task: Any) -> float:
    """Return for how many seconds the history of a task is kept; 0: it has none."""
    return _kept(getattr(task, "history", None), getattr(task, "save_results", None))


def _kept(history: Any, save_results: Any) -> float:
    return _seconds(save_results if history is None else history)


def _seconds(value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return min(float(value), 1e11) if good else 0.0


def _name(fields: dict[str, Any]) -> str:
    module, name = fields.get("module"), fields.get("callable")
    if not (isinstance(module, str) and isinstance(name, str)):
        return ""
    return f"{module}.{name}"[:_LONGEST_NAME]
