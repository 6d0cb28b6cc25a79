"""Connect to one redis server, or to the master of a sentinel set, and run commands there.

Commands go over connections of our own rather than through ``execute_command``, which costs about
half as much again. A connection on which a call failed is closed, so that no reply is ever left on
it for the next caller.

After such a failure, a command is sent once more over a new connection, if it was not sent whole or
is idempotent. A script that leases is never repeated after it was sent: it would lease more. The
server is asked instead what it leased (``reserve_again.lua``). Nor is a command repeated whose
reply took too long, as that has cost time enough.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import redis
from redis.exceptions import NoScriptError, ResponseError
from redis.sentinel import Sentinel

from alligator.backends import keepalive
from alligator.backends.redis.config import Target
from alligator.backends.redis.errors import NotSent, is_answer, is_cut
from alligator.backends.redis.scripts import Script
from alligator.common.descriptors import note_socket

_CHECK_AFTER = 0.02  # seconds unused after which a connection is checked before use


class Call(NamedTuple):
    """A script with its keys and arguments."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[Any]


class Connections:
    """Connections to the one server that a DSN leads to."""

    #: Whether all queues are on one server, so that one command may name several.
    one_server = True

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._pid = 0
        self._flags = True  # whether the server can read the first line of scripts
        self._conn: Any = None
        self._idle: list[tuple[Any, float]] = []
        self._sentinel: Sentinel | None = None
        self._connected = 0  # how often

    def server_of(self, key: bytes) -> Any:
        """Return a value that stays the same as long as the key is on the same server."""
        del key
        return self._connected  # each new connection may lead to another one

    @property
    def conn(self) -> Any:
        """The client object of redis-py, made on first use in each process."""
        if self._pid != os.getpid():  # locks and sockets of the parent are not ours
            self._lock = threading.Lock()
            self._conn, self._idle, self._pid = None, [], os.getpid()
        conn = self._conn
        if conn is None:
            with self._lock:
                conn = self._conn = self._conn or self._make_driver()
        return conn

    def _make_driver(self) -> Any:
        target = self.target
        if target.kind == "sentinel":
            options = {**target.options, "ssl": True} if target.tls else target.options
            own = {**target.sentinel_options, **({"ssl": True} if target.tls else {})}
            self._sentinel = Sentinel(target.hosts, sentinel_kwargs=own, **options)  # type: ignore[no-untyped-call]
            return self._sentinel.master_for(target.master, **options)  # type: ignore[no-untyped-call]
        kinds = {"unix": redis.UnixDomainSocketConnection}
        tcp = redis.SSLConnection if target.tls else redis.Connection
        pool = redis.ConnectionPool(kinds.get(target.kind, tcp), **target.options)
        return redis.Redis(connection_pool=pool)

    # -- Scripts and commands. ----------------------------------------------------------------

    def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Any],
        retry: Callable[[], Call] | None = None,
    ) -> Any:
        """Run a script; its text is sent only to a server that does not know it yet.

        :param retry: returns the call to make instead where the reply got lost, and it is unknown
            whether the script ran. None: the same call if the script is idempotent, else none.
        """
        connection = self._take()
        try:
            reply = self._evaluate(connection, script, keys, args)
        except BaseException as err:
            self._give_back(connection, err)
            call = retry_of(err, Call(script, keys, args), retry)
            if call is None:
                raise
            with self.borrow(call.keys, fresh=True) as other:
                return self._evaluate(other, *call)
        self._give_back(connection)
        return reply

    #: The same; on a cluster it fails at once where the node is known to be lost, so that one lost
    #: node does not keep a worker from serving the others.
    run_if_reachable = run

    def _evaluate(
        self, connection: Any, script: Script, keys: Sequence[bytes], args: Sequence[Any]
    ) -> Any:
        sha = script.sha if self._flags else script.flagless_sha
        try:
            try:
                _send(connection, packed_script(b"EVALSHA", sha, keys, args))
                return connection.read_response()
            except NoScriptError:
                text = script.text if self._flags else script.flagless
                return _ask(connection, packed_script(b"EVAL", text, keys, args))
        except ResponseError as err:
            if self._reads_flags(err):
                raise
            return self._evaluate(connection, script, keys, args)

    def _reads_flags(self, err: ResponseError) -> bool:
        """Whether the server can read the first line of scripts; remember if it cannot (< 7.0)."""
        if not self._flags or "compiling script" not in str(err):
            return True
        self._flags = False
        return False

    def begin(
        self, script: Script, keys: Sequence[bytes], args: Sequence[Any]
    ) -> tuple[ExitStack, Any]:
        """Send a script; return a stack that gives its connection back, and the connection."""
        sha = script.sha if self._flags else script.flagless_sha
        command = packed_script(b"EVALSHA", sha, keys, args)
        try:
            return self._begin(keys, command)
        except NotSent:
            return self._begin(keys, command, fresh=True)

    def _begin(
        self, keys: Sequence[bytes], command: bytes, *, fresh: bool = False
    ) -> tuple[ExitStack, Any]:
        with ExitStack() as stack:
            connection = stack.enter_context(self.borrow(keys, fresh=fresh))
            _send(connection, command)
            return stack.pop_all(), connection

    def command(
        self, keys: Sequence[bytes], name: str, *args: Any, idempotent: bool = False
    ) -> Any:
        """Run one plain command on the server that has those keys.

        :param idempotent: whether it does no harm, and replies the same, when it runs twice.
        """
        command = packed(name, *args)
        connection = self._take()
        try:
            reply = _ask(connection, command)
        except BaseException as err:
            self._give_back(connection, err)
            if not (is_cut(err) and (idempotent or isinstance(err, NotSent))):
                raise
            with self.borrow(keys, fresh=True) as other:
                return _ask(other, command)
        self._give_back(connection)
        return reply

    # -- The nodes of a cluster that are lost: one server has none. ---------------------------

    def forget_regained(self) -> set[str]:
        """Return the queues whose lost nodes answer again, and list them no more."""
        return set()

    def any_regained(self) -> bool:
        """Whether :meth:`forget_regained` would return something."""
        return False

    def out_of_reach(self, queue_names: Iterable[str]) -> dict[str, Exception]:
        """Return which of these queues cannot be reached, though others can, and why."""
        del queue_names
        return {}

    def add_lost(self, key: bytes, err: Exception) -> None:
        """Note that the node of a key is lost.

        :raises Exception: ``err``, where that concerns all queues.
        """
        raise err

    # -- Taking connections and giving them back. ---------------------------------------------

    @contextmanager
    def borrow(self, keys: Sequence[bytes], *, fresh: bool = False) -> Iterator[Any]:
        """Lend a connection to the server of those keys; close it if the block fails.

        :param fresh: make a new one: another has just broken, and the idle ones may be broken, too.
        """
        del keys
        connection = self._new() if fresh else self._take()
        try:
            yield connection
        except BaseException as err:
            self._give_back(connection, err)
            raise
        self._give_back(connection)

    def _give_back(self, connection: Any, err: BaseException | None = None) -> None:
        if not (err is None or is_answer(err)):
            connection.disconnect()
            self._drop_idle()  # they lead to the same server, which is gone
            return
        idle, now = self._idle, time.monotonic()
        idle.append((connection, now))
        try:  # the last one is taken first, so the unneeded ones gather in front
            if now - idle[0][1] > keepalive.RENEW_AFTER:
                idle.pop(0)[0].disconnect()
        except IndexError:
            pass  # other threads have taken them all meanwhile

    def _take(self) -> Any:
        if self._pid != os.getpid():
            return self._new()  # it drops the connections of the parent
        try:
            connection, used = self._idle.pop()
        except IndexError:
            return self._new()
        unused = time.monotonic() - used
        if unused > _CHECK_AFTER and (unused > keepalive.RENEW_AFTER or _is_closed(connection)):
            connection.disconnect()
            self._drop_idle()  # they are unused for longer, or the server went away
            return self._new()
        return connection

    def _new(self) -> Any:
        pool = self.conn.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            connection.connect()
            note_socket(connection._sock)
            self._connected += 1
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._close_sentinels()
        return connection

    def _close_sentinels(self) -> None:
        # They are asked so seldom that a firewall may forget their connections in between.
        if self._sentinel is not None:
            for each in self._sentinel.sentinels:
                each.connection_pool.disconnect(inuse_connections=False)

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.disconnect()

    def close(self) -> None:
        """Close all idle connections."""
        if self._pid == os.getpid() and self._conn is not None:
            self._drop_idle()
            self._conn.close()
            self._conn = None


def _is_closed(connection: Any) -> bool:
    """Whether the server has closed an unused connection: nothing else is due to come there."""
    try:
        return bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True


def retry_of(err: BaseException, call: Call, retry: Callable[[], Call] | None) -> Call | None:
    """Return the call to make after one failed; None: none."""
    if not is_cut(err):
        return None
    if isinstance(err, NotSent) or call.script.idempotent:
        return call
    return retry() if retry else None


def _send(connection: Any, command: bytes) -> None:
    try:
        connection.send_packed_command([command])
    except redis.ConnectionError as err:
        raise NotSent(*err.args) from err


def _ask(connection: Any, command: bytes) -> Any:
    _send(connection, command)
    return connection.read_response()


# -- Packing commands, at much less cost than the driver does it. ---------------------------------


def _packed(values: Iterable[Any]) -> bytes:
    found = []
    for each in values:
        raw = each if type(each) is bytes else str(each).encode()
        found.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(found)


def packed(*values: Any) -> bytes:
    """Return a command: its name and arguments, ``bytes`` or values that ``str`` makes text of."""
    return b"*%d\r\n%b" % (len(values), _packed(values))


def _opening(name: bytes, script: bytes, keys: Sequence[bytes]) -> bytes:
    return _packed((name, script, len(keys), *keys))


_cached_opening = lru_cache(maxsize=1024)(_opening)


def packed_script(name: bytes, script: bytes, keys: Sequence[bytes], args: Sequence[Any]) -> bytes:
    """Return the call of a script.

    :param name: ``EVALSHA``, or ``EVAL`` with the whole text.
    :param keys: a tuple if they will be used again, as those of a queue; then the beginning of the
        call is cached.
    """
    cached = isinstance(keys, tuple) and name == b"EVALSHA"
    opening = (_cached_opening if cached else _opening)(name, script, keys)
    count = 3 + len(keys) + len(args)
    return b"*%d\r\n%b%b" % (count, opening, _packed(args))
