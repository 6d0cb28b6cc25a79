"""Connections to one redis server, the master of a sentinel set, or a cluster.

Commands go over connections held here rather than through ``execute_command``, which
costs about half as much again. A connection on which anything broke off is closed, so
that no reply is ever left on it for the next caller.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoScriptError, ResponseError
from redis.sentinel import Sentinel

from alligator.backends.redis_dsn import Target
from alligator.backends.redis_errors import is_answer
from alligator.backends.redis_packing import packed, packed_script
from alligator.backends.redis_scripts import Script

_LOOK_AFTER = 1.0  # seconds without use after which a connection is looked at first
_CLOSE_AFTER = 60.0  # seconds without use after which it is closed: many were needed only once


class Link:
    """Connections to the one server that a DSN leads to."""

    #: Whether all queues are on one server, so that one command may name several.
    one_server = True

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._pid = 0
        self._flags = True  # whether the server knows the first line of scripts
        self._conn: Any = None
        self._idle: list[tuple[Any, float]] = []

    @property
    def conn(self) -> Any:
        """The client object of redis-py, made on first use in each process."""
        if self._pid != os.getpid():  # locks and sockets of the parent are not ours
            self._lock = threading.Lock()
            self._conn, self._idle, self._pid = None, [], os.getpid()
        conn = self._conn
        if conn is None:
            with self._lock:
                conn = self._conn = self._conn or self._connect()
        return conn

    def _connect(self) -> Any:
        target = self.target
        if target.kind == "sentinel":
            options = {**target.options, "ssl": True} if target.tls else target.options
            own = {**target.sentinel_options, **({"ssl": True} if target.tls else {})}
            sentinel = Sentinel(target.hosts, sentinel_kwargs=own, **options)  # type: ignore[no-untyped-call]
            return sentinel.master_for(target.master, **options)  # type: ignore[no-untyped-call]
        kinds = {"unix": redis.UnixDomainSocketConnection}
        tcp = redis.SSLConnection if target.tls else redis.Connection
        pool = redis.ConnectionPool(kinds.get(target.kind, tcp), **target.options)
        return redis.Redis(connection_pool=pool)

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """Run a script; it is sent whole only where the server does not know it yet."""
        for _ in range(2):
            text, sha = script.text, script.sha
            if not self._flags:
                text, sha = script.flagless, script.flagless_sha
            try:
                return self._evaluate(text, sha, keys, args)
            except ResponseError as err:
                if not self._flags or "compiling script" not in str(err):
                    raise
                self._flags = False  # a server before 7.0
        raise AssertionError("unreachable")

    def _evaluate(self, text: bytes, sha: bytes, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        connection = self._take()
        try:
            try:
                reply = _ask(connection, packed_script(b"EVALSHA", sha, keys, args))
            except NoScriptError:
                reply = _ask(connection, packed_script(b"EVAL", text, keys, args))
        except BaseException as err:
            self._take_back(connection, err)
            raise
        self._take_back(connection)
        return reply

    def begin(
        self, script: Script, keys: Sequence[bytes], args: Sequence[Any]
    ) -> tuple[ExitStack, Any]:
        """Send a script; return the connection to read its reply from, in what gives that back."""
        sha = script.sha if self._flags else script.flagless_sha
        with ExitStack() as stack:
            connection = stack.enter_context(self.held(keys))
            connection.send_packed_command([packed_script(b"EVALSHA", sha, keys, args)])
            return stack.pop_all(), connection

    def command(self, keys: Sequence[bytes], name: str, *args: Any) -> Any:
        """Run one plain command on the server that has those keys."""
        with self.held(keys) as connection:
            return _ask(connection, packed(name, *args))

    @contextmanager
    def held(self, keys: Sequence[bytes]) -> Iterator[Any]:
        """Lend out a connection to the server of those keys; closed if anything breaks off."""
        del keys
        connection = self._take()
        try:
            yield connection
        except BaseException as err:
            self._take_back(connection, err)
            raise
        self._take_back(connection)

    def _take_back(self, connection: Any, err: BaseException | None = None) -> None:
        if not (err is None or is_answer(err)):
            connection.disconnect()
            self._drop_idle()  # they lead to the same server, which is gone
            return
        idle, now = self._idle, time.monotonic()
        idle.append((connection, now))
        try:  # the last one is taken first, so those that are not needed gather in front
            if now - idle[0][1] > _CLOSE_AFTER:
                idle.pop(0)[0].disconnect()
        except IndexError:
            pass  # others have taken them all meanwhile

    def _take(self) -> Any:
        conn = self.conn  # first: it sees to it that none of a parent's is taken
        try:
            connection, used = self._idle.pop()
        except IndexError:
            pool = conn.connection_pool
            connection = pool.connection_class(**pool.connection_kwargs)
            try:
                connection.connect()
            except BaseException:
                connection.disconnect()
                raise
            return connection
        if time.monotonic() - used > _LOOK_AFTER:
            refresh(connection)
        return connection

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.disconnect()

    def close(self) -> None:
        """Close what is open."""
        if self._pid == os.getpid() and self._conn is not None:
            self._drop_idle()
            self._conn.close()
            self._conn = None


class ClusterLink(Link):
    """Connections to the nodes of a cluster; each queue is on one of them."""

    one_server = False

    def _connect(self) -> Any:
        nodes = [ClusterNode(host, port) for host, port in self.target.hosts]  # type: ignore[no-untyped-call]
        options = {**self.target.options, "ssl": True} if self.target.tls else self.target.options
        return RedisCluster(startup_nodes=nodes, **options)

    def _evaluate(self, text: bytes, sha: bytes, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        try:
            return self.conn.execute_command("EVALSHA", sha, len(keys), *keys, *args)
        except NoScriptError:
            return self.conn.execute_command("EVAL", text, len(keys), *keys, *args)

    def command(self, keys: Sequence[bytes], name: str, *args: Any) -> Any:
        """Run one plain command on the node that has those keys."""
        return self.conn.execute_command(name, *args, target_nodes=self._node(keys))

    def _node(self, keys: Sequence[bytes]) -> Any:
        conn = self.conn
        return conn.get_node_from_key(keys[0].decode()) if keys else conn.get_default_node()

    @contextmanager
    def held(self, keys: Sequence[bytes]) -> Iterator[Any]:
        """Lend out a connection to the node that has those keys."""
        pool = self.conn.get_redis_connection(self._node(keys)).connection_pool
        connection = pool.get_connection()
        try:
            yield connection
        except BaseException as err:
            if not is_answer(err):
                connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def close(self) -> None:
        """Close what is open."""
        if self._pid == os.getpid() and self._conn is not None:
            self._conn.close()
            self._conn = None


def make_link(target: Target) -> Link:
    """Return the link for a target; it connects on first use."""
    return ClusterLink(target) if target.kind == "cluster" else Link(target)


def refresh(connection: Any) -> None:
    """Connect anew if the server has hung up meanwhile."""
    try:
        if not connection.can_read():
            return
    except (redis.RedisError, OSError):
        pass
    connection.disconnect()
    connection.connect()


def _ask(connection: Any, command: bytes) -> Any:
    connection.send_packed_command([command])
    return connection.read_response()
