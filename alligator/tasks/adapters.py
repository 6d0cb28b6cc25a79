"""Make the function of a task of an object that is none, such as a task of Django's framework.

The option ``adapter`` of a message says how: ``'django:default'`` is the name of an adapter, and
what that needs to know. An adapter is called with it, and with what the name of the function leads
to. It returns a function which has that object as ``__adapted__``, and may have an ``observer``.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from alligator.common.importing import import_guard
from alligator.common.text import describe_error, shorten
from alligator.exceptions import BadPayload, InvalidTask, LeaveNow, UnknownModuleError

#: The module of each adapter, which has it as ``adapt``: imported once a message asks for it.
_MODULES = {"django": "alligator.contrib.django.task_execution"}

_LONGEST = 200


class Observer(Protocol):
    """What is told of the runs of a task, before its hooks; none of it changes how a run ends."""

    def started(self, task: Any) -> None:
        """Note that a run begins."""

    def succeeded(self, task: Any, result: Any) -> None:
        """Note that the function has returned."""

    def failed(self, task: Any, error: BaseException) -> None:
        """Note that a run failed, or that there was none, as the task could not be called."""

    def canceled(self, task: Any, error: BaseException) -> None:
        """Note that a run was canceled."""


def check_adapter(value: Any) -> str:
    """Return an ``adapter`` as it stands in a message.

    :raises InvalidTask: it is no text of 1 to 200 printable characters.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST or not value.isprintable():
        raise InvalidTask(f"adapter={shorten(repr(value), 60)} is not 1 to 200 characters.")
    return value


def adapter_of(text: str) -> Callable[[Any], Callable[..., Any]]:
    """Return what makes the function of a task of the object that its name leads to.

    :param text: the option ``adapter`` of its message.
    :raises BadPayload: there is no such adapter.
    :raises UnknownModuleError: it cannot be imported, perhaps for now.
    """
    name, _, told = text.partition(":")
    if (module := _MODULES.get(name)) is None:
        raise BadPayload(
            f"There is no adapter {shorten(name, 60)!r}; known: {', '.join(_MODULES)}."
        )
    token = import_guard.set(None)  # the message has named neither the module nor what it imports
    try:
        adapt: Callable[..., Callable[..., Any]] = importlib.import_module(module).adapt
    except (LeaveNow, KeyboardInterrupt):
        raise
    except BaseException as err:
        raise UnknownModuleError(
            f"{module}, which this task needs, cannot be imported: {describe_error(err)}"
        ) from err
    finally:
        import_guard.reset(token)
    return partial(adapt, told)
