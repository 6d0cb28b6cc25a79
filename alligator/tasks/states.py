"""How a task stands, as it says itself; useful to a hook."""

from alligator.constants import (
    CANCELED,
    DELAYED,
    FAILED,
    RETRYING,
    RUNNING,
    SUCCESS,
    WAITING,
)


class States:
    """What a :class:`alligator.Task` has of all this."""

    #: One of alligator.constants; None: nobody knows how it stands.
    status: int | None

    def to_waiting(self) -> None:
        """Set the status to ``WAITING``: on the queue."""
        self.status = WAITING

    def to_delayed(self) -> None:
        """Set the status to ``DELAYED``: on the queue, for later."""
        self.status = DELAYED

    def to_running(self) -> None:
        """Set the status to ``RUNNING``."""
        self.status = RUNNING

    def to_success(self) -> None:
        """Set the status to ``SUCCESS``."""
        self.status = SUCCESS

    def to_failed(self) -> None:
        """Set the status to ``FAILED``."""
        self.status = FAILED

    def to_retrying(self) -> None:
        """Set the status to ``RETRYING``: failed, and to be run again."""
        self.status = RETRYING

    def to_canceled(self) -> None:
        """Set the status to ``CANCELED``: taken off the queue before it ran."""
        self.status = CANCELED
