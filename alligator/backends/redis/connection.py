"""Connections to one redis server, the master of a sentinel set, or a cluster.

Commands go over connections held here rather than through ``execute_command``, which
costs about half as much again. A connection on which anything broke off is closed, so
that no reply is ever left on it for the next caller.

Where that happens, a command is sent once more over a new connection if it was not sent whole,
or does no harm when it is carried out twice. What leases is never repeated after it was sent: a
task would be leased to nobody. Nor is anything whose reply took too long, as that has cost time
enough.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoScriptError, ResponseError, SlotNotCoveredError
from redis.sentinel import Sentinel

from alligator.backends import keepalive
from alligator.backends.redis.config import Target
from alligator.backends.redis.errors import (
    DRIVER_ERRORS,
    NodeOut,
    NotSent,
    is_answer,
    is_cut,
    is_of_one_node,
)
from alligator.backends.redis.nodes import LostNodes, queue_of
from alligator.backends.redis.packing import packed, packed_script
from alligator.backends.redis.scripts import Script, script

_LOOK_AFTER = 0.02  # seconds without use after which a connection is looked at first


class Call(NamedTuple):
    """A script with what it is called with."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[Any]


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
        self._sentinel: Sentinel | None = None
        self._connected = 0  # how often

    def server_of(self, key: bytes) -> Any:
        """Return what stays the same as long as that key is on the same server."""
        del key
        return self._connected  # each time it may be another one

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
            self._sentinel = Sentinel(target.hosts, sentinel_kwargs=own, **options)  # type: ignore[no-untyped-call]
            return self._sentinel.master_for(target.master, **options)  # type: ignore[no-untyped-call]
        kinds = {"unix": redis.UnixDomainSocketConnection}
        tcp = redis.SSLConnection if target.tls else redis.Connection
        pool = redis.ConnectionPool(kinds.get(target.kind, tcp), **target.options)
        return redis.Redis(connection_pool=pool)

    def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Any],
        again: Callable[[], Call] | None = None,
    ) -> Any:
        """Run a script; it is sent whole only where the server does not know it yet.

        :param again: what to run instead where its reply got lost, so that whether it ran is
            unknown. None: the same if that is harmless, else nothing.
        """
        connection = self._take()
        try:
            reply = self._evaluate(connection, script, keys, args)
        except BaseException as err:
            self._take_back(connection, err)
            call = _second(err, Call(script, keys, args), again)
            if call is None:
                raise
            with self.held(call.keys, fresh=True) as other:
                return self._evaluate(other, *call)
        self._take_back(connection)
        return reply

    #: The same; on a cluster it fails at once where the node is known to be out of reach.
    #: (That is for workers, whom one lost node should not keep from serving others.)
    run_or_fail = run

    # What a cluster knows of lost nodes, and one server has no need of.

    def take_back(self) -> set[str]:
        """Return the queues that can be reached again; they count as such from now on."""
        return set()

    def has_news(self) -> bool:
        """Whether :meth:`take_back` would return something."""
        return False

    def out_of_reach(self, queue_names: Iterable[str]) -> dict[str, Exception]:
        """Return which of these queues are out of reach, though others are not, and why."""
        del queue_names
        return {}

    def note_lost(self, key: bytes, err: Exception) -> None:
        """Note that the node of a key is out of reach.

        :raises Exception: ``err``, where that concerns all queues.
        """
        raise err

    def _evaluate(
        self, connection: Any, script: Script, keys: Sequence[bytes], args: Sequence[Any]
    ) -> Any:
        text, sha = self._as_known(script)
        try:
            try:
                return _ask(connection, packed_script(b"EVALSHA", sha, keys, args))
            except NoScriptError:
                return _ask(connection, packed_script(b"EVAL", text, keys, args))
        except ResponseError as err:
            if self._is_modern(err):
                raise
            return self._evaluate(connection, script, keys, args)

    def _as_known(self, script: Script) -> tuple[bytes, bytes]:
        """Return text and hash of a script as this server can read it."""
        if self._flags:
            return script.text, script.sha
        return script.flagless, script.flagless_sha

    def _is_modern(self, err: ResponseError) -> bool:
        """Take note of a server before 7.0, which cannot read the first line of scripts."""
        if not self._flags or "compiling script" not in str(err):
            return True
        self._flags = False
        return False

    def begin(
        self, script: Script, keys: Sequence[bytes], args: Sequence[Any]
    ) -> tuple[ExitStack, Any]:
        """Send a script; return the connection to read its reply from, in what gives that back."""
        _, sha = self._as_known(script)
        command = packed_script(b"EVALSHA", sha, keys, args)
        try:
            return self._begin(keys, command)
        except NotSent:
            return self._begin(keys, command, fresh=True)

    def _begin(
        self, keys: Sequence[bytes], command: bytes, *, fresh: bool = False
    ) -> tuple[ExitStack, Any]:
        with ExitStack() as stack:
            connection = stack.enter_context(self.held(keys, fresh=fresh))
            _send(connection, command)
            return stack.pop_all(), connection

    def command(
        self, keys: Sequence[bytes], name: str, *args: Any, idempotent: bool = False
    ) -> Any:
        """Run one plain command on the server that has those keys.

        :param idempotent: whether it does no harm, and replies the same, when carried out twice.
        """
        command = packed(name, *args)
        connection = self._take()
        try:
            reply = _ask(connection, command)
        except BaseException as err:
            self._take_back(connection, err)
            if not (is_cut(err) and (idempotent or isinstance(err, NotSent))):
                raise
            with self.held(keys, fresh=True) as other:
                return _ask(other, command)
        self._take_back(connection)
        return reply

    @contextmanager
    def held(self, keys: Sequence[bytes], *, fresh: bool = False) -> Iterator[Any]:
        """Lend out a connection to the server of those keys; closed if anything breaks off.

        :param fresh: a new one, since one in use was lost, and so may others be.
        """
        del keys
        connection = self._new() if fresh else self._take()
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
            if now - idle[0][1] > keepalive.RENEW_AFTER:
                idle.pop(0)[0].disconnect()
        except IndexError:
            pass  # others have taken them all meanwhile

    def _take(self) -> Any:
        if self._pid != os.getpid():
            return self._new()  # which sees to it that none of a parent's is taken
        try:
            connection, used = self._idle.pop()
        except IndexError:
            return self._new()
        idle = time.monotonic() - used
        if idle > _LOOK_AFTER and (idle > keepalive.RENEW_AFTER or _hung_up(connection)):
            connection.disconnect()
            self._drop_idle()  # they are unused for longer, or the server went away
            return self._new()
        return connection

    def _new(self) -> Any:
        pool = self.conn.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            connection.connect()
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
        """Close what is open."""
        if self._pid == os.getpid() and self._conn is not None:
            self._drop_idle()
            self._conn.close()
            self._conn = None


class ClusterLink(Link):
    """Connections to the nodes of a cluster; each queue is on one of them."""

    one_server = False

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._lost = LostNodes(self._probe)

    def server_of(self, key: bytes) -> Any:
        """Return the name of the node that has that key."""
        return self._name_of_node(key)

    def _probe(self, key: bytes) -> None:
        self._call(script("note_stop"), [key], ())  # for no lease at all

    def _connect(self) -> Any:
        nodes = [ClusterNode(host, port) for host, port in self.target.hosts]  # type: ignore[no-untyped-call]
        options = {**self.target.options, "ssl": True} if self.target.tls else self.target.options
        return _Cluster(startup_nodes=nodes, **options)

    def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Any],
        again: Callable[[], Call] | None = None,
    ) -> Any:
        """Run a script on the node that has those keys."""
        with _of_one_node(keys):
            try:
                return self._call(script, keys, args)
            except DRIVER_ERRORS as err:
                call = _second(err, Call(script, keys, args), again)
                if call is None:
                    raise
            return self._call(*call)  # the driver has closed what else leads to that node

    def run_or_fail(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Any],
        again: Callable[[], Call] | None = None,
    ) -> Any:
        """Run a script on the node that has those keys, unless that is known to be lost."""
        key = keys[0]
        node = self._name_of_node(key)
        if (known := self._lost.find(node, key)) is not None:
            raise NodeOut(queue_of(key)) from known
        try:
            return self.run(script, keys, args, again)
        except NodeOut as err:
            self._lost.add(node, key, err.cause)
            raise

    def _name_of_node(self, key: bytes) -> str:
        try:
            return str(self._node([key]).name)
        except SlotNotCoveredError:
            return ""

    def take_back(self) -> set[str]:
        """Return the queues whose nodes answer again."""
        return self._lost.take_back()

    def has_news(self) -> bool:
        """Whether a node answers again."""
        return self._lost.answered()

    def out_of_reach(self, queue_names: Iterable[str]) -> dict[str, Exception]:
        """Return which of these queues are on lost nodes."""
        return self._lost.reasons(queue_names)

    def note_lost(self, key: bytes, err: Exception) -> None:
        """Note that a node is lost, unless this is an answer, or all of them are."""
        if not is_of_one_node(err):
            raise err
        self._lost.add(self._name_of_node(key), key, err)

    def _call(self, script: Script, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        text, sha = self._as_known(script)
        try:
            try:
                return self.conn.execute_command("EVALSHA", sha, len(keys), *keys, *args)
            except NoScriptError:
                return self.conn.execute_command("EVAL", text, len(keys), *keys, *args)
        except ResponseError as err:
            if self._is_modern(err):
                raise
            return self._call(script, keys, args)

    def command(
        self, keys: Sequence[bytes], name: str, *args: Any, idempotent: bool = False
    ) -> Any:
        """Run one plain command on the node that has those keys."""
        with _of_one_node(keys):
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
    def held(self, keys: Sequence[bytes], *, fresh: bool = False) -> Iterator[Any]:
        """Lend out a connection to the node that has those keys."""
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
        """Close what is open."""
        self._lost.close()
        if self._pid == os.getpid() and self._conn is not None:
            self._conn.close()
            self._conn = None


def make_link(target: Target) -> Link:
    """Return the link for a target; it connects on first use."""
    return ClusterLink(target) if target.kind == "cluster" else Link(target)


class _of_one_node:  # noqa: N801 - read as a function
    """A block of which no error of one node gets out but as a ``NodeOut``."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, err: BaseException | None, trace: Any) -> None:
        if isinstance(err, DRIVER_ERRORS) and is_of_one_node(err):
            raise NodeOut(queue_of(self.keys[0]) if self.keys else "") from err


class _Cluster(RedisCluster):
    """The client object of redis-py, with pools of ours, which it can only be given by URL."""

    def command(self, **kwargs: Any) -> Any:
        """Return what commands there are; redis-py asks when it connects, one node and no other."""
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
    """The connections to one node, none of which is lent out after a long time unused."""

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
        return connection

    def release(self, connection: Any) -> None:
        # Interrupted (by a timeout, say), it may have been sent a command whose reply is to come;
        # the driver, which closes it after errors of its own, would lend it out like that.
        if (err := sys.exc_info()[1]) is not None and not isinstance(err, Exception):
            connection.disconnect()
        connection.unused_since = time.monotonic()
        super().release(connection)


def _hung_up(connection: Any) -> bool:
    """Whether the server has hung up meanwhile: nothing else is due on an unused connection."""
    try:
        return bool(connection.can_read())
    except (redis.RedisError, OSError):
        return True


def _second(err: BaseException, call: Call, again: Callable[[], Call] | None) -> Call | None:
    """Return what to run once more after a call failed; None: nothing."""
    if not is_cut(err):
        return None
    if isinstance(err, NotSent) or call.script.idempotent:
        return call
    return again() if again else None


def _send(connection: Any, command: bytes) -> None:
    try:
        connection.send_packed_command([command])
    except redis.ConnectionError as err:
        raise NotSent(*err.args) from err


def _ask(connection: Any, command: bytes) -> Any:
    _send(connection, command)
    return connection.read_response()
