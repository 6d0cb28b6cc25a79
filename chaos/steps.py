"""Kill the own process at one chosen step, once: a client and tasks for the loop of all steps.

Workers load it with ``--app chaos.steps:gator``. Environment variables name the step: ``ack
before``, ``ack mid``, ``ack after``, ``on_start`` and so on. *Mid* is in the middle of a call of
the backend: see :func:`break_in`.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alligator import Gator, Task
from alligator.backends import client_class
from alligator.backends.base import Delivery, Reserved
from chaos.ledger import COMPLETED, KILLED, STARTED, Ledger

DSN = os.environ.get("CHAOS_DSN", "locmem://steps")
STEP = os.environ.get("CHAOS_STEP", "")
FOLDER = Path(os.environ.get("CHAOS_FOLDER", "."))  # one for each step

_doing = threading.local()


def ledger() -> Ledger:
    """Return the ledger that all steps of a loop share."""
    return Ledger(FOLDER.parent / "ledger")


def reach(step: str, names: Iterable[str] = ()) -> None:
    """Die if this is the chosen step and no worker has died there yet."""
    if step != STEP:
        return
    try:
        os.close(os.open(FOLDER / "reached", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    ledger().note(KILLED, ",".join(names) or "-")
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def doing(what: str, deliveries: Iterable[Delivery]) -> Iterator[None]:
    """Frame one call of the client."""
    names = [json.loads(each.data)["args"][0] for each in deliveries]
    reach(f"{what} before", names)
    _doing.what, _doing.names = what, names
    try:
        yield
    finally:
        _doing.what = None
    reach(f"{what} after", names)


def mid(*only: str) -> None:
    """Die in the middle of the current call, if that is the chosen step."""
    what = getattr(_doing, "what", None)
    if what and (not only or what in only):
        reach(f"{what} mid", _doing.names)


class Stepping:
    """Wrap the client of a backend."""

    def reserve(self, *args: Any, acks: Any = (), **kwargs: Any) -> Reserved:
        """Ack and lease; counts as *reserve* only if it leased a task."""
        if acks:
            with doing("ride", acks):
                return super().reserve(*args, acks=acks, **kwargs)
        reach("reserve before")
        _doing.what, _doing.names = "reserve", []
        try:
            reserved = super().reserve(*args, **kwargs)
        finally:
            _doing.what = None
        if reserved.deliveries:
            reach("reserve after")
        return reserved

    def ack(self, deliveries: Any) -> list[Delivery]:
        """Ack by itself, or within a reserve that some backends do in two requests."""
        if getattr(_doing, "what", None):
            return super().ack(deliveries)
        with doing("ack", deliveries):
            return super().ack(deliveries)

    def release(self, delivery: Delivery, data: Any = None, delay_until: Any = None) -> bool:
        """Release a retry, or hand back a task that did not run."""
        with doing("release" if data is not None else "hand back", [delivery]):
            return super().release(delivery, data, delay_until)

    def bury(self, delivery: Delivery, data: Any, reason: Any) -> bool:
        """Bury a task."""
        with doing("bury", [delivery]):
            return super().bury(delivery, data, reason)

    def extend(self, deliveries: Any, lease: float) -> list[Delivery]:
        """Extend leases."""
        with doing("extend", deliveries):
            return super().extend(deliveries, lease)


class SteppingTask(Task):
    """Be a task that can kill its worker outside of its function, too."""

    @classmethod
    def deserialize(cls, data: str | bytes) -> "SteppingTask":
        """Read the task."""
        reach("deserialize before")
        task = super().deserialize(data)
        reach("deserialize after")
        return task

    def run(self) -> Any:
        """Run the task with its hooks."""
        result = super().run()
        reach("run after")
        return result


# -- In the middle of what a backend does. ------------------------------------------------------


def break_in(client: Any) -> None:
    """Call :func:`mid` at the most dangerous moment of each backend.

    sqlite: all is written, and COMMIT comes next. redis: the script has run, and the client has not
    read the reply. beanstalk and sqs: the new message is on its queue, and the old one is not
    deleted yet.
    """
    scheme = DSN.partition(":")[0]
    if scheme == "sqlite":
        client.conn.set_trace_callback(lambda sql: mid() if sql == "COMMIT" else None)
    elif scheme == "redis":
        _break_into_redis(client)
    elif scheme == "beanstalk":
        from alligator.backends.beanstalk.connection import Connection

        Connection.ack = _after_mid(Connection.ack, "release", "bury")
    elif scheme == "sqs":
        from alligator.backends.sqs.connection import Connection as SqsConnection

        SqsConnection.delete = _after_mid(SqsConnection.delete, "release", "bury")


def _break_into_redis(client: Any) -> None:
    from alligator.backends.redis import connection as redis_connection
    from alligator.backends.redis.scripts import script

    for name in ("reserve", "ack", "release", "bury", "extend"):
        client.conn.script_load(script(name).text)  # else the first reply is that it is unknown

    def send(connection: Any, command: bytes) -> None:
        connection.send_packed_command([command])
        if getattr(_doing, "what", None):
            connection.can_read(timeout=5)
            mid()

    redis_connection._send = send


def _after_mid(method: Callable[..., Any], *only: str) -> Callable[..., Any]:
    def replaced(*args: Any, **kwargs: Any) -> Any:
        mid(*only)
        return method(*args, **kwargs)

    return replaced


# -- What is run. -------------------------------------------------------------------------------


def good(name: str, seconds: float) -> None:
    """Succeed after so long."""
    ledger().note(STARTED, name)
    reach("function begins")
    time.sleep(seconds)
    ledger().note(COMPLETED, name)
    reach("function ends")


def flaky(name: str) -> None:
    """Fail the first time."""
    ledger().note(STARTED, name)
    try:
        os.close(os.open(FOLDER / "failed", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        ledger().note(COMPLETED, name)
    else:
        raise RuntimeError("the first time")


def doomed(name: str) -> None:
    """Fail each time."""
    ledger().note(STARTED, name)
    raise ValueError("as always")


def on_start(_task: Task) -> None:
    """Die before the function."""
    reach("on_start")


def on_success(_task: Task, _result: Any) -> None:
    """Die after the function succeeded."""
    reach("on_success")


def on_error(_task: Task, _error: BaseException) -> None:
    """Die after the function failed."""
    reach("on_error")


if STEP:
    _client = type("Client", (Stepping, client_class(DSN)), {})
    gator = Gator(DSN, task_class=SteppingTask, backend_class=_client)
    if STEP.endswith(" mid"):
        break_in(gator.client)
