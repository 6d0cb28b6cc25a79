"""Write and read the message of a task: a JSON object, that of Alligator 1.0."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace, UnionType
from typing import Any, Protocol, TypeVar

from alligator.backends.base import LIMIT, RATE, Client, Controls, Data, Message, controlled
from alligator.common import strict_json
from alligator.common.ids import is_generated
from alligator.common.importing import determine_module, determine_name, import_guard
from alligator.common.text import describe_error, shorten
from alligator.exceptions import BadPayload, InvalidTask
from alligator.security.signing import body_of
from alligator.tasks import parent_results
from alligator.tasks.adapters import adapter_of, check_adapter
from alligator.tasks.functions import import_callable, split_name, wire_name
from alligator.tasks.limits import with_limits
from alligator.tasks.parent_ids_in_store import KeptParents
from alligator.tasks.parent_ids_in_store import read as read_kept
from alligator.tasks.validation import CHECKS, MOST_RETRIES, moment

#: What ``is_async`` may be on a queue.
_TRUTH = bool | int | str
_NUMBER = int | float

_HOOKS = ("on_start", "on_success", "on_error")

#: Options that are written where they are not as here.
_WRITTEN = {
    "priority": 0,
    "retry_delay": 0.0,
    "retry_backoff": 1.0,
    "retry_max_delay": None,
    "retry_on": None,
    "give_up_on": None,
    "limit": None,
    "limit_key": None,
    "rate": None,
    "rate_key": None,
    "save_results": None,
    "history": None,
    "timeout": None,
    "hook_timeout": None,
    "delay_until": None,
    "expires_at": None,
    "adapter": None,
}
_NOTED = ("retried", "pushed_at", "depends_on", "last_error", "note_end")
_READ = {name: CHECKS.get(name) or moment(name) for name in _WRITTEN}
_READ["adapter"] = check_adapter
# "own_id" is Task.lookalike_id, and "result_of" the arguments that are results of other tasks.
_KNOWN = (*_HOOKS, *_WRITTEN, *_NOTED, "headers", "result_of", "own_id")
#: What a task has of its own if it has options; "pushed_at" is written beside others only.
_TELLING = frozenset(_KNOWN) - {"pushed_at"} | {
    "_depends_on",
    "_headers",
    "kept_parents",
    "lookalike_id",
    "awaits_results",
}

#: Options that a task gets on its way, and loses when it is revived.
_OF_THIS_LIFE = frozenset({"retried", "last_error", "expires_at"})

#: Characters of a message that leave room for its last error on any backend.
_ROOMY = 32_000


class Fields:
    """A JSON object from a queue, read field by field."""

    __slots__ = ("fields",)

    def __init__(self, fields: Any) -> None:
        if type(fields) is not dict and not isinstance(fields, Mapping):
            raise BadPayload(f"The message is a JSON {type(fields).__name__}, not an object.")
        self.fields: Mapping[str, Any] = fields

    def read(self, name: str, kind: type | UnionType, *default: Any) -> Any:
        """Return a field of that type, or the default where it is absent or null."""
        value = self.fields.get(name)
        if type(value) is kind:  # as nearly always
            return value
        if value is None and default:
            return default[0]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            shown = shorten(repr(value), 60) if name in self.fields else "missing"
            wanted = getattr(kind, "__name__", kind)
            raise BadPayload(f"Field {name!r} of the message is {shown}, not {wanted}.")
        return value

    def check_known(self, names: Sequence[str]) -> None:
        """Refuse other names: a later version may need them for the task to run as it should."""
        for name, value in self.fields.items():
            if name not in names and value is not None:
                known = ", ".join(names)
                raise BadPayload(f"Option {shorten(name)!r} is not known here; known: {known}.")

    def function(self, *, plain: bool = False, adapter: str | None = None) -> Callable[..., Any]:
        """Import the function that ``module`` and ``callable`` name."""
        module, name = self.read("module", str), self.read("callable", str)
        return function(module, name, plain=plain, adapter=adapter)


class Described(Protocol):
    """The attributes that a message has of a task, beside its hooks and ``_WRITTEN`` options."""

    task_id: str
    retries: int
    is_async: bool
    func: Any
    func_args: Any
    func_kwargs: Any
    save_results: float | None
    note_end: float | None
    expires_at: float | None
    pushed_at: float
    lookalike_id: bool
    retried: int
    last_error: str
    depends_on: list[Any] | None
    kept_parents: KeptParents | None
    headers: Any
    awaits_results: bool
    observer: Any

    @property
    def known_for(self) -> float:
        """Return the seconds that the store keeps its outcome."""

    @property
    def has_own_id(self) -> bool:
        """Return whether the user chose its id."""

    def to_call(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Set the function and its arguments."""


T = TypeVar("T", bound=Described)


def write(task: Described) -> str | bytes:
    """Return the message of the task: a JSON object, that of Alligator 1.0.

    A subclass may return text or bytes of its own making.

    :raises TypeError, ValueError: the arguments do not survive JSON.
    :raises InvalidTask: the function, or a hook, cannot be imported.
    """
    # Two texts are joined, as the first is cached except for the id: 3.6 µs, not 4.5, of 20.
    begin = f'{{"task_id":{strict_json.quoted(task.task_id)},'
    begin += _call(task.retries, task.is_async, *_names(task.func))
    # Most tasks have no option: this check takes 0.7 µs, a look at each option 1.7, of 20.
    plain = _TELLING.isdisjoint(vars(task)) and _has_defaults(type(task))
    plain = plain and (not task.pushed_at or is_generated(task.task_id))
    options = {} if plain else _options(task)
    data = {"args": task.func_args, "kwargs": task.func_kwargs, "options": options}
    if not plain and task.awaits_results:
        data["args"], data["kwargs"], awaited = parent_results.split(
            task.func_args, task.func_kwargs
        )
        if awaited:
            options["result_of"] = [
                [where, id_of(each.parent), *each.queue_names] for where, each in awaited.items()
            ]
    text = strict_json.dumps(data, begin)
    if task.last_error and len(text) < _ROOMY:
        options["last_error"] = task.last_error
        text = strict_json.dumps(data, begin)
    return text


@lru_cache(maxsize=1024, typed=True)
def _call(retries: int, is_async: bool, module: str, name: str) -> str:
    """Return the part of a message between the id and the arguments, with the closing brace."""
    call = {"retries": retries, "is_async": is_async, "module": module, "callable": name}
    return strict_json.dumps(call)[1:]


def _options(task: Described) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for hook in _HOOKS:
        if (function := getattr(task, hook)) is not None:
            module, name = _names(function)
            options[hook] = {"module": module, "callable": name}
    for option, default in _WRITTEN.items():
        if (value := getattr(task, option)) != default:
            options[option] = value
    if task.note_end and not task.save_results:
        options["note_end"] = task.note_end
    known = task.known_for or task.expires_at is not None or task.has_own_id
    if task.pushed_at and known:
        options["pushed_at"] = task.pushed_at
    if task.lookalike_id:
        options["own_id"] = None  # which Alligator 1.1 passes over
    if task.kept_parents is not None:
        options["depends_on"] = [str(task.kept_parents)]
    elif task.depends_on:
        options["depends_on"] = [id_of(each) for each in task.depends_on]
    if task.retried:
        options["retried"] = task.retried
    if headers := getattr(task, "_headers", None):
        options["headers"] = CHECKS["headers"](headers)  # again: it may have been changed
    return options


@lru_cache(maxsize=64)
def _has_defaults(kind: Any) -> bool:
    """Return whether a task of this class has no options unless it is given some."""
    missing = object()
    same = (getattr(kind, name, missing) == default for name, default in _WRITTEN.items())
    others = (getattr(kind, name, missing) for name in (*_HOOKS, *_NOTED, "lookalike_id"))
    return all(same) and not any(each for each in others if not isinstance(each, property))


@lru_cache(maxsize=4096)
def _names(func: Any) -> tuple[str, str]:
    if isinstance(func, str):
        return split_name(func)
    try:
        return wire_name(func)
    except InvalidTask:
        if not callable(func) or getattr(func, "__module__", None) is None:
            raise
        # Refused for a queue by the Gator; a Task by itself may still be looked at.
        return determine_module(func), determine_name(func)


def read(data: str | bytes, make: Callable[[str, int, Any], T]) -> T:
    """Return the task of a message; see :meth:`alligator.Task.deserialize`.

    :param make: returns a new task, given ``task_id``, ``retries`` and ``is_async``.
    """
    message = Fields(strict_json.loads(data))
    fields = message.fields
    options = message.read("options", dict, {})
    try:
        # Whatever is_async says, a worker runs it; 0.x wrote what it found in the environment.
        truth = fields.get("is_async")
        if truth is not True:
            truth = message.read("async" if truth is None else "is_async", _TRUTH, True)
        task = make(message.read("task_id", str), message.read("retries", int), truth)
        if options:
            _read_options(task, Fields(options))
    except (InvalidTask, TypeError) as err:
        raise BadPayload(f"The message has an unusable field: {err}") from err
    adapter = options.get("adapter") if options else None
    func, args = message.function(adapter=adapter), message.read("args", list, [])
    kwargs = message.read("kwargs", dict, {})
    if options and options.get("result_of") is not None:
        args, kwargs = parent_results.read(Fields(options).read("result_of", list), args, kwargs)
        task.awaits_results = True
    task.to_call(func, *args, **kwargs)
    if options:
        _read_hooks(task, Fields(options))
    if adapter is not None:
        task.observer = getattr(func, "observer", None)
    return task


def _read_options(task: Described, options: Fields) -> None:
    options.check_known(_KNOWN)
    task.note_end = CHECKS["save_results"](options.read("note_end", _NUMBER, 0))
    parents = CHECKS["depends_on"](options.read("depends_on", list, [])) or None
    kept = parents and read_kept(parents)
    if kept:
        task.kept_parents = kept
    else:
        task.depends_on = parents
    for option, check in _READ.items():
        if (value := options.fields.get(option)) is not None:
            setattr(task, option, check(value))
    task.retried = options.read("retried", int, 0)
    task.last_error = options.read("last_error", str, "")
    task.pushed_at = float(options.read("pushed_at", _NUMBER, 0))
    if (headers := options.fields.get("headers")) is not None:
        task.headers = CHECKS["headers"](headers)
    if "own_id" in options.fields:
        task.lookalike_id = True


def _read_hooks(task: Described, options: Fields) -> None:
    for hook in _HOOKS:
        if options.fields.get(hook) is not None:
            setattr(task, hook, Fields(options.read(hook, dict)).function(plain=True))


def function(
    module: str, name: str, *, plain: bool = False, adapter: str | None = None
) -> Callable[..., Any]:
    """Import the function that a message names; one that has passed is not checked again.

    :param adapter: says how what the name leads to becomes a function; None: it is one.
    """
    guard, key = import_guard.get(), (module, name, plain)
    if guard is not None:
        known = guard.recall(key) if adapter is None else guard.stand_in(module, name)
        if known is not None:
            return known  # type: ignore[no-any-return]
    try:
        split_name(f"{module}:{name}")
    except InvalidTask as err:
        raise BadPayload(describe_error(err)) from err
    adapt = None if adapter is None else adapter_of(adapter)
    found = import_callable(module, name, plain=plain, adapt=adapt)
    if guard is not None and adapt is None:
        guard.remember(key, found)
    return found


def renewed(data: str | bytes, retries: int | None = None) -> str | bytes | None:
    """Return the message of a dead letter as it was pushed; None: it is that already.

    Import nothing that it names. Give back the retries it has used, and any that a hook granted.
    Remove the expiry, since the user who revives a task wants it to run.

    :param retries: give it that many retries; None: as many as it was pushed with.
    :raises BadPayload: it is no message of a task.
    """
    message = Fields(strict_json.loads(data))
    options = message.read("options", dict, {})
    left, spent = message.read("retries", int), Fields(options).read("retried", int, 0)
    if retries is None:
        retries = max(left, min(left + spent, MOST_RETRIES))
    kept = {name: value for name, value in options.items() if name not in _OF_THIS_LIFE}
    if retries == left and len(kept) == len(options):
        return None
    fields = {**message.fields, "retries": retries}
    if "options" in fields:
        fields["options"] = kept
    text = strict_json.dumps(fields)
    return text.encode() if isinstance(data, bytes) else text


# The count is a tab and that many spaces at the end of a message. To every reader of JSON, also in
# Alligator 1.1, it is the same message. A message that is written again, for a retry, has none.


def missed(data: str | bytes) -> int:
    """Return how often the code of a task was missing, from the end of its message or envelope.

    It counts from the push, or from the last run.
    """
    if isinstance(data, bytes):
        bare = data.rstrip(b" ")
        return len(data) - len(bare) if bare.endswith(b"\t") else 0
    text = data.rstrip(" ")
    return len(data) - len(text) if text.endswith("\t") else 0


def with_missed(data: str | bytes, count: int) -> str | bytes | None:
    """Return a message with a count of how often its code was missing; 0: without a count.

    :returns: None: it is no JSON object, or so long that it has no room for the count.
    """
    before = missed(data)
    plain = data[: -before - 1] if before else data
    if not count and not before:
        return data
    try:
        Fields(strict_json.loads(data))
    except BadPayload:
        return None
    if not count:
        return plain
    noted = plain + f"\t{' ' * count}" if isinstance(plain, str) else plain + b"\t" + b" " * count
    return noted if len(noted) <= strict_json.MAX_BYTES else None


def id_of(parent: Any) -> str:
    """Return the id that an entry of ``depends_on`` names: a task, an id, ``(queue_name, id)``."""
    return str(parent[1] if isinstance(parent, tuple) else getattr(parent, "task_id", parent))


def fields_of(data: Data) -> dict[str, Any]:
    """Return the fields of a message, unchecked; {} if it is no JSON object."""
    try:
        fields = strict_json.loads(body_of(data))
    except BadPayload:
        return {}
    return fields if isinstance(fields, dict) else {}


def fields_in(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object inside a message; an empty one if there is none."""
    inner = fields.get(name)
    return inner if isinstance(inner, dict) else {}


def with_limits_in(message: Message, client: Client) -> Message:
    """Return a message from elsewhere with the limit and the rate that it names itself.

    A client that keeps neither gets it as it is, as does one of a message that cannot be read.
    """
    fields = fields_of(message.data) if client.controls >= {LIMIT, RATE} else {}
    options = fields_in(fields, "options")
    if not (options.get("limit") or options.get("rate")):
        return message
    name = f"{fields.get('module')}.{fields.get('callable')}"
    found = SimpleNamespace(limit_key=name, rate_key=name)
    try:
        for option in ("limit", "limit_key", "rate", "rate_key"):
            if options.get(option) is not None:
                setattr(found, option, CHECKS[option](options[option]))
    except InvalidTask:
        return message  # a worker will bury it
    return controlled(message, with_limits(Controls(), found))


def is_known_later(data: Data) -> bool:
    """Return whether the outcome of a task will be recorded in a store."""
    options = fields_in(fields_of(data), "options")
    return bool(options.get("save_results") or options.get("note_end"))
