"""Define every error that Alligator raises.

::

    AlligatorException
      TaskFailed              result() of a task that failed, with its error and traceback
        TaskTimeout           ... it ran for more than its ``timeout``
        TaskCanceled          result() of a task that was canceled
      ResultTimeout           result() of a task that has not ended yet, or is not known
      UnknownModuleError      import_module: no such module
        ImportFailed          ... it exists, and importing it raised an error
      UnknownCallableError    import_attr: the module has no such attribute
      MultipleDelayError      delay_by and delay_until given together
      UnsupportedOption       this backend does not support that option
      InvalidTask             refused at the call: not importable, not JSON, too large, bad value
      BadPayload              a message on the queue that cannot be read
      NotAllowed              a message, or a call, names what may not run
      BadSignature            a message that no key of this Gator has signed
      ConnectionLost          the server cannot be reached
        NodeLost              ... one node of several cannot; on the others the call took effect
      QueueFull               the server takes no more for now: it is full, draining, or too busy
      QueueNotFound           the backend does not create queues, and this one does not exist
      NoRunningLoop           an awaitable call, such as atask, outside of a coroutine
      InvalidDSN              the connection string cannot be used
        MissingDriver         ... until an optional package is installed

Errors of drivers never reach a caller: each backend translates them and chains the cause.
"""

from collections.abc import Sequence
from typing import Any


class AlligatorException(Exception):
    """Every error of Alligator: ``except AlligatorException`` catches all of them.

    :ivar queued: how many tasks of a large batch, its first ones, are queued in spite of the error.
        Else 0.
    """

    queued = 0


class TaskFailed(AlligatorException):
    """A task failed, in this process or another one.

    :param error: what the task raised, on one line: ``'ValueError: too much'``.
    :param traceback: where it raised that, as Python prints it; added to this error's own.
    """

    def __init__(self, message: str = "", *, error: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.error: str = error
        self.traceback: str = traceback
        if traceback:
            self.add_note(f"Original traceback:\n{traceback}")


class TaskCanceled(TaskFailed):
    """A task was canceled before it ran, or while it ran, and has no result.

    It is also raised inside a function that is canceled while it runs, for it to clean up. Let it
    go on from there: after ``except Exception: pass`` it is raised again.
    """


class ResultTimeout(AlligatorException):
    """There is no result yet, or it is unknown, or has expired."""


class TaskTimeout(TaskFailed):
    """A task ran for more than its ``timeout``.

    Inside the function another exception is raised, ``alligator.runtime.timeouts.TimeIsUp``, or
    ``asyncio.CancelledError`` in an ``async def``, so that ``except Exception`` lets it pass.
    """


class UnknownModuleError(AlligatorException):
    """A task names a module that does not exist."""


class ImportFailed(UnknownModuleError):
    """A task names a module that exists, but importing it raised an error, which is chained.

    Examples are Django's ``ImproperlyConfigured`` where Django was not set up, and a package that
    the module needs and that is not installed. A worker counts it as a failure of the task.
    """


class UnknownCallableError(AlligatorException):
    """A task names an attribute that its module does not have."""


class MultipleDelayError(AlligatorException):
    """Both ``delay_by`` and ``delay_until`` were given; a task has one delay."""


class UnsupportedOption(AlligatorException):
    """The option exists, but this backend (or this version) does not support it."""


class InvalidTask(AlligatorException):
    """The task was refused at the call; nothing was queued."""


class BadPayload(AlligatorException):
    """A message on the queue could not be read as a task."""


class NotAllowed(AlligatorException):
    """A task names a function that may not run here."""


class BadSignature(AlligatorException):
    """A message is not signed, or not by a key of this Gator for this queue."""


class ConnectionLost(AlligatorException):
    """The server could not be reached, or went away; the call may or may not have taken effect."""


class NodeLost(ConnectionLost):
    """One node of several cannot be reached. On the other nodes the call took effect.

    :param queue_names: the queues on that node that the call was for.
    :param untold: deliveries of which it is unknown whether the call took effect.
    :param refused: the other deliveries that were refused.
    """

    def __init__(
        self,
        message: str = "",
        queue_names: Sequence[str] = (),
        untold: Sequence[Any] = (),
        refused: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.queue_names: Sequence[str] = queue_names
        self.untold: list[Any] = list(untold)
        self.refused: list[Any] = list(refused)


class QueueFull(AlligatorException):
    """The server takes no more for now: it has no room, or is asked too often.

    The call took no effect: a task that was pushed is not queued.
    """


class QueueNotFound(AlligatorException):
    """The queue must be created before it can be used, and was not."""


class NoRunningLoop(AlligatorException):
    """An awaitable call was made where no event loop of asyncio runs; nothing was done."""


class InvalidDSN(AlligatorException):
    """The connection string is malformed, or names a backend that does not exist."""


class MissingDriver(InvalidDSN):
    """The backend exists, but the package that it talks through is not installed."""


class LeaveNow(BaseException):
    """No error: raised into a running task when its worker is told to stop at once."""


class RunAgain(BaseException):
    """No error: raised by :meth:`alligator.Task.retry` to end a run and repeat it.

    :param delay: seconds before the next run.
    :param call: the arguments of the next run; None: the same.
    """

    def __init__(self, delay: float, call: tuple[list[Any], dict[str, Any]] | None) -> None:
        super().__init__(f"asked to run again in {delay:g} s")
        self.delay: float = delay
        self.call: tuple[list[Any], dict[str, Any]] | None = call
