"""Connect to the nodes of a redis cluster; the driver says which queue is on which node."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoScriptError, ResponseError, SlotNotCoveredError

from alligator.backends import keepalive
from alligator.backends.redis.config import Target
from alligator.backends.redis.connection import Call, Connections, retry_of
from alligator.backends.redis.encoding import queue_of
from alligator.backends.redis.errors import (
    DRIVER_ERRORS,
    NodeFailed,
    is_answer,
    is_cut,
    is_of_one_node,
)
from alligator.backends.redis.scripts import Script, script
from alligator.backends.redis.unreachable_nodes import LostNodes
from alligator.common.descriptors import note_socket


class ClusterConnections(Connections):
    """Connections to the nodes of a cluster; each queue is on one of them."""

    one_server = False

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lost = LostNodes(self._probe)

    def server_of(self, key: bytes) -> Any:
        return self._name_of_node(key)

    def _probe(self, key: bytes) -> None:
        self._call(script("mark_leases_stopping"), [key], ())  # for no lease at all

    def _make_driver(self) -> Any:
        nodes = [ClusterNode(host, port) for host, port in self.target.hosts]  # type: ignore[no-untyped-call]
        options = {**self.target.options, "ssl": True} if self.target.tls else self.target.options
        return _Driver(startup_nodes=nodes, **options)

    def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Any],
        retry: Callable[[], Call] | None = None,
    ) -> Any:
        with _NodeErrors(keys):
            try:
                return self._call(script, keys, args)
            except DRIVER_ERRORS as err:
                call = retry_of(err, Call(script, keys, args), retry)
                if call is None:
                    raise
            return self._call(*call)  # the driver has closed its other connections to that node

    def run_if_reachable(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Any],
        retry: Callable[[], Call] | None = None,
    ) -> Any:
        key = keys[0]
        node = self._name_of_node(key)
        if (known := self._lost.find(node, key)) is not None:
            raise NodeFailed(queue_of(key)) from known
        try:
            return self.run(script, keys, args, retry)
        except NodeFailed as err:
            self._lost.add(node, key, err.cause)
            raise

    def _name_of_node(self, key: bytes) -> str:
        try:
            return str(self._node([key]).name)
        except SlotNotCoveredError:
            return ""

    def forget_regained(self) -> set[str]:
        return self._lost.forget_regained()

    def any_regained(self) -> bool:
        return self._lost.any_regained()

    def out_of_reach(self, queue_names: Iterable[str]) -> dict[str, Exception]:
        return self._lost.reasons(queue_names)

    def add_lost(self, key: bytes, err: Exception) -> None:
        if not is_of_one_node(err):
            raise err
        self._lost.add(self._name_of_node(key), key, err)

    def _call(self, script: Script, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        sha = script.sha if self._flags else script.flagless_sha
        try:
            try:
                return self.conn.execute_command("EVALSHA", sha, len(keys), *keys, *args)
            except NoScriptError:
                text = script.text if self._flags else script.flagless
                return self.conn.execute_command("EVAL", text, len(keys), *keys, *args)
        except ResponseError as err:
            if self._reads_flags(err):
                raise
            return self._call(script, keys, args)

    def command(
        self, keys: Sequence[bytes], name: str, *args: Any, idempotent: bool = False
    ) -> Any:
        with _NodeErrors(keys):
            try:
                return self.conn.execute_command(name, *args, target_nodes=self._node(keys))
            except DRIVER_ERRORS as err:
                if not (idempotent and is_cut(err)):
                    raise
            return self.conn.execute_command(name, *args, target_nodes=self._node(keys))

    def _node(self, keys: Sequence[bytes]) -> Any:
        conn = self.conn
        return conn.get_node_from_key(keys[0]) if keys else conn.get_default_node()

    @contextmanager
    def borrow(self, keys: Sequence[bytes], *, fresh: bool = False) -> Iterator[Any]:
        pool = self.conn.get_redis_connection(self._node(keys)).connection_pool
        connection = pool.get_connection()
        try:
            if fresh:
                connection.disconnect()
                connection.connect()
            yield connection
        except BaseException as err:
            if not is_answer(err):
                connection.disconnect()
            raise
        finally:
            pool.release(connection)

    def close(self) -> None:
        self._lost.close()
        if self._pid == os.getpid() and self._conn is not None:
            self._conn.close()
            self._conn = None


class _NodeErrors:
    """Make a ``NodeFailed`` of each error in a block that one node of several caused."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, err: BaseException | None, trace: Any) -> None:
        if isinstance(err, DRIVER_ERRORS) and is_of_one_node(err):
            raise NodeFailed(queue_of(self.keys[0]) if self.keys else "") from err


class _Driver(RedisCluster):
    """The client object of redis-py, with pools of our own; it takes such only with a URL."""

    def command(self, **kwargs: Any) -> Any:
        """Return the commands that a server knows.

        redis-py asks when it connects, but only one node; this asks one after the other.
        """
        first = self.get_default_node()  # type: ignore[no-untyped-call]
        others = [each for each in self.get_primaries() if each is not first]  # type: ignore[no-untyped-call]
        for node in (first, *others):
            try:
                found = self.execute_command("COMMAND", target_nodes=node, **kwargs)  # type: ignore[no-untyped-call]
            except (redis.ConnectionError, redis.TimeoutError) as err:
                lost = err
            else:
                self.nodes_manager.default_node = node
                return found
        raise lost

    def get_redis_connection(self, node: ClusterNode) -> Any:
        found: Any = super().get_redis_connection(node)
        theirs = found.connection_pool
        if type(theirs) is redis.ConnectionPool:  # no harm if two threads do so at once
            found.connection_pool = _NodePool(theirs.connection_class, **theirs.connection_kwargs)
            theirs.disconnect(inuse_connections=False)
        return found


class _NodePool(redis.ConnectionPool):
    """The connections to one node; one that was unused for long is renewed before use."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        connection: Any = super().get_connection(*args, **options)
        unused_since = getattr(connection, "unused_since", None)
        if unused_since and time.monotonic() - unused_since > keepalive.RENEW_AFTER:
            try:
                connection.disconnect()
                connection.connect()
            except BaseException:
                self.release(connection)
                raise
        if connection._sock is not getattr(connection, "noted", None):  # it has just connected
            connection.noted = connection._sock
            note_socket(connection._sock)
        return connection

    def release(self, connection: Any) -> None:
        # After an interruption (by a timeout, say) a reply may still be due on this connection. The
        # driver closes connections only after its own errors, and would lend this one again.
        if (err := sys.exc_info()[1]) is not None and not isinstance(err, Exception):
            connection.disconnect()
        connection.unused_since = time.monotonic()
        super().release(connection)
