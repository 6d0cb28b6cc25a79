"""Encode tasks for a queue, signed or not, and decode them under the policy."""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from alligator.backends.base import Data, Delivery
from alligator.common import strict_json
from alligator.common.importing import import_guard
from alligator.common.text import describe_error, shorten
from alligator.exceptions import AlligatorException, BadPayload, BadSignature, LeaveNow, NotAllowed
from alligator.security.policy import Policy, Reading
from alligator.security.signing import Signer, is_signed, signed_id
from alligator.tasks import message as message_module
from alligator.tasks.parent_ids_in_store import KeptParents
from alligator.tasks.parent_results import ResultOf, join, split
from alligator.tasks.task import Task

log = logging.getLogger(__name__)

_BEGIN = '{"task_id":"'
_ID = slice(len(_BEGIN), len(_BEGIN) + 36)  # a UUID; messages with other ids are read in full
#: In a JSON text, this cannot be part of a string: the quotation marks would be escaped.
_ARGS = ',"args":'
_KWARGS = ',"kwargs":'
_CLOSE = ',"options":{}}'
_CACHED_FIELDS = {"task_id", "retries", "is_async", "module", "callable"}
_is_uuid = re.compile("[0-9a-f-]{36}").fullmatch
_LONGEST_HEADER = 1500  # characters
_MOST_HEADERS = 1024


class DecodeCache:
    """Decode messages whose header is known, and parse only their arguments.

    The messages for one function differ in their ids and their arguments::

        {"task_id":"0199…","retries":0,"is_async":true,"module":"m","callable":"f",
         "args":[…],"kwargs":{…},"options":{}}

    The header is the text between the two. It is read in full once, and its function held to the
    policy. Any other message is read in full, so the cache passes nothing that reading refuses.
    It takes 3 µs a message, and a plain reading of the same 6 µs, of the 20 µs of a task (2026).
    """

    def __init__(self) -> None:
        # retries, module, name and function, by header
        self._known: dict[str, tuple[int, str, str, Any]] = {}

    def read(self, data: str) -> Task | None:
        """Return the task of a message; None: it has to be read in full."""
        end = data.find(_ARGS, _ID.stop, _LONGEST_HEADER)
        known = self._known.get(data[_ID.stop : end])
        if known is None or not data.startswith(_BEGIN):
            return None
        retries, module, name, func = known
        here: Any = getattr(sys.modules.get(module), "__dict__", {})
        if here.get(name) is not func:
            return None  # it has been replaced
        task_id = data[_ID]
        call = strict_json.load_two(data, end + len(_ARGS), _KWARGS)
        if call is None or not _is_uuid(task_id):
            return None
        args, kwargs, end = call
        if type(args) is not list or type(kwargs) is not dict or data[end:] != _CLOSE:
            return None
        task = Task.__new__(Task)
        task.task_id, task.func, task.func_args, task.func_kwargs = (
            task_id,
            func,
            tuple(args),
            kwargs,
        )
        if retries:
            task.retries = retries
        return task

    def learn(self, data: str, task: Task) -> None:
        """Remember the header of a message that was read in full and may run."""
        end = data.find(_ARGS, _ID.stop, _LONGEST_HEADER)
        header = data[_ID.stop : end]
        if end < 0 or not data.startswith(_BEGIN) or header in self._known:
            return
        try:
            fields = strict_json.loads(data[:end] + "}")
        except AlligatorException:
            return
        if (
            set(fields) == _CACHED_FIELDS
            and fields["is_async"] is True
            and fields["task_id"] == data[_ID]
            and _is_uuid(data[_ID])
        ):
            if len(self._known) >= _MOST_HEADERS:
                self._known.clear()
            self._known[header] = task.retries, fields["module"], fields["callable"], task.func


@dataclass(slots=True)
class Codec:
    """Write and read the tasks of one Gator.

    :param keeps_task_ids: whether the queue keeps the ids of tasks, so that no other id is on it.
    :param parents: returns the ids that a task depends on, if the store keeps them; None: there is
        no store.
    :param results: returns what tasks returned; None: there is no store.
    """

    task_class: type[Task]
    policy: Policy
    signer: Signer | None
    keeps_task_ids: bool
    parents: Callable[[str, KeptParents], list[str]] | None = None
    results: Callable[[Sequence[ResultOf]], list[Any]] | None = None
    cache: DecodeCache = field(default_factory=DecodeCache)

    def encode(self, task: Task, queue_name: str) -> Data:
        """Return the message of a task, signed for that queue if there are keys.

        :raises TypeError, ValueError, InvalidTask: see :meth:`alligator.Task.serialize`.
        """
        data = task.serialize()
        return self.signer.seal(queue_name, task.task_id, data) if self.signer else data

    def decode(self, delivery: Delivery) -> Task:
        """Return the task of a delivery, if it may run here.

        The policy checks each name before it is imported, whatever ``deserialize`` does, and
        each function of the task afterwards.

        :raises BadSignature: keys are set, and none of them has signed the message.
        :raises NotAllowed: the message names a function that may not run.
        :raises BadPayload, UnknownModuleError, ImportFailed, UnknownCallableError: see
            :meth:`alligator.Task.deserialize`.
        """
        data = delivery.data if self.signer is None else self.open(delivery)
        text = data if self.task_class is Task and isinstance(data, str) else None
        if text is not None and (found := self.cache.read(text)) is not None:
            return found
        if self.signer is None:
            self.open(delivery)  # refuses what is signed: the cache does not know such a header
        reading = Reading(self.policy)
        token = import_guard.set(reading)
        try:
            task = self.task_class.deserialize(data)
        finally:
            import_guard.reset(token)
        for name in ("func", "on_start", "on_success", "on_error"):
            if (function := getattr(task, name, None)) is not None:
                reading.check(function)
        self._lead_to_parents(task)
        if text is not None:
            self.cache.learn(text, task)
        return task

    def fetch_results(self, task: Task) -> None:
        """Put what other tasks returned in the arguments of one that awaits their results.

        :raises ResultTimeout: one of them is not kept, or not any more.
        :raises BadSignature, BadPayload: it is not signed as it has to be; or cannot be read.
        :raises ConnectionLost: the store cannot be reached.
        """
        args, kwargs, awaited = split(task.func_args, task.func_kwargs)
        if awaited and self.results is not None:
            values = dict(zip(awaited, self.results(list(awaited.values())), strict=True))
            task.func_args, task.func_kwargs = join(args, kwargs, values)

    def renewed(
        self, queue_name: str, task_id: str, data: Data, retries: int | None = None
    ) -> Data:
        """Return the data of a dead letter as it was pushed: with all retries, and no expiry.

        Return data that cannot be read here as they are, and log that.

        :param task_id: its id on the queue.
        :param retries: give it so many retries; None: as many as it was pushed with.
        """
        delivery = Delivery(queue_name, task_id, data, None)
        try:
            opened = self.open(delivery)
            plain = message_module.with_missed(opened, 0)
            try:
                renewed = message_module.renewed(opened, retries)
            except BadPayload:
                if self.task_class is Task:
                    raise
                return self._renewed_by_its_class(delivery, retries)  # it has a format of its own
        except (KeyboardInterrupt, LeaveNow):
            raise
        except BaseException as err:  # such a class may raise anything
            log.warning("Task %s is revived unchanged: %s", shorten(task_id), describe_error(err))
            return data
        if renewed is None:
            renewed = plain
        if renewed is None or renewed == opened:
            return data
        return self._sealed_as(delivery, renewed)

    def with_missed(self, delivery: Delivery, count: int) -> Data | None:
        """Return the data of a delivery with a count of how often its code was missing.

        :param count: the count; 0: remove it.
        :returns: None: the message has no room for the count.
        :raises BadSignature: see :meth:`open`.
        """
        noted = message_module.with_missed(self.open(delivery), count)
        return None if noted is None else self._sealed_as(delivery, noted)

    def _sealed_as(self, delivery: Delivery, opened: Data) -> Data:
        """Return data in an envelope like that of the delivery, if it has one."""
        sealed_id = signed_id(delivery.data)
        if self.signer is None or sealed_id is None:
            return opened
        return self.signer.seal(delivery.queue_name, sealed_id, opened)

    def _renewed_by_its_class(self, delivery: Delivery, retries: int | None) -> Data:
        task = self.decode(delivery)
        task.retries = task.retries + task.retried if retries is None else retries
        task.retried, task.last_error, task.expires_at = 0, "", None
        return self.encode(task, delivery.queue_name)

    def decode_names(self, delivery: Delivery) -> Task:
        """Return the same task with names instead of functions; import nothing.

        The task can be inspected and pushed again, but not run.

        :raises BadSignature, BadPayload: as :meth:`decode` does.
        :raises NotAllowed: its class imports modules itself.
        """
        data = self.open(delivery)
        token = import_guard.set(_Names())
        try:
            task = self.task_class.deserialize(data)
        finally:
            import_guard.reset(token)
        self._lead_to_parents(task)
        return task

    def _lead_to_parents(self, task: Task) -> None:
        if self.parents and (kept := getattr(task, "kept_parents", None)) is not None:
            task.kept_parents = replace(kept, load=self.parents)

    def open(self, delivery: Delivery) -> Data:
        """Return the data of a delivery without its envelope, unread.

        :raises BadSignature: keys are set and none of them has signed it; or it is signed and
            no keys are set.
        """
        if self.signer is None:
            if is_signed(delivery.data):
                raise BadSignature("The message is signed; this worker needs the secret_keys.")
            return delivery.data
        task_id, data = self.signer.open(delivery.queue_name, delivery.data)
        if self.keeps_task_ids and task_id != delivery.task_id:
            raise BadSignature("The message was signed under another task id.")
        return data


class FunctionName(str):
    """``'myapp.mail:Mailer.send'``, with the attributes that a function has for its name."""

    __name__: str
    __qualname__: str

    def __new__(cls, module: str, name: str) -> Self:
        found = super().__new__(cls, f"{module}:{name}")
        found.__module__, found.__name__, found.__qualname__ = module, name, name
        return found


class _Names:
    """An ImportGuard that returns names instead of functions, and lets nothing be imported."""

    def stand_in(self, module: str, name: str) -> FunctionName:
        return FunctionName(module, name)

    def recall(self, key: tuple[str, str, bool]) -> FunctionName:
        return FunctionName(key[0], key[1])

    def before_module(self, module: str) -> None:
        raise NotAllowed(f"{shorten(module)!r} is not imported here; use import_attr.")

    def before_import(self, module: str, name: str) -> None:
        self.before_module(module)

    def on_the_way(self, module: str, name: str, owner: Any) -> None:
        """Not called, as nothing is imported."""

    def after_import(self, module: str, name: str, found: Any) -> None:
        """Not called, as nothing is imported."""

    def remember(self, key: tuple[str, str, bool], found: Any) -> None:
        """Not called, as each name is known."""
