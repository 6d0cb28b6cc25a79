"""The commands of beanstalkd on one connection, and the leases it holds."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import greenstalk

from alligator.backends.beanstalk import protocol as wire
from alligator.backends.beanstalk.socket import Server, translated
from alligator.backends.beanstalk.tubes import NewJob, Tubes

Job = greenstalk.Job[bytes]

_SLACK = 1.5  # seconds that the server's end of a lease may lie behind ours

# Jobs asked for in one write: few while few come, since each in vain costs the server a reply.
_LEAST_ASKED = 2
_RESERVE = b"reserve-with-timeout 0\r\n"

_NOTHING = greenstalk.TimedOutError, greenstalk.DeadlineSoonError, greenstalk.NotFoundError


@dataclass(slots=True, eq=False)
class Lease:
    """One reservation. ``reserves`` fences: the server counts it up with each new one."""

    connection: "Connection"
    job: Job
    record: wire.Record
    reserves: int
    since: float  # monotonic; when the record came
    sure_until: float  # monotonic; until then the server cannot have given it to another
    settled: str = ""  # how it ended through us: acked, released or buried
    successor: int | None = None  # the job that was put for it, and is not to be put twice

    def __repr__(self) -> str:
        return f"<lease {self.reserves} of job {self.job.id}>"

    def is_sure(self) -> bool:
        """Whether its connection, unbroken since, holds the job: nothing has to be asked.

        A server that was started again may give the id to another job, but not on this line.
        """
        held = self.connection.held.get(self.job.id) is self and not self.settled
        return held and time.monotonic() < self.sure_until


class Connection(Tubes):
    """One socket. Callers hold ``lock`` around everything but :meth:`drop`."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.lock = threading.Lock()
        self.held: dict[int, Lease] = {}
        self._appetite = _LEAST_ASKED

    def drop(self) -> None:
        """Close the socket; the server puts back what it held."""
        super().drop()
        self.held = {}

    def abandon(self) -> None:
        """Close this process's copy of an inherited socket; the parent's stays open."""
        super().abandon()
        self.held, self.lock = {}, threading.Lock()

    def holds(self) -> bool:
        """Whether jobs are reserved through it, as far as can be known here."""
        limit = time.monotonic() - _SLACK
        self.held = {key: each for key, each in self.held.items() if each.sure_until > limit}
        return bool(self.held)

    def reserve(self, timeout: int) -> Lease | None:
        """Reserve the next job of the watched tubes; None: nothing came."""
        return self._lease(lambda server: server.reserve(timeout))

    def reserve_job(self, job_id: int) -> Lease | None:
        """Reserve this very job unless it is gone or reserved."""
        return self._lease(lambda server: server.reserve_job(job_id))

    def _lease(self, command: Callable[[Server], Job]) -> Lease | None:
        sent = time.monotonic()
        try:
            job = self.call(command)
        except _NOTHING:
            return None
        except greenstalk.BeanstalkdError as err:
            raise translated(err) from err
        record = self.stats_job(job.id)
        return self._hold(job, record, sent) if record else None

    def _hold(self, job: Job, record: wire.Record, sent: float) -> Lease:
        lease = Lease(self, job, record, record["reserves"], time.monotonic(), sent + record["ttr"])
        self.held[job.id] = lease
        return lease

    def reserve_many(self, tube: str, limit: int, done: Sequence[Lease] = ()) -> list[Lease]:
        """Ack, then reserve up to so many jobs of a tube, in two round trips if many came before.

        :param done: leases to ack; those that are not sure are left as they are.
        """
        leases: list[Lease] = []
        while (asked := min(limit - len(leases), self._appetite)) > 0:
            found = self._reserve_some(tube, asked, done)
            leases += found
            done = ()
            if len(found) < asked:
                self._appetite = max(_LEAST_ASKED, len(found))
                break
            self._appetite = min(2 * self._appetite, wire.MOST_COMMANDS)
        return leases

    def _reserve_some(self, tube: str, asked: int, done: Sequence[Lease]) -> list[Lease]:
        sure = [each for each in done if each.is_sure()]
        sent = time.monotonic()
        answers = self.pipeline_watching([tube], [*map(_delete, sure), *[_RESERVE] * asked])
        for lease, answer in zip(sure, answers, strict=False):
            self._settled(lease, "acked", done=self._granted(answer) is not None)
        came = [self._granted(each) for each in answers[len(sure) :]]
        jobs = [greenstalk.Job(each.number, each.body) for each in came if each]
        records = self.pipeline([b"stats-job %d\r\n" % each.id for each in jobs])
        return [
            self._hold(job, wire.record_of(record.body), sent)
            for job, each in zip(jobs, records, strict=True)
            if (record := self._granted(each))  # else it came back and was deleted meanwhile
        ]

    def _granted(self, answer: wire.Answer) -> wire.Reply | None:
        """Return a reply; None: there is no such job. What else is refused ends the connection,
        so that no job stays reserved that nobody hears of.
        """
        if isinstance(answer, wire.Reply):
            return answer
        if not isinstance(answer, _NOTHING):
            self.drop()
            raise translated(answer) from answer
        return None

    def ack_many(self, leases: Sequence[Lease]) -> None:
        """Delete jobs that are held here for sure; the others are left as they are."""
        sure = [each for each in leases if each.connection is self and each.is_sure()]
        for lease, answer in zip(sure, self.pipeline([*map(_delete, sure)]), strict=True):
            self._settled(lease, "acked", done=self._granted(answer) is not None)

    def release_many(self, leases: Sequence[Lease]) -> None:
        """Put jobs back that were reserved here just now."""
        commands = [b"release %d %d 0\r\n" % (each.job.id, each.record["pri"]) for each in leases]
        for lease, answer in zip(leases, self.pipeline(commands), strict=True):
            self._settled(lease, "released", done=self._granted(answer) is not None)

    def touch_many(self, leases: Sequence[Lease]) -> list[Lease]:
        """Let leases begin anew that are held here for sure; return those it is done for."""
        sure = [each for each in leases if each.connection is self and each.is_sure()]
        sent = time.monotonic()
        answers = self.pipeline([b"touch %d\r\n" % each.job.id for each in sure])
        touched = [
            lease
            for lease, answer in zip(sure, answers, strict=True)
            if self._granted(answer) is not None
        ]
        for lease in touched:
            lease.sure_until = sent + lease.record["ttr"]
        return touched

    def stats_job(self, job_id: int) -> "greenstalk.StatsJob | None":
        """Return the server's record of a job; None: gone."""
        try:
            return self.call(lambda server: server.stats_job(job_id))
        except greenstalk.NotFoundError:
            return None

    def peek(self, job_id: int) -> Job | None:
        """Return a job in any state, and leave it there."""
        return self._peek(lambda server: server.peek(job_id))

    def next_ready(self, tube: str) -> Job | None:
        """Return the first in line of a tube, and leave it there."""
        self.use(tube)
        return self._peek(lambda server: server.peek_ready())

    def next_buried(self, tube: str) -> Job | None:
        """Return the job of a tube that was buried first, and leave it there."""
        self.use(tube)
        return self._peek(lambda server: server.peek_buried())

    def _peek(self, command: Callable[[Server], Job]) -> Job | None:
        try:
            return self.call(command)
        except greenstalk.NotFoundError:
            return None

    def delete_all(self, tube: str) -> None:
        """Delete the jobs of a tube that nobody has reserved, one by one."""
        self.use(tube)
        looks: list[Callable[[Server], Job]] = [Server.peek_ready, Server.peek_delayed]
        for look in [*looks, Server.peek_buried]:
            while job := self._peek(look):
                self.delete(job.id)

    def delete(self, job_id: int) -> bool:
        """Delete a job that this connection holds or nobody does."""
        return self._did(lambda server: server.delete(job_id))

    def holds_still(self, lease: Lease) -> bool:
        """Whether a lease is held here; the server is only asked once its time is over.

        By a touch, and before anything else is said: 1.12 may have missed the end of a lease,
        and any other command would remind it, so that a task that nobody has taken runs twice.
        """
        held = self.held.get(lease.job.id) is lease and not lease.settled
        return held and (time.monotonic() < lease.sure_until or self.touch(lease))

    def not_overtaken(self, lease: Lease) -> greenstalk.StatsJob | None:
        """Return the server's record of a job that nobody reserved since; None: overtaken.

        A server that was started again may give the id of a job that is done to a new one, so
        the body has to be the same as well. (Ours are: they hold the task's own id.) It also
        begins to count anew, so with no reservation counted nobody has had the job since.
        """
        record = None if lease.settled else self.stats_job(lease.job.id)
        if record is None or record["tube"] != lease.record["tube"]:
            return None
        ours = lease.connection is self and record["state"] == "reserved"
        free = record["state"] in ("ready", "delayed")
        same = record["reserves"] == lease.reserves or (free and record["reserves"] == 0)
        if not same or not (ours or free):
            return None
        job = self.peek(lease.job.id)
        return record if job is not None and job.body == lease.job.body else None

    def regain(self, lease: Lease) -> bool:
        """Let a lease begin anew, also one that ran out; False: it was overtaken."""
        if self.holds_still(lease):
            return self.touch(lease)
        record = self.not_overtaken(lease)
        if record is None:
            return False
        if record["state"] == "reserved":
            self.held[lease.job.id] = lease
            return self.touch(lease)
        again = self.reserve_job(lease.job.id)
        if again is None:
            return False
        if again.reserves != record["reserves"] + 1:  # somebody came and went in between
            self.release(again)
            return False
        lease.connection, lease.reserves, lease.sure_until = self, again.reserves, again.sure_until
        self.held[lease.job.id] = lease
        return True

    def replace(self, lease: Lease, job: NewJob) -> bool:
        """Put and reserve another job for one that is held here, which is deleted after that.

        A crash in between repeats the task and never loses it. False: it was overtaken.
        """
        again = self.reserve_job(self.put(lease.record["tube"], job))
        if again is None:  # somebody else has it, who knew an id that nobody was told
            return False
        del self.held[again.job.id]
        if not self._did(lambda server: server.delete(lease.job)):
            self.delete(again.job.id)
            return False
        self.held.pop(lease.job.id, None)
        lease.job, lease.record, lease.reserves = again.job, again.record, again.reserves
        lease.since, lease.sure_until = again.since, again.sure_until
        self.held[lease.job.id] = lease
        return True

    def touch(self, lease: Lease) -> bool:
        """Let a lease begin anew."""
        sent = time.monotonic()
        done = self._did(lambda server: server.touch(lease.job))
        if done:
            lease.sure_until = sent + lease.record["ttr"]
        return done

    def ack(self, lease: Lease) -> bool:
        """Delete a job that is held here, or was and is still free."""
        return self._settle(lease, "acked", lambda server: server.delete(lease.job))

    def release(self, lease: Lease, delay: int = 0) -> bool:
        """Put a held job back as it is."""
        urgency = lease.record["pri"]
        return self._settle(
            lease, "released", lambda server: server.release(lease.job, urgency, delay)
        )

    def bury(self, lease: Lease) -> bool:
        """Set a held job aside on the server."""
        urgency = lease.record["pri"]
        return self._settle(lease, "buried", lambda server: server.bury(lease.job, urgency))

    def _settle(self, lease: Lease, how: str, command: Callable[[Server], None]) -> bool:
        return self._settled(lease, how, done=self._did(command))

    def _settled(self, lease: Lease, how: str, *, done: bool) -> bool:
        if self.held.get(lease.job.id) is lease:
            del self.held[lease.job.id]
        if done:
            lease.settled = how
        return done

    def _did(self, command: Callable[[Server], None]) -> bool:
        try:
            self.call(command)
        except greenstalk.NotFoundError:
            return False
        except greenstalk.BeanstalkdError as err:
            raise translated(err) from err
        return True


def _delete(lease: Lease) -> bytes:
    return b"delete %d\r\n" % lease.job.id
