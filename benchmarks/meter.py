"""Count the tasks done, by the size of a file to which each task appends one byte."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import NotMeasured

#: The part of all tasks that is not timed, so that start-up does not count.
FROM = 0.2


@dataclass(frozen=True)
class Sample:
    """Hold how much was done at a moment, and the CPU seconds that the worker had used."""

    at: float
    done: int
    cpu: float = 0.0


@dataclass(frozen=True)
class Pace:
    """Hold the rate and the CPU time between two samples."""

    rate: float
    cpu_us: float


def pace(samples: Sequence[Sample], total: int, start: float = FROM) -> Pace:
    """Return tasks/s, and CPU µs per task, between the first samples at ``start`` and at all.

    :raises ValueError: the samples do not reach so far, or only one does.
    """
    first = next((each for each in samples if each.done >= start * total), None)
    last = next((each for each in samples if each.done >= total), None)
    if first is None or last is None or last.done <= first.done:
        raise ValueError("too few samples")
    count = last.done - first.done
    return Pace(count / (last.at - first.at), (last.cpu - first.cpu) / count * 1e6)


class Meter:
    """Watch one file of marks.

    :param size: bytes per mark.
    """

    def __init__(self, marks: Path, size: int = 1) -> None:
        self.marks, self.size = marks, size
        marks.write_bytes(b"")

    def done(self) -> int:
        """Return how many marks there are."""
        return self.marks.stat().st_size // self.size

    def watch(
        self,
        total: int,
        *,
        alive: Callable[[], bool] = lambda: True,
        cpu: Callable[[], float] = lambda: 0.0,
        every: float = 0.001,
        patience: float = 60.0,
    ) -> list[Sample]:
        """Return samples until ``total`` are done: one per change, with a look every ``every`` s.

        CPU time is read only at the two samples that ``pace`` uses, since reading it costs time.

        :raises NotMeasured: the worker ended, or nothing was done for ``patience`` s.
        """
        samples = [Sample(time.perf_counter(), 0)]
        timed = False
        while samples[-1].done < total:
            done, now = self.done(), time.perf_counter()
            if done > samples[-1].done:
                crossed = not timed and done >= FROM * total
                timed = timed or crossed
                spent = cpu() if crossed or done >= total else 0.0
                samples.append(Sample(now, done, spent))
            elif now - samples[-1].at > patience or not alive():
                why = "nothing happened any more" if alive() else "the worker ended"
                raise NotMeasured(f"{why} at {done} of {total} tasks")
            time.sleep(every)
        return samples
