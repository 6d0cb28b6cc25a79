"""Count the calls inside Alligator of one push, and of one task in a worker's steady state.

``python -m benchmarks.paths [DSN]``: without a DSN it starts a redis server of its own.

Counted are calls of Python functions of the package, and the modules that these are in. C code
and the standard library do not count. The worker runs with a concurrency of 1.
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import alligator

_PACKAGE = str(Path(alligator.__file__).parent) + "/"

#: Tasks that a worker runs before the counting begins; that are counted; and that come after.
BEFORE, COUNTED, AFTER = 1000, 2000, 1000


class Calls:
    """Calls that one thread made while this was on, in their order.

    :param codes: of each call, the code of the function.
    """

    def __init__(self) -> None:
        self.codes: list[CodeType] = []

    def start(self) -> None:
        """Count the calls of this thread from now on."""
        sys.setprofile(self._profile)

    def stop(self) -> None:
        """Count no longer."""
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            self.codes.append(frame.f_code)

    def modules(self, tasks: int = 1) -> list[str]:
        """Return the modules on the path of a task.

        :param tasks: how many tasks ran. Modules that are entered once for many tasks, as to fetch
            a batch, are not on the path of each.
        """
        found = Counter(module_of(each) for each in self.codes)
        return [name for name, count in found.most_common() if count / tasks > 0.5]

    def on_path(self, tasks: int) -> float:
        """Return the calls that each task makes.

        :param tasks: how many tasks ran. Calls that are made once for several tasks do not count:
            a busy machine fetches fewer tasks at a time, and so has more of these calls.
        """
        found = Counter(self.codes).values()
        return sum(count for count in found if count / tasks > 0.25) / tasks


def module_of(code: CodeType) -> str:
    """Return the module of a function, without the name of the package."""
    return code.co_filename.removeprefix(_PACKAGE).removesuffix(".py").replace("/", ".")


def note(*args: Any) -> None:
    """Do nothing: the task that is pushed."""


class _Window:
    """Which tasks of a run are counted; the worker calls :func:`step` in each."""

    calls = Calls()
    count = 0


def step() -> None:
    """Start and stop the counting: the task that a worker runs."""
    _Window.count += 1
    if _Window.count == BEFORE:
        _Window.calls.start()
    elif _Window.count == BEFORE + COUNTED:
        _Window.calls.stop()


def of_push(dsn: str) -> Calls:
    """Return the calls of one ``gator.task``, after some to warm up: a client asks its server more
    with its first push, and reads a script with its second.
    """
    gator = alligator.Gator(dsn, "paths-push")
    for _ in range(3):
        gator.task(note, 1)
    calls = Calls()
    calls.start()
    gator.task(note, 1)
    calls.stop()
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return calls


def of_worker(dsn: str) -> Calls:
    """Return the calls of a worker while it ran :data:`COUNTED` tasks."""
    gator = alligator.Gator(dsn, "paths-work")
    with gator.batch() as batch:
        for _ in range(BEFORE + COUNTED + AFTER):
            batch.task(step)
    _Window.calls, _Window.count = Calls(), 0
    alligator.Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    gator.close()
    return _Window.calls


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a redis server for this alone, and yield its DSN."""
    with tempfile.TemporaryDirectory(prefix="alligator-paths-") as folder:
        place = Path(folder, "redis.sock")
        command = ["redis-server", "--port", "0", "--unixsocket", str(place), "--save", ""]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not place.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield f"redis+unix://{place}"
        finally:
            process.terminate()
            process.wait()


def _print(title: str, calls: Calls, tasks: int) -> None:
    modules = calls.modules(tasks)
    print(f"{title}: {len(calls.codes) / tasks:.1f} calls, {len(modules)} modules for each task")
    for code, count in Counter(calls.codes).most_common():
        if count / tasks >= 0.01:
            print(f"  {count / tasks:8.2f}  {module_of(code)}: {code.co_qualname}")


def main(dsn: str | None = None) -> None:
    """Print both."""
    if dsn is None:
        with redis_server() as own:
            main(own)
        return
    push = of_push(dsn)
    print(f"push: {len(push.codes)} calls in {len(push.modules())} modules")
    for number, code in enumerate(push.codes, 1):
        print(f"  {number:4}  {module_of(code)}: {code.co_qualname}")
    _print(f"a task of a worker, on average of {COUNTED}", of_worker(dsn), COUNTED)


if __name__ == "__main__":
    from benchmarks import paths  # as a module that can be imported: its functions are tasks

    paths.main(*sys.argv[1:2])
