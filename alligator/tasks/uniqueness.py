"""Make the key by which a queue tells that a task is pending already."""

import hashlib
import json
from typing import Any, Protocol

from alligator.backends.types import Controls
from alligator.common import strict_json
from alligator.exceptions import BadPayload, InvalidTask
from alligator.tasks.functions import explain_json, positional, split_name, wire_name
from alligator.tasks.message import id_of
from alligator.tasks.parent_results import split

#: Times ``debounce``: the seconds after which a task starts, unless ``debounce_max`` says.
DEBOUNCE_MAX = 10.0


class Unique(Protocol):
    """The attributes of a task that its key, and how long it holds, are made of."""

    func: Any
    func_args: Any
    func_kwargs: Any
    unique: bool | str
    unique_until: str
    debounce: float | None
    debounce_max: float | None


def with_unique(controls: Controls, task: Unique) -> Controls:
    """Return controls with what ``unique`` and ``debounce`` of a task ask of its queue.

    :raises InvalidTask: its arguments cannot be a key.
    """
    unique = getattr(task, "unique", False)
    debounce = getattr(task, "debounce", None) or 0.0
    if not unique and not debounce:
        return controls
    until_start = bool(debounce) or getattr(task, "unique_until", "end") == "start"
    return controls._replace(
        unique_key=f"key:{unique}" if isinstance(unique, str) else f"call:{_digest(task)}",
        unique_until_start=until_start,
        debounce=debounce,
        debounce_max=getattr(task, "debounce_max", None) or DEBOUNCE_MAX * debounce,
    )


def without_unique(controls: Controls) -> Controls:
    """Return controls without what :func:`with_unique` adds."""
    return controls._replace(
        unique_key="", unique_until_start=False, debounce=0.0, debounce_max=0.0
    )


def _digest(task: Unique) -> str:
    """Return what is the same for the same function and arguments, however they are spelled."""
    func = task.func
    name = split_name(func) if isinstance(func, str) else wire_name(func)
    args, kwargs = positional(func, task.func_args, task.func_kwargs)
    args, kwargs, awaited = split(args, kwargs)
    ids = [[where, id_of(each.parent)] for where, each in awaited.items()]
    try:
        # Read back, so that all names are text: numbers could not be sorted among them.
        call = strict_json.loads(strict_json.dumps([*name, args, kwargs, *ids]))
    except (TypeError, ValueError, RecursionError, OverflowError, BadPayload) as err:
        option = "unique=True" if getattr(task, "unique", False) else "debounce="
        raise InvalidTask(
            f"{'.'.join(name)}: {option} makes one key of the arguments, so {explain_json(err)}; "
            "or give unique='key' with a key of your own."
        ) from err
    return hashlib.sha256(json.dumps(call, sort_keys=True).encode()).hexdigest()
