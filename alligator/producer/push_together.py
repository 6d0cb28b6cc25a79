"""Push the calls of several callers in one send, as if each had pushed alone.

That is what coroutines need that push at the same time: one round trip for all of them, and an
error of each one's own.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from copy import copy
from dataclasses import dataclass
from typing import Any

from alligator.backends.base import Message
from alligator.exceptions import AlligatorException
from alligator.producer.push import Producer
from alligator.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one caller: a task that is async, and what it is to call.

    :param context: the context of the caller, in which code of the user's own task class runs.
    """

    producer: Producer
    task: Task
    func: Callable[..., Any] | str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    context: Context


def push_together(queue_name: str, calls: Sequence[Call]) -> list[BaseException | None]:
    """Push calls to one queue, in their order; return the error of each, None: it is pushed.

    All of them are made with one client. A :exc:`ConnectionLost` is the error of each task
    that was sent with it, and of the tasks that were to follow.
    """
    errors: list[BaseException | None] = [None] * len(calls)
    if len(calls) == 1:
        errors[0] = _caught(lambda: calls[0].context.run(_push_alone, calls[0]))
        return errors
    ready: list[tuple[int, Message]] = []
    for index, call in enumerate(calls):
        made: list[Message | None] = []
        errors[index] = _caught(
            lambda call=call, made=made: made.append(  # type: ignore[misc]
                call.context.run(_message, call, queue_name)
            )
        )
        if errors[index] is not None:
            continue
        if made[0] is not None:
            ready.append((index, made[0]))
            continue
        _send(queue_name, calls, ready, errors)  # first what came before a task with parents
        ready = []
        errors[index] = _caught(lambda call=call: call.context.run(call.producer.push, call.task))  # type: ignore[misc]
    _send(queue_name, calls, ready, errors)
    return errors


def _caught(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except BaseException as err:
        return err
    return None


def _prepare(call: Call) -> None:
    call.producer.prepare(call.task, call.func, call.args, call.kwargs)


def _push_alone(call: Call) -> None:
    _prepare(call)
    call.producer.push(call.task)


def _message(call: Call, queue_name: str) -> Message | None:
    """Return the message of a call; None: its task waits for others, and goes alone."""
    _prepare(call)
    return call.producer.message_of_many(call.task, queue_name)


def _send(
    queue_name: str,
    calls: Sequence[Call],
    ready: Sequence[tuple[int, Message]],
    errors: list[BaseException | None],
) -> None:
    if not ready:
        return
    client, recorder = calls[0].producer.client, calls[0].producer.recorder
    tasks = [(queue_name, calls[index].task) for index, _ in ready]
    failed = _caught(lambda: recorder.overrule(tasks)) if recorder.overrules else None
    found: Sequence[str | AlligatorException] = []
    if failed is None:
        messages = [message for _, message in ready]

        def push() -> None:
            nonlocal found
            found = client.push_each(queue_name, messages)

        failed = _caught(push)
    if failed is not None:
        for index, _ in ready:
            errors[index] = _own(failed)
        return
    for (index, _), told in zip(ready, found, strict=True):
        if isinstance(told, str):
            call = calls[index]
            errors[index] = _caught(
                lambda call=call, told=told: call.producer.was_pushed(call.task, queue_name, told)  # type: ignore[misc]
            )
        else:
            errors[index] = _own(told)


def _own(error: BaseException) -> BaseException:
    """Return a copy of an error that several callers get: each adds its own traceback to it."""
    try:
        found = copy(error)
    except Exception:  # one of the user's own that cannot be copied
        return error
    found.__cause__, found.__suppress_context__ = error.__cause__, True
    return found
