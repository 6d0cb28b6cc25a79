"""Dead letters on beanstalkd: jobs on a tube of their own, the newest first in line.

The server's own ``bury`` keeps no reason and shows one job at a time. It is used only for
a job of another producer so large that nothing can be added to it.
"""

import contextlib
import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import greenstalk

from alligator.backends.base import DeadTask, Renew
from alligator.backends.beanstalk.connection import Connection, Lease
from alligator.backends.beanstalk.encoding import Body, Letter, decode, decode_letter, encode
from alligator.backends.beanstalk.tubes import NewJob
from alligator.exceptions import ConnectionLost

#: What is appended to a queue's name for its dead letters.
SUFFIX = ".dead"

_TTR = 120  # a listing that takes longer may be seen twice by another
_PATIENCE = 5.0  # seconds to wait for somebody else who looks at the same letters
_LATEST = 2**32 - 1
_COUNTS = tuple(f"current-jobs-{state}" for state in ("ready", "delayed", "reserved", "buried"))

Held = tuple[Letter, Lease]


def put(connection: Connection, queue_name: str, died_at: float, body: bytes) -> int:
    """Add a dead letter and return the id of its job."""
    newest_first = max(0, _LATEST - int(died_at))
    return connection.put(queue_name + SUFFIX, NewJob(body, newest_first, 0, _TTR))


@contextlib.contextmanager
def held(connection: Connection, queue_name: str, limit: int | None = None) -> Iterator[list[Held]]:
    """Reserve the dead letters, newest first, and put back those that were not acked.

    :param limit: enough of them for the newest so many.
    """
    leases: list[Lease] = []
    connection.watch([queue_name + SUFFIX])
    try:
        _gather(connection, queue_name, limit, leases)
        found = [(decode_letter(each.job.body, queue_name, each.job.id), each) for each in leases]
        found.sort(key=lambda pair: (pair[0].task.died_at, pair[0].job_id), reverse=True)
        yield found
    finally:
        with contextlib.suppress(ConnectionLost):  # then the server has put them back already
            _put_back(connection, leases)


def _gather(
    connection: Connection, queue_name: str, limit: int | None, leases: list[Lease]
) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        enough = False
        while not enough and (lease := connection.reserve(0)):
            leases.append(lease)
            # The server orders by whole seconds, so that the last second has to be complete.
            enough = bool(limit and len(leases) > limit and _later(leases[limit - 1], lease))
        found = counts(connection, queue_name + SUFFIX)
        elsewhere = found["current-jobs-reserved"] - len(leases)
        if not enough:  # what is ready now was put back by another in this moment
            elsewhere += found["current-jobs-ready"]
        if elsewhere <= 0 or time.monotonic() > deadline:
            return
        _put_back(connection, leases)  # two are listing them, and neither has them all
        leases.clear()
        time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - to get out of step


def _put_back(connection: Connection, leases: list[Lease]) -> None:
    for each in leases:
        if not each.settled:
            connection.release(each)


def _later(one: Lease, other: Lease) -> bool:
    return other.record["pri"] > one.record["pri"]


def newest(letters: list[Held], limit: int) -> list[DeadTask]:
    """Return the tasks, each id once: a crash while burying may have left two."""
    tasks: dict[str, DeadTask] = {}
    for letter, _ in letters:
        tasks.setdefault(letter.task.task_id, letter.task)
    return list(tasks.values())[: max(0, limit)]


def revive(
    connection: Connection, queue_name: str, task_id: str | None, ttr: int, renew: Renew | None
) -> int:
    """Put dead letters back on their queue, the oldest first; return how many."""
    revived: set[str] = set()
    with held(connection, queue_name) as letters:
        for letter, lease in reversed(letters):
            own_id = letter.task.task_id
            if task_id not in (None, own_id):
                continue
            if own_id not in revived:
                data = letter.task.data
                body = encode(Body(renew(own_id, data) if renew else data))
                connection.put(queue_name, NewJob(body, letter.urgency, 0, max(ttr, letter.ttr)))
                revived.add(own_id)
            connection.ack(lease)
    return len(revived)


def purge(connection: Connection, queue_name: str, until: float) -> int:
    """Delete the dead letters up to a time; return how many."""
    with held(connection, queue_name) as letters:
        old = [lease for letter, lease in letters if letter.task.died_at <= until]
        return sum(connection.ack(lease) for lease in old)


def purge_buried(connection: Connection, queue_name: str, older_than: float) -> int:
    """Delete jobs buried on the server itself, up to the first younger one; return how many."""
    deleted = 0
    while job := connection.next_buried(queue_name):
        record = connection.stats_job(job.id)
        if record and record["age"] < older_than:
            break
        deleted += connection.delete(job.id)
    return deleted


def search(connection: Connection, queue_name: str, task_id: str) -> DeadTask | None:
    """Return the dead letter of an id."""
    with held(connection, queue_name) as letters:
        tasks = newest(letters, len(letters))
    return next((each for each in tasks if each.task_id == task_id), None)


def as_dead(queue_name: str, job: greenstalk.Job[bytes]) -> DeadTask:
    """Return a job buried on the server itself as a dead letter."""
    why = "Buried on beanstalkd itself, which keeps no reason and shows one such job at a time."
    body = decode(job.body)
    return DeadTask(str(job.id), queue_name, body.data, why, "", 0.0, body.attempts)


def kick(connection: Connection, queue_name: str, task_id: str | None) -> int:
    """Put back jobs that were buried on the server itself; return how many."""
    kicked = 0
    if task_id is not None:
        record = connection.stats_job(int(task_id)) if task_id.isdecimal() else None
        if record and (record["tube"], record["state"]) == (queue_name, "buried"):
            kicked += _kick(connection, record["id"])
        return kicked
    while (job := connection.next_buried(queue_name)) and _kick(connection, job.id):
        kicked += 1
    return kicked


def _kick(connection: Connection, job_id: int) -> bool:
    try:
        connection.call(lambda server: server.kick_job(job_id))
    except greenstalk.NotFoundError:
        return False
    return True


def counts(connection: Connection, tube: str) -> dict[str, int]:
    """Return the server's counts for a tube, whether it exists or not."""
    record = _record(connection, tube)
    return {name: int(record.get(name, 0)) for name in _COUNTS}


def ever(connection: Connection, tube: str) -> int:
    """Return how many jobs were put into a tube since it exists."""
    return int(_record(connection, tube).get("total-jobs", 0))


def _record(connection: Connection, tube: str) -> Mapping[str, Any]:
    try:
        record: Mapping[str, Any] = connection.call(lambda server: server.stats_tube(tube))
    except greenstalk.NotFoundError:
        return {}
    return record
