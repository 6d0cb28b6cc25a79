"""The helper process, which extends a worker's leases while no Python can run in the worker.

C code that holds the interpreter's lock stops every thread, also the one that extends leases. So
the worker writes to shared memory which deliveries it has, and at each turn of that thread the
time. The helper process reads it. When that time stands still though the worker lives, it

* hands back what has not started, after :data:`TAKE_BACK` seconds, for other workers to run;
* extends what runs, after a third of a lease and every third again.

It does nothing for a worker that was stopped (SIGSTOP). The worker starts no task that was handed
back: after a standstill it looks at the memory before it starts anything.

The worker starts the helper by its path. It imports only the standard library until it has to act,
so that it takes little memory: 8 MB, not 30. It ends with its parent.
"""

import contextlib
import json
import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

try:
    import fcntl
except ImportError:  # Windows, where no such process can inherit the memory
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import subprocess

    from alligator.backends.base import Client, Delivery

#: Seconds of standstill after which tasks that have not started are handed back.
TAKE_BACK = 1.0

#: Seconds: a shorter lease leaves too little time to import a driver once it is needed. The helper
#: then imports it when the worker has lived for the second number.
_SHORT = 10.0
_SETTLED = 5.0

#: Seconds between two looks, at most.
_PAUSE = 0.25

_SIZE = 1 << 20
_ENTRIES = 1 << 14  # where they begin
_HEAD = struct.Struct("=dIII")  # time, deliveries started, all deliveries, end
_STARTED = struct.Struct("=I")
_TAKEN_BACK = struct.Struct("<d")  # the time at which the worker stood still; by the helper
_AT_STARTED, _AT_TAKEN_BACK, _AT_SETUP = 8, 24, 32
_GROUP = struct.Struct("<HI")  # the size of a queue's name, and how many receipts follow

#: Seconds after a beat in which the worker need not look: the helper waits twice as long.
_FRESH = TAKE_BACK / 2

#: Memory of boards whose descriptors a task has closed.
_kept: list[mmap.mmap] = []

_PACKAGE = Path(__file__).resolve().parent.parent

#: The name of a queue, and receipts of tasks on it.
Group = tuple[bytes, Sequence[bytes]]


def _packed(name: bytes, receipts: Sequence[bytes]) -> bytes:
    sizes = struct.pack(f"<{len(receipts)}I", *map(len, receipts))
    return b"".join([_GROUP.pack(len(name), len(receipts)), sizes, name, *receipts])


class Board:
    """The shared memory: the deliveries of a worker, in the order in which it starts them.

    :param descriptor: of a file that :meth:`make` made.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._file = _file_of(descriptor)
        self._was_closed = False
        self._memory = mmap.mmap(descriptor, _SIZE)
        #: How many deliveries have started. To set this item takes a third of the time of packing.
        self.started = memoryview(self._memory)[_AT_STARTED : _AT_STARTED + 4].cast("I")

    @classmethod
    def make(cls, setup: Any) -> "Board":
        """Return new memory; ``setup`` is JSON for the helper."""
        import tempfile  # as subprocess below

        descriptor, path = tempfile.mkstemp(prefix="alligator-")
        Path(path).unlink()
        os.ftruncate(descriptor, _SIZE)
        board = cls(descriptor)
        raw = json.dumps(setup).encode()
        if len(raw) + _AT_SETUP + 4 > _ENTRIES:
            raise ValueError("The DSN is too long for the shared memory.")
        board._memory[_AT_SETUP + 4 : _AT_SETUP + 4 + len(raw)] = raw
        _STARTED.pack_into(board._memory, _AT_SETUP, len(raw))
        _HEAD.pack_into(board._memory, 0, time.monotonic(), 0, 0, _ENTRIES)
        return board

    def setup(self) -> Any:
        """Return what :meth:`make` was given."""
        (size,) = _STARTED.unpack_from(self._memory, _AT_SETUP)
        return json.loads(self._memory[_AT_SETUP + 4 : _AT_SETUP + 4 + size])

    # -- For the worker, which writes all but the time of a take-back. ------------------------

    def write(self, started: int, groups: Iterable["Group"]) -> bool:
        """Write all deliveries again; return False if there was not room for all."""
        raw, count = b"", 0
        fits = True
        for name, receipts in groups:
            more = _packed(name, receipts)
            while fits and _ENTRIES + len(raw) + len(more) > _SIZE:
                fits, receipts = False, receipts[: len(receipts) // 4]
                more = _packed(name, receipts)
            raw, count = raw + more, count + len(receipts)
            if not fits:
                break
        # No deliveries while they are written: the helper may look at any moment. The time stays,
        # since the worker may have stood still since then.
        noted_at = self.noted_at
        _HEAD.pack_into(self._memory, 0, noted_at, 0, 0, _ENTRIES)
        self._memory[_ENTRIES : _ENTRIES + len(raw)] = raw
        end = _ENTRIES + len(raw)
        _HEAD.pack_into(self._memory, 0, noted_at, min(started, count), count, end)
        return fits

    def append(self, groups: Iterable["Group"]) -> bool:
        """Add deliveries that have not started; return False if there is no room."""
        noted_at, started, count, end = _HEAD.unpack_from(self._memory)
        for name, receipts in groups:
            raw = _packed(name, receipts)
            if end + len(raw) > _SIZE:
                return False
            self._memory[end : end + len(raw)] = raw
            end, count = end + len(raw), count + len(receipts)
        _HEAD.pack_into(self._memory, 0, noted_at, started, count, end)
        return True

    def beat(self, now: float) -> None:
        """Write the time (monotonic)."""
        _TAKEN_BACK.pack_into(self._memory, 0, now)

    # -- For the helper. ----------------------------------------------------------------------

    def read(self) -> tuple[float, list[tuple[str, bytes]], list[tuple[str, bytes]]]:
        """Return the last time, what has started (it may have ended), and what has not."""
        now, started, _, end = _HEAD.unpack_from(self._memory)
        found, at = list[tuple[str, bytes]](), _ENTRIES
        while at < end:
            name_size, count = _GROUP.unpack_from(self._memory, at)
            at += _GROUP.size
            sizes = struct.unpack_from(f"<{count}I", self._memory, at)
            at += 4 * count
            name = self._memory[at : at + name_size].decode()
            at += name_size
            for size in sizes:
                found.append((name, self._memory[at : at + size]))
                at += size
        return now, found[:started], found[started:]

    @property
    def noted_at(self) -> float:
        """The time that the worker wrote last (monotonic)."""
        return float(_TAKEN_BACK.unpack_from(self._memory, 0)[0])

    @property
    def taken_back_at(self) -> float:
        """The time at which the worker stood still when something was handed back; 0: never."""
        return float(_TAKEN_BACK.unpack_from(self._memory, _AT_TAKEN_BACK)[0])

    @taken_back_at.setter
    def taken_back_at(self, moment: float) -> None:
        _TAKEN_BACK.pack_into(self._memory, _AT_TAKEN_BACK, moment)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude the other process, in the block, from its own ``locked`` blocks."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the memory and the file."""
        self.started.release()
        if self.is_open and not self._was_closed:
            self._memory.close()
        else:  # it would close a number of its own, which may lead to a file of other code
            _kept.append(self._memory)
        if self.is_open:
            os.close(self.descriptor)

    @property
    def is_open(self) -> bool:
        """Whether the descriptor still leads to the file: a task may have closed it."""
        return self._file is not None and _file_of(self.descriptor) == self._file

    def open_again(self, path: str) -> None:
        """Take another descriptor, instead of the one that a task has closed.

        :param path: leads to the file.
        :raises OSError: it does not.
        """
        self._was_closed = True
        from alligator.common.descriptors import moved_up  # the helper imports no such file

        opened = moved_up(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        if _file_of(opened) != self._file:
            os.close(opened)
            raise OSError(f"{path} is another file.")
        self.descriptor = opened


def _file_of(descriptor: int) -> tuple[int, int] | None:
    # As common.descriptors.identity(): the helper process imports no other file of Alligator yet.
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def environment() -> dict[str, str]:
    """Return the environment for a child process that is to find Alligator on its path."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(_PACKAGE.parent)])}


class LeaseProcess:
    """The helper process, as its worker sees it.

    :param lease: seconds of the worker's leases.
    """

    def __init__(self, client: "Client", lease: float) -> None:
        self._client, self._lease = client, lease
        self._started = 0
        self._is_full = False
        #: When to look whether the helper has handed tasks back (monotonic); not before.
        self.stale_at = 0.0
        self._board: Board | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._number = -1  # of the board, in the process
        self._opening = threading.Lock()

    def start(self) -> bool:
        """Start the process; return False if it is of no use here, or cannot be started."""
        if fcntl is None or not self._client.shares_leases:
            return False
        setup = {"dsn": self._client.conn_string, "lease": self._lease, "pid": os.getpid()}
        try:
            self._board = Board.make(setup)
            self.beat()
            self._spawn()
        except (OSError, ValueError):
            self.stop()
            return False
        return True

    def _spawn(self) -> None:
        import subprocess  # it would slow ``import alligator`` down

        assert self._board is not None
        self._number = self._board.descriptor
        self._process = subprocess.Popen(  # noqa: S603 - our own program and arguments
            # By its path: by its name it would import the whole package first.
            [sys.executable, "-P", __file__, str(self._board.descriptor)],
            env=environment(),
            pass_fds=[self._board.descriptor],
            start_new_session=True,  # signals that stop the worker are not for this one
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        board, self._board = self._board, None
        if board is not None:
            board.close()

    def beat(self) -> None:
        """Show the helper that Python runs here."""
        now = time.monotonic()
        self.stale_at = now + _FRESH
        if self._board is not None:
            self._board.beat(now)

    def restart_if_ended(self) -> None:
        """Start another process if it has ended."""
        with self._opening:
            self._open_again()
        if self._process is not None and self._process.poll() is not None:
            self._spawn()

    def was_taken_back(self) -> bool:
        """After a standstill, return whether the helper handed back what had not started.

        If so, :meth:`rewrite` without these. From now on it hands nothing back.
        """
        with self._opening:
            self._open_again()
        board = self._board
        if board is None:
            return False
        with board.locked():
            taken = board.taken_back_at > 0.0
            board.taken_back_at = 0.0
            self.beat()
        return taken

    def _open_again(self) -> None:
        """Give the board another descriptor if a task has closed its own."""
        board = self._board
        if board is None or board.is_open:
            return
        try:
            # The helper has the file open. Its memory here stays as it is.
            pid = 0 if self._process is None else self._process.pid
            board.open_again(f"/proc/{pid}/fd/{self._number}")
        except OSError:  # go on without the helper
            self.stop()

    def hold(self, deliveries: Sequence["Delivery"]) -> bool:
        """Add reserved deliveries behind the waiting ones; False: :meth:`rewrite` all."""
        if self._board is None:
            return True
        return not self._is_full and self._board.append(self._groups(deliveries))

    def started(self) -> None:
        """Count the next of the waiting deliveries as started."""
        if self._board is not None:
            self._started += 1
            self._board.started[0] = self._started

    def rewrite(self, started: Sequence["Delivery"], waiting: Sequence["Delivery"]) -> None:
        """Write all deliveries again."""
        if self._board is not None:
            self._started = len(started)
            groups = self._groups([*started, *waiting])
            self._is_full = not self._board.write(self._started, groups)

    def _groups(self, deliveries: Sequence["Delivery"]) -> Iterator[Group]:
        for name, group in groupby(deliveries, attrgetter("queue_name")):
            yield name.encode(), self._client.share(list(group))


# -- In the helper process. -------------------------------------------------------------------


class Watcher:
    """Extends and hands back what the board of a worker names, when the worker cannot.

    :param lives: returns whether the worker has neither ended nor been stopped.
    :param connect: returns a client for the worker's queues.
    """

    def __init__(
        self,
        board: Board,
        lease: float,
        lives: Callable[[], bool],
        connect: Callable[[], "Client"],
    ) -> None:
        self.board, self.lease, self.lives, self.connect = board, lease, lives, connect
        self.client: Client | None = None
        self._extend_at = 0.0

    def look(self, now: float) -> None:
        """Look once.

        :param now: monotonic.
        """
        stands = now - self.board.noted_at
        if stands < min(TAKE_BACK, self.lease / 3) or not self.lives():
            self._extend_at = 0.0
            return
        self.client = client = self.client or self.connect()
        if stands >= self.lease / 3 and now >= self._extend_at:
            _, started, waiting = self.board.read()
            chosen = started if self.board.taken_back_at else started + waiting
            if chosen:
                client.extend([client.shared(*each) for each in chosen], self.lease)
            self._extend_at = now + self.lease / 3
        if stands >= TAKE_BACK:
            self._take_back(client)

    def _take_back(self, client: "Client") -> None:
        with self.board.locked():
            noted_at, _, waiting = self.board.read()
            if self.board.taken_back_at or time.monotonic() - noted_at < TAKE_BACK:
                return
            if waiting:
                self.board.taken_back_at = noted_at  # first: the worker must not start them
                for each in reversed(waiting):
                    client.release(client.shared(*each))


def _runs(pid: int) -> bool:
    """Return whether a process is neither stopped nor a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "TtZX"
    except (OSError, IndexError):
        pass
    import subprocess

    asked = ["ps", "-o", "state=", "-p", str(pid)]
    try:
        said = subprocess.run(asked, capture_output=True, check=False, text=True)  # noqa: S603
    except OSError:
        return False
    return said.stdout.strip()[:1] not in ("T", "Z", "")


def connect(dsn: str) -> "Client":
    """Return a client, importing no more of Alligator than its backend."""
    if "alligator" not in sys.modules:  # a bare package: the real one imports all
        package = ModuleType("alligator")
        package.__path__ = [str(_PACKAGE)]
        sys.modules["alligator"] = package
    from alligator.backends import client_class

    client: Client = client_class(dsn)(dsn)
    return client


def main(descriptor: int) -> None:
    """Look again and again, until the parent is gone."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # the worker may take long to stop
    board = Board(descriptor)
    setup = board.setup()
    pid, lease = setup["pid"], setup["lease"]

    watcher = Watcher(board, lease, lambda: _runs(pid), lambda: connect(setup["dsn"]))
    began = time.monotonic()
    while os.getppid() == pid:
        now = time.monotonic()
        with contextlib.suppress(Exception):  # such as an outage: the next turn tries again
            watcher.look(now)
            if lease < _SHORT and now - began > _SETTLED:
                watcher.client = watcher.client or connect(setup["dsn"])
        time.sleep(min(_PAUSE, lease / 10))


if __name__ == "__main__":
    main(int(sys.argv[1]))
