"""Send the commands of beanstalkd over one connection, and know the leases that it holds."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import greenstalk

from alligator.backends.beanstalk import protocol
from alligator.backends.beanstalk.protocol import Answer, NewJob, Record, Reply
from alligator.backends.beanstalk.socket import Server, Socket, translated
from alligator.exceptions import AlligatorException, ConnectionLost, InvalidTask

Job = greenstalk.Job[bytes]
T = TypeVar("T")

_MARGIN = 1.5  # seconds by which the server may end a lease later than this side counts

# Jobs asked for in one write: few while few arrive, since each missing job costs a reply.
_LEAST_ASKED = 2
_RESERVE = b"reserve-with-timeout 0\r\n"

_NOTHING = greenstalk.TimedOutError, greenstalk.DeadlineSoonError, greenstalk.NotFoundError


@dataclass(slots=True, eq=False)
class Lease:
    """One reservation. ``reserves`` fences it: the server counts up with each reservation."""

    connection: "Connection"
    job: Job
    record: Record
    reserves: int
    since: float  # monotonic; when the record arrived
    sure_until: float  # monotonic; until then the server cannot have leased the job again
    settled: str = ""  # how this client ended it: acked, released or buried
    successor: int | None = None  # the job put as its replacement, which is put only once

    def __repr__(self) -> str:
        return f"<lease {self.reserves} of job {self.job.id}>"

    def is_sure(self) -> bool:
        """Whether it holds for sure, without asking: its time runs, its connection never broke.

        A restarted server may give the id to another job, but not over this connection.
        """
        current = self.connection.leases.get(self.job.id) is self and not self.settled
        return current and time.monotonic() < self.sure_until


class Connection:
    """One connection. Callers hold ``lock`` around everything except :meth:`close`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.lock = threading.Lock()
        #: The leases of this connection by job; none once it is closed.
        self.leases: dict[int, Lease] = {}
        self._socket = Socket(address, on_close=self.leases.clear)
        self._asked = _LEAST_ASKED
        self._used = greenstalk.DEFAULT_TUBE
        self._watched = {greenstalk.DEFAULT_TUBE}
        self._largest: int | None = None

    # -- The connection itself. -----------------------------------------------------------

    def connect(self) -> None:
        """Connect; once closed, a connection stays closed.

        :raises ConnectionLost: no server answers there.
        """
        self._socket.connect()

    def close(self) -> None:
        """Close the socket; the server then releases the jobs reserved over it."""
        self._socket.close()

    def close_inherited(self) -> None:
        """Close this process's copy of an inherited socket; the parent's stays open."""
        self._socket.close_inherited()
        self.lock = threading.Lock()

    def is_alive(self) -> bool:
        """Whether it is open; close it if the server has closed its end."""
        return self._socket.is_alive()

    @property
    def last_reply(self) -> float:
        """When the server last answered, in monotonic seconds."""
        return self._socket.last_reply

    def has_leases(self) -> bool:
        """Whether jobs are reserved through it, as far as this side can know."""
        limit = time.monotonic() - _MARGIN
        for key, each in list(self.leases.items()):
            if each.sure_until <= limit:
                self.leases.pop(key, None)
        return bool(self.leases)

    # -- Putting jobs. --------------------------------------------------------------------

    def largest_job(self) -> int:
        """Return the size of the largest job to send, in bytes.

        A job of the server's very maximum does not survive a replay of the binlog.
        """
        if self._largest is None:
            self._largest = int(self.stats()["max-job-size"]) - 2
        return self._largest

    def put(self, tube: str, job: NewJob) -> int:
        """Put a job and return its id; see :meth:`put_many`."""
        return self.put_many(tube, [job])[0]

    def put_many(self, tube: str, jobs: Sequence[NewJob]) -> list[int]:
        """Put jobs, in order, and return their ids.

        If the server refuses one, the jobs before it stay. The jobs after it are deleted unless
        they are reserved already.

        :raises InvalidTask: one is too large; none is put.
        :raises QueueFull: the server takes no more.
        """
        largest = self.largest_job()
        for job in jobs:
            if len(job.body) > largest:
                raise InvalidTask(
                    f"The task takes {len(job.body)} bytes, but this beanstalkd takes {largest}"
                    " (set by its option -z)."
                )
        first = [] if self._used == tube else [b"use %b\r\n" % tube.encode()]
        commands = [*first, *map(protocol.put, jobs)]
        answers = self._socket.pipeline(commands, until_refused=True)
        if first and isinstance(answers[0], Reply):
            self._used = tube
        return self._ids(answers, skip=len(first))

    def put_each(self, tube: str, jobs: Sequence[NewJob]) -> list[int | AlligatorException]:
        """Put jobs, in order, and return the id of each, or why the server refused it."""
        first = [] if self._used == tube else [b"use %b\r\n" % tube.encode()]
        try:
            answers = self._socket.pipeline([*first, *map(protocol.put, jobs)])
        except ConnectionLost as err:
            return [err] * len(jobs)
        if first and isinstance(answers[0], Reply):
            self._used = tube
        found, unwanted = list[int | AlligatorException](), list[int]()
        for each in answers[len(first) :]:
            if isinstance(each, greenstalk.BeanstalkdError):
                if isinstance(each, greenstalk.BuriedError) and each.id is not None:
                    unwanted.append(each.id)  # stored, but where no reserve finds it
                found.append(translated(each))
            else:
                found.append(each.number)
        with contextlib.suppress(ConnectionLost):
            self._socket.pipeline([b"delete %d\r\n" % each for each in unwanted])
        return found

    def _ids(self, answers: Sequence[Answer], skip: int) -> list[int]:
        refused: greenstalk.BeanstalkdError | None = None
        ids, unwanted = list[int](), list[int]()
        for index, each in enumerate(answers):
            if isinstance(each, greenstalk.BeanstalkdError):
                refused = refused or each
                if isinstance(each, greenstalk.BuriedError) and each.id is not None:
                    unwanted.append(each.id)  # stored, but where no reserve finds it
            elif index >= skip:
                (unwanted if refused else ids).append(each.number)
        if refused is not None:
            self._socket.pipeline([b"delete %d\r\n" % each for each in unwanted])
            raise translated(refused) from refused
        return ids

    # -- Reserving. -----------------------------------------------------------------------

    def watch(self, tubes: Sequence[str]) -> None:
        """Make these the tubes that :meth:`reserve` takes from."""
        self._pipeline_watching(tubes, [])

    def _pipeline_watching(self, tubes: Sequence[str], commands: Sequence[bytes]) -> list[Answer]:
        """Send commands that reserve, from these tubes only, and return their answers."""
        wanted = set(tubes)
        first = [b"watch %b\r\n" % each.encode() for each in tubes if each not in self._watched]
        first += [b"ignore %b\r\n" % each.encode() for each in self._watched - wanted]
        answers = self._socket.pipeline([*first, *commands])
        self._watched = wanted
        for each in answers[: len(first)]:
            if isinstance(each, greenstalk.BeanstalkdError):
                self.close()  # jobs of another queue may have arrived: the server releases them
                raise translated(each) from each
        return answers[len(first) :]

    def reserve(self, timeout: int) -> Lease | None:
        """Reserve the next job of the watched tubes; None: there was none."""
        return self._reserve(lambda server: server.reserve(timeout))

    def reserve_job(self, job_id: int) -> Lease | None:
        """Reserve this very job unless it is gone or reserved."""
        return self._reserve(lambda server: server.reserve_job(job_id))

    def _reserve(self, command: Callable[[Server], Job]) -> Lease | None:
        sent = time.monotonic()
        try:
            job = self._socket.call(command)
        except _NOTHING:
            return None
        except greenstalk.BeanstalkdError as err:
            raise translated(err) from err
        record = self.stats_job(job.id)
        return self._new_lease(job, record, sent) if record else None

    def _new_lease(self, job: Job, record: Record, sent: float) -> Lease:
        lease = Lease(self, job, record, record["reserves"], time.monotonic(), sent + record["ttr"])
        self.leases[job.id] = lease
        return lease

    def reserve_many(self, tube: str, limit: int, acks: Sequence[Lease] = ()) -> list[Lease]:
        """Ack, then reserve up to so many jobs of a tube.

        That takes two round trips if the last call found many.

        :param acks: leases to ack; a lease that is not sure stays as it is.
        """
        leases: list[Lease] = []
        while (asked := min(limit - len(leases), self._asked)) > 0:
            found = self._reserve_some(tube, asked, acks)
            leases += found
            acks = ()
            if len(found) < asked:
                self._asked = max(_LEAST_ASKED, len(found))
                break
            self._asked = min(2 * self._asked, protocol.MOST_COMMANDS)
        return leases

    def _reserve_some(self, tube: str, asked: int, acks: Sequence[Lease]) -> list[Lease]:
        sure = [each for each in acks if each.is_sure()]
        sent = time.monotonic()
        answers = self._pipeline_watching([tube], [*map(_delete, sure), *[_RESERVE] * asked])
        for lease, answer in zip(sure, answers, strict=False):
            self._end(lease, "acked", done=self._done(answer) is not None)
        replies = [self._done(each) for each in answers[len(sure) :]]
        jobs = [greenstalk.Job(each.number, each.body) for each in replies if each]
        records = self._socket.pipeline([b"stats-job %d\r\n" % each.id for each in jobs])
        return [
            self._new_lease(job, protocol.record_of(record.body), sent)
            for job, each in zip(jobs, records, strict=True)
            if (record := self._done(each))  # else its lease ran out, and it was deleted meanwhile
        ]

    def _done(self, answer: Answer) -> Reply | None:
        """Return a reply; None: there is no such job.

        Any other refusal closes the connection, so that no job stays reserved unknown to all.
        """
        if isinstance(answer, Reply):
            return answer
        if not isinstance(answer, _NOTHING):
            self.close()
            raise translated(answer) from answer
        return None

    # -- Many sure leases at a time. ------------------------------------------------------

    def ack_many(self, leases: Sequence[Lease]) -> None:
        """Delete the jobs whose leases are sure; the others stay as they are."""
        sure = [each for each in leases if each.connection is self and each.is_sure()]
        for lease, answer in zip(sure, self._socket.pipeline([*map(_delete, sure)]), strict=True):
            self._end(lease, "acked", done=self._done(answer) is not None)

    def release_many(self, leases: Sequence[Lease]) -> None:
        """Release jobs that were reserved here just now."""
        commands = [b"release %d %d 0\r\n" % (each.job.id, each.record["pri"]) for each in leases]
        for lease, answer in zip(leases, self._socket.pipeline(commands), strict=True):
            self._end(lease, "released", done=self._done(answer) is not None)

    def touch_many(self, leases: Sequence[Lease]) -> list[Lease]:
        """Restart the leases that are sure; return the leases for which that succeeded."""
        sure = [each for each in leases if each.connection is self and each.is_sure()]
        sent = time.monotonic()
        answers = self._socket.pipeline([b"touch %d\r\n" % each.job.id for each in sure])
        touched = [
            lease
            for lease, answer in zip(sure, answers, strict=True)
            if self._done(answer) is not None
        ]
        for lease in touched:
            lease.sure_until = sent + lease.record["ttr"]
        return touched

    # -- One lease. -----------------------------------------------------------------------

    def regain(self, lease: Lease) -> bool:
        """Restart a lease, also one that ran out; False: it was overtaken."""
        if self.holds(lease):
            return self.touch(lease)
        record = self.not_overtaken(lease)
        if record is None:
            return False
        if record["state"] == "reserved":
            self.leases[lease.job.id] = lease
            return self.touch(lease)
        again = self.reserve_job(lease.job.id)
        if again is None:
            return False
        if again.reserves != record["reserves"] + 1:  # another lease began and ended in between
            self.release(again)
            return False
        lease.connection, lease.reserves, lease.sure_until = self, again.reserves, again.sure_until
        self.leases[lease.job.id] = lease
        return True

    def holds(self, lease: Lease) -> bool:
        """Whether this connection has the lease; asks the server only after the lease's time.

        It asks by a touch, before any other command. Version 1.12 may have missed the end of a
        lease, and any other command would remind it. A task that no worker has taken since would
        then run twice.
        """
        current = self.leases.get(lease.job.id) is lease and not lease.settled
        return current and (time.monotonic() < lease.sure_until or self.touch(lease))

    def not_overtaken(self, lease: Lease) -> greenstalk.StatsJob | None:
        """Return the record of a job that was not reserved again since; None: overtaken.

        A restarted server may give the id of a finished job to a new job, so the body has to be
        the same as well. (Alligator's bodies differ: each has its task's own id.) Such a server
        also counts from zero, so a count of zero means that no worker had the job since.
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

    def replace(self, lease: Lease, job: NewJob) -> bool:
        """Put and reserve another job for the one of a lease here, then delete that one.

        A crash in between repeats the task and never loses it. False: it was overtaken.
        """
        again = self.reserve_job(self.put(lease.record["tube"], job))
        if again is None:  # another client has it, which guessed an id that no call returned
            return False
        del self.leases[again.job.id]
        if not self._found(lambda server: server.delete(lease.job)):
            self.delete(again.job.id)
            return False
        self.leases.pop(lease.job.id, None)
        lease.job, lease.record, lease.reserves = again.job, again.record, again.reserves
        lease.since, lease.sure_until = again.since, again.sure_until
        self.leases[lease.job.id] = lease
        return True

    def touch(self, lease: Lease) -> bool:
        """Restart a lease that this connection holds."""
        sent = time.monotonic()
        done = self._found(lambda server: server.touch(lease.job))
        if done:
            lease.sure_until = sent + lease.record["ttr"]
        return done

    def ack(self, lease: Lease) -> bool:
        """Delete a job that this connection holds, or that is free again."""
        return self._settle(lease, "acked", lambda server: server.delete(lease.job))

    def release(self, lease: Lease, delay: int = 0) -> bool:
        """Release a job as it is, after a delay in seconds."""
        pri = lease.record["pri"]
        return self._settle(lease, "released", lambda server: server.release(lease.job, pri, delay))

    def bury(self, lease: Lease) -> bool:
        """Bury a job on the server itself."""
        pri = lease.record["pri"]
        return self._settle(lease, "buried", lambda server: server.bury(lease.job, pri))

    def _settle(self, lease: Lease, how: str, command: Callable[[Server], None]) -> bool:
        return self._end(lease, how, done=self._found(command))

    def _end(self, lease: Lease, how: str, *, done: bool) -> bool:
        if self.leases.get(lease.job.id) is lease:
            del self.leases[lease.job.id]
        if done:
            lease.settled = how
        return done

    # -- Jobs by their id, and the first of a tube. ---------------------------------------

    def stats_job(self, job_id: int) -> greenstalk.StatsJob | None:
        """Return the server's record of a job; None: gone."""
        return self._look(lambda server: server.stats_job(job_id))

    def find(self, job_id: str) -> greenstalk.StatsJob | None:
        """Return the server's record of a job; None: gone, or this is no id of a job."""
        if job_id.isascii() and job_id.isdecimal() and len(job_id) < 20:
            return self.stats_job(int(job_id))
        return None

    def peek(self, job_id: int) -> Job | None:
        """Return a job in any state, and leave it there."""
        return self._look(lambda server: server.peek(job_id))

    def next_ready(self, tube: str) -> Job | None:
        """Return the first ready job of a tube, and leave it there."""
        self._use(tube)
        return self._look(Server.peek_ready)

    def next_delayed(self, tube: str) -> Job | None:
        """Return the job of a tube whose delay ends first, and leave it there."""
        self._use(tube)
        return self._look(Server.peek_delayed)

    def next_buried(self, tube: str) -> Job | None:
        """Return the job of a tube that was buried first, and leave it there."""
        self._use(tube)
        return self._look(Server.peek_buried)

    def delete(self, job_id: int) -> bool:
        """Delete a job that is free, or that this connection holds."""
        return self._found(lambda server: server.delete(job_id))

    def kick(self, job_id: int) -> bool:
        """Make a buried or delayed job ready."""
        return self._found(lambda server: server.kick_job(job_id))

    def delete_all(self, tube: str) -> None:
        """Delete the jobs of a tube that are not reserved, one by one."""
        self._use(tube)
        for look in (Server.peek_ready, Server.peek_delayed, Server.peek_buried):
            while job := self._look(look):
                self.delete(job.id)

    # -- The server and its tubes. --------------------------------------------------------

    def stats(self) -> Mapping[str, Any]:
        """Return what the server says of itself."""
        return self._socket.call(Server.stats)

    def tubes(self) -> list[str]:
        """Return the names of the tubes that exist."""
        return self._socket.call(Server.tubes)

    def stats_tube(self, tube: str) -> Mapping[str, Any]:
        """Return the server's record of a tube; empty: there is no such tube."""
        return self._look(lambda server: server.stats_tube(tube)) or {}

    def _use(self, tube: str) -> None:
        if self._used != tube:
            self._socket.call(lambda server: server.use(tube))
            self._used = tube

    def _look(self, command: Callable[[Server], T]) -> T | None:
        try:
            return self._socket.call(command)
        except greenstalk.NotFoundError:
            return None

    def _found(self, command: Callable[[Server], None]) -> bool:
        try:
            self._socket.call(command)
        except greenstalk.NotFoundError:
            return False
        except greenstalk.BeanstalkdError as err:
            raise translated(err) from err
        return True


def _delete(lease: Lease) -> bytes:
    return b"delete %d\r\n" % lease.job.id
