"""Which tubes a connection to beanstalkd speaks of, and what it puts there."""

from collections.abc import Sequence
from typing import NamedTuple

import greenstalk

from alligator.backends.beanstalk import protocol as wire
from alligator.backends.beanstalk.socket import Line, translated
from alligator.exceptions import InvalidTask


class NewJob(NamedTuple):
    """A job to be put."""

    body: bytes
    urgency: int
    delay: int  # seconds
    ttr: int  # seconds


class Tubes(Line):
    """A line that knows its tubes."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self._used = greenstalk.DEFAULT_TUBE
        self._watched = {greenstalk.DEFAULT_TUBE}
        self._largest: int | None = None

    def use(self, tube: str) -> None:
        """Make a tube the one that the peeks mean."""
        if self._used != tube:
            self.call(lambda server: server.use(tube))
            self._used = tube

    def watch(self, tubes: Sequence[str]) -> None:
        """Make these the tubes that reserve takes from."""
        self.pipeline_watching(tubes, [])

    def pipeline_watching(
        self, tubes: Sequence[str], commands: Sequence[bytes]
    ) -> list[wire.Answer]:
        """Send commands that reserve, from these tubes only, and return their answers."""
        wanted = set(tubes)
        first = [b"watch %b\r\n" % each.encode() for each in tubes if each not in self._watched]
        first += [b"ignore %b\r\n" % each.encode() for each in self._watched - wanted]
        if not first:
            return self.pipeline(commands)
        answers = self.pipeline([*first, *commands])
        self._watched = wanted
        for each in answers[: len(first)]:
            if isinstance(each, greenstalk.BeanstalkdError):
                self.drop()  # what came may be of another queue: it goes back
                raise translated(each) from each
        return answers[len(first) :]

    def largest_job(self) -> int:
        """Return the size of the largest job to send: a job of the very maximum does not
        survive a replay of the binlog.
        """
        if self._largest is None:
            self._largest = self.call(lambda server: server.stats())["max-job-size"] - 2
        return self._largest

    def put(self, tube: str, job: NewJob) -> int:
        """Put a job and return its id; see :meth:`put_many`."""
        return self.put_many(tube, [job])[0]

    def put_many(self, tube: str, jobs: Sequence[NewJob]) -> list[int]:
        """Put jobs, in order, and return their ids.

        Where the server refuses one, those before it stay, and those after it are taken back
        unless somebody has reserved them already.

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
        commands = [wire.put(*job) for job in jobs]
        first = [] if self._used == tube else [b"use %b\r\n" % tube.encode()]
        answers = self.pipeline([*first, *commands], until_refused=True)
        if first and isinstance(answers[0], wire.Reply):
            self._used = tube
        return self._ids(answers, skip=len(first))

    def _ids(self, answers: Sequence[wire.Answer], skip: int) -> list[int]:
        replies = [each for each in answers if isinstance(each, wire.Reply)]
        if len(replies) == len(answers):
            return [each.number for each in replies[skip:]]
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
            self.pipeline([b"delete %d\r\n" % each for each in unwanted])
            raise translated(refused) from refused
        return ids
