"""Keep dead letters on beanstalkd as jobs of a tube of their own, the newest first in line.

The server's own ``bury`` keeps no reason and shows one job at a time. It serves only for a job
of another producer that is so large that nothing can be added to it.
"""

import contextlib
import random
import time
from collections.abc import Iterator

from alligator.backends.base import DeadTask, Renew
from alligator.backends.beanstalk.connection import Connection, Job, Lease
from alligator.backends.beanstalk.encoding import Body, Letter, decode, decode_letter, encode
from alligator.backends.beanstalk.protocol import NewJob
from alligator.exceptions import ConnectionLost

#: Makes the name of a queue that of the tube for its dead letters.
SUFFIX = ".dead"

_TTR = 120  # seconds; of a listing that takes longer, another may see the letters twice
_MOST_WAIT = 5.0  # seconds to wait for another client that lists the same letters
_LATEST = 2**32 - 1
_COUNTS = tuple(f"current-jobs-{state}" for state in ("ready", "delayed", "reserved", "buried"))

Reserved = tuple[Letter, Lease]


def put(connection: Connection, queue_name: str, died_at: float, body: bytes) -> int:
    """Add a dead letter and return the id of its job."""
    newest_first = max(0, _LATEST - int(died_at))
    return connection.put(queue_name + SUFFIX, NewJob(body, newest_first, 0, _TTR))


@contextlib.contextmanager
def reserved(
    connection: Connection, queue_name: str, limit: int | None = None
) -> Iterator[list[Reserved]]:
    """Reserve the dead letters, newest first, and release at the end all that were not acked.

    :param limit: reserve no more than the newest so many need.
    """
    leases: list[Lease] = []
    connection.watch([queue_name + SUFFIX])
    try:
        _reserve_all(connection, queue_name, limit, leases)
        found = [(decode_letter(each.job.body, queue_name, each.job.id), each) for each in leases]
        found.sort(key=lambda pair: (pair[0].task.died_at, pair[0].job_id), reverse=True)
        yield found
    finally:
        with contextlib.suppress(ConnectionLost):  # then the server has released them
            _release(connection, leases)


def _reserve_all(
    connection: Connection, queue_name: str, limit: int | None, leases: list[Lease]
) -> None:
    deadline = time.monotonic() + _MOST_WAIT
    while True:
        enough = False
        while not enough and (lease := connection.reserve(0)):
            leases.append(lease)
            # The server orders by whole seconds, so the last second has to be complete.
            enough = bool(limit and len(leases) > limit and _later(leases[limit - 1], lease))
        found = counts(connection, queue_name + SUFFIX)
        elsewhere = found["current-jobs-reserved"] - len(leases)
        if not enough:  # another client has released the ready ones in this moment
            elsewhere += found["current-jobs-ready"]
        if elsewhere <= 0 or time.monotonic() > deadline:
            return
        _release(connection, leases)  # two clients list them, and neither has them all
        leases.clear()
        time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - to get out of step


def _release(connection: Connection, leases: list[Lease]) -> None:
    for each in leases:
        if not each.settled:
            connection.release(each)


def _later(one: Lease, other: Lease) -> bool:
    return other.record["pri"] > one.record["pri"]


def newest(letters: list[Reserved], limit: int) -> list[DeadTask]:
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
    with reserved(connection, queue_name) as letters:
        for letter, lease in reversed(letters):
            letter_id = letter.task.task_id
            if task_id not in (None, letter_id):
                continue
            if letter_id not in revived:
                data = letter.task.data
                body = encode(Body(renew(letter_id, data) if renew else data))
                connection.put(queue_name, NewJob(body, letter.pri, 0, max(ttr, letter.ttr)))
                revived.add(letter_id)
            connection.ack(lease)
    return len(revived)


def purge(connection: Connection, queue_name: str, until: float) -> int:
    """Delete the dead letters up to a time; return how many."""
    with reserved(connection, queue_name) as letters:
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
    with reserved(connection, queue_name) as letters:
        tasks = newest(letters, len(letters))
    return next((each for each in tasks if each.task_id == task_id), None)


def as_dead(queue_name: str, job: Job) -> DeadTask:
    """Return a job buried on the server itself as a dead letter."""
    why = "Buried on beanstalkd itself, which keeps no reason and shows one such job at a time."
    body = decode(job.body)
    return DeadTask(str(job.id), queue_name, body.data, why, "", 0.0, body.attempts)


def kick(connection: Connection, queue_name: str, task_id: str | None) -> int:
    """Revive jobs that were buried on the server itself; return how many."""
    kicked = 0
    if task_id is not None:
        record = connection.find(task_id)
        if record and (record["tube"], record["state"]) == (queue_name, "buried"):
            kicked += connection.kick(record["id"])
        return kicked
    while (job := connection.next_buried(queue_name)) and connection.kick(job.id):
        kicked += 1
    return kicked


def counts(connection: Connection, tube: str) -> dict[str, int]:
    """Return the server's counts for a tube, zero if it does not exist."""
    record = connection.stats_tube(tube)
    return {name: int(record.get(name, 0)) for name in _COUNTS}
