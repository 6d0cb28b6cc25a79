"""Translate the errors of redis-py and of the server to those of Alligator."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MaxConnectionsError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from alligator.backends.types import Delivery
from alligator.common.text import describe_error, with_stop
from alligator.exceptions import AlligatorException, ConnectionLost, NodeLost, QueueFull

#: All kinds of errors that redis-py raises.
DRIVER_ERRORS = (RedisError, RedisClusterException, OSError)

#: Codes of a server that cannot serve just now, or is no longer the master.
_UNABLE = (
    "LOADING",
    "READONLY",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "UNBLOCKED",
    "NOREPLICAS",
    "MISCONF",
    "BUSY",
)
_REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM")


def code_of(err: BaseException) -> str:
    """Return the first word of a server's answer, which names the kind of error."""
    code = getattr(err, "status_code", None) or str(err).partition(" ")[0]
    if code == "ERR":  # older servers wrap the error of a command in a script
        for known in (*_UNABLE, "OOM"):
            if f"-{known} " in str(err):
                return known
    return str(code)


def translate(err: BaseException) -> AlligatorException:
    """Return the error to raise for one of the driver's."""
    if isinstance(err, NodeFailed) and err.__cause__ is not None:
        return node_lost(err)
    if isinstance(err, NotSent):
        err = err.__cause__ or err
    code = code_of(err)
    if code == "OOM":
        return QueueFull("The redis server is at its maxmemory and takes no further task.")
    if code == "NOREPLY":  # see reserve_again.lua
        return ConnectionLost("The reply of the redis server got lost; it had leased nothing.")
    why = with_stop(describe_error(err))
    # A server that wants a password rejects a long command before that.
    unknown = "unauthenticated" in str(err)
    if isinstance(err, AuthenticationError) or code in _REFUSED or unknown:
        return ConnectionLost(f"The redis server refused the user or password of the DSN: {why}")
    if code in _UNABLE:
        return ConnectionLost(f"The redis server cannot serve now: {code} {why}")
    if isinstance(err, ResponseError):
        return ConnectionLost(f"The redis server refused a command: {why}")
    return ConnectionLost(f"The redis server cannot be reached: {why}")


def is_answer(err: BaseException) -> bool:
    """Whether a server replied with this error, and its connection stays usable."""
    return (
        isinstance(err, ResponseError)
        and not isinstance(err, AuthenticationError)
        and code_of(err) not in _UNABLE
    )


class NotSent(RedisConnectionError):
    """The connection broke before a command was sent whole, so the server did not run it."""


class NodeFailed(RedisError):
    """One node of a cluster cannot be reached; the cause is the error of the driver.

    :param queue_name: the queue that the call was about; '': none.
    """

    def __init__(self, queue_name: str) -> None:
        super().__init__(queue_name)
        self.queue_name = queue_name

    @property
    def cause(self) -> Exception:
        """The error of the driver."""
        cause = self.__cause__
        return cause if isinstance(cause, Exception) else self


def node_lost(
    err: NodeFailed, untold: Sequence[Delivery] = (), refused: Sequence[Delivery] = ()
) -> NodeLost:
    """Return the public error for this one.

    :param untold: deliveries that the node was not told of.
    :param refused: deliveries that other nodes refused.
    """
    names = dict.fromkeys(each.queue_name for each in untold)
    found = NodeLost(
        str(translate(err.cause)),
        list(names) or [err.queue_name] * bool(err.queue_name),
        untold,
        refused,
    )
    found.__cause__ = err.__cause__
    return found


def is_of_one_node(err: BaseException) -> bool:
    """Whether one node of a cluster failed: not all did, and it did not reply with an error."""
    if isinstance(err, RedisClusterException) and not isinstance(err, SlotNotCoveredError):
        return False
    return not is_answer(err)


_NOT_CUT = (AuthenticationError, AuthorizationError, BusyLoadingError, MaxConnectionsError)


def is_cut(err: BaseException) -> bool:
    """Whether a connection broke; a reply that took too long does not count."""
    if isinstance(err, NodeFailed):
        err = err.cause
    return isinstance(err, RedisConnectionError) and not isinstance(err, _NOT_CUT)


class _Translated:
    """Raise errors of the driver as Alligator's. (No generator: each call enters it.)"""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, err: BaseException | None, trace: Any) -> None:
        if isinstance(err, DRIVER_ERRORS):
            raise translate(err) from err


_TRANSLATED = _Translated()


def translated() -> _Translated:
    """Raise errors of the driver as Alligator's: ``with translated(): …``."""
    return _TRANSLATED
