"""Every error that Alligator raises on its own account.

::

    AlligatorException
      TaskFailed              result() of a task that failed, with its error and traceback
        TaskTimeout           ... it ran for more than its ``timeout``
        TaskCanceled          result() of a task that was canceled
      ResultTimeout           result() of a task that has not ended yet, or is not known
      UnknownModuleError      import_module: no such module
        ImportFailed          ... it is there, and an error was raised while it was imported
      UnknownCallableError    import_attr: the module has no such attribute
      MultipleDelayError      delay_by and delay_until given together
      UnsupportedOption       this backend cannot keep that option
      InvalidTask             refused at the call: not importable, not JSON, too large, bad value
      BadPayload              a message on the queue that cannot be read
      NotAllowed              a message, or a call, names what may not run
      BadSignature            a message that no key of ours has signed
      ConnectionLost          the server is out of reach
        NodeLost              ... one node of several is; the others did what they were asked
      QueueFull               the server takes no more for now: it is full, draining, or too busy
      QueueNotFound           the backend does not create queues, and this one is not there
      InvalidDSN              the connection string cannot be used
        MissingDriver         ... until an optional package is installed

Drivers' own errors never reach a caller: each backend translates them at its edge
and chains the cause.
"""

from collections.abc import Sequence
from typing import Any


class AlligatorException(Exception):
    """The root: ``except AlligatorException`` catches everything below.

    :ivar queued: of a large batch that was pushed in steps, how many tasks are queued all the
        same: its first ones. Else 0.
    """

    queued = 0


class TaskFailed(AlligatorException):
    """A task failed, in whichever process.

    :param error: what it raised there, on one line: ``'ValueError: too much'``.
    :param traceback: where, as Python printed it there; also shown with this error's own.
    """

    def __init__(self, message: str = "", *, error: str = "", traceback: str = "") -> None:
        super().__init__(message)
        self.error, self.traceback = error, traceback
        if traceback:
            self.add_note(f"There it was:\n{traceback}")


class TaskCanceled(TaskFailed):
    """A task was canceled before it ran, and has no result."""


class ResultTimeout(AlligatorException):
    """There is no result yet, or it is not known (any more)."""


class TaskTimeout(TaskFailed):
    """A task ran for more than its ``timeout``.

    Inside the function another exception is raised, ``alligator.runtime.timeouts.TimeIsUp``, or
    ``asyncio.CancelledError`` in an ``async def``, so that ``except Exception`` lets it pass.
    """


class UnknownModuleError(AlligatorException):
    """A task names a module that is not there."""


class ImportFailed(UnknownModuleError):
    """A task names a module that is there, but importing it raised an error, which is chained.

    Such as Django's ``ImproperlyConfigured`` where it was not set up, or a package that the
    module needs and that is not installed. To a worker it is a failure of the task.
    """


class UnknownCallableError(AlligatorException):
    """A task names an attribute that its module does not have."""


class MultipleDelayError(AlligatorException):
    """Both ``delay_by`` and ``delay_until`` were given; a task has one delay."""


class UnsupportedOption(AlligatorException):
    """The option is known, but this backend (or this version) cannot keep it."""


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
    """One node of a server that has several is out of reach. What went to others took effect.

    :param queue_names: the queues on it that the call was about.
    :param untold: deliveries of which it is not known whether the call took effect.
    :param refused: of the other deliveries, those that were refused.
    """

    def __init__(
        self,
        message: str = "",
        queue_names: Sequence[str] = (),
        untold: Sequence[Any] = (),
        refused: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.queue_names, self.untold, self.refused = queue_names, list(untold), list(refused)


class QueueFull(AlligatorException):
    """The server takes no more for now, having no room or being asked too often.

    What was asked of it was not done: a task that was pushed is not queued.
    """


class QueueNotFound(AlligatorException):
    """The queue has to be created before it can be used, and was not."""


class InvalidDSN(AlligatorException):
    """The connection string is malformed, or names a backend that does not exist."""


class MissingDriver(InvalidDSN):
    """The backend exists, but the package that it talks through is not installed."""


class LeaveNow(BaseException):
    """No error: raised into a running task when its worker is told to leave at once."""


class RunAgain(BaseException):
    """No error: raised by :meth:`alligator.Task.retry`, to end a run that is to be repeated.

    :param delay: seconds before the next run.
    :param call: the arguments of the next run; None: the same.
    """

    def __init__(self, delay: float, call: tuple[list[Any], dict[str, Any]] | None) -> None:
        super().__init__(f"asked to run again in {delay:g} s")
        self.delay, self.call = delay, call
