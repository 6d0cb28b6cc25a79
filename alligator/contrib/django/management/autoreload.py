"""Start a worker again when the code of the project changes, for development.

A supervisor, which loads no code again, starts one worker process. That one watches its files with
``django.utils.autoreload``. When one changes, the worker says so to the supervisor, and stops as
on a SIGTERM: what runs is finished within the grace, or handed back. So a reload is no death of a
worker, and counts against no task. The supervisor then starts the next.

Code that cannot be loaded ends nothing: the worker process prints the error, and waits for the next
change.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from alligator.cli.start_worker import check_start
from alligator.common.log import worker_logger
from alligator.exceptions import UnsupportedOption
from alligator.workers.isolation import CAN_START_WORKERS, start_worker
from alligator.workers.signals import StopSignals, unblock
from alligator.workers.supervisor import Supervisor, stop_when_abandoned

_MODULE = "alligator.contrib.django.management.autoreload"
_INSTALLED = {"site-packages", "dist-packages"}


def supervise(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Keep one worker process of the current code until told to stop; return its exit code.

    :param argv: the arguments of ``python -m alligator`` for the worker. With ``--queues-of=ALIAS``
        instead of ``--queue``, each worker process reads from the settings what it serves.
    :raises AlligatorException: the worker could not start.
    """
    if not CAN_START_WORKERS:
        raise UnsupportedOption(
            "--autoreload needs a system on which processes inherit descriptors; leave it out "
            "here, and start the worker again by hand."
        )
    signals = StopSignals()
    with signals.around(to_the_end=False):
        check_start(arguments)
        changed, noting = os.pipe()
        os.set_blocking(changed, False)
        try:
            supervisor = Supervisor(
                argv,
                1,
                grace=arguments.grace,
                log=worker_logger(arguments.log_level),
                replace_finished=False,
                signals=signals,
                start=partial(_start, noting),
                was_to_restart=partial(_has_noted, changed),
            )
            return supervisor.run()
        finally:
            os.close(changed)
            os.close(noting)


def _start(noting: int, argv: Sequence[str], pass_fds: Sequence[int]) -> "subprocess.Popen[bytes]":
    return start_worker([f"--noting={noting}", *argv], [noting, *pass_fds], module=_MODULE)


def _has_noted(changed: int) -> bool:
    """Return whether a worker has noted a change since the last call."""
    with contextlib.suppress(BlockingIOError):
        return bool(os.read(changed, 4096))
    return False


# -- In the worker process. ---------------------------------------------------------------------


def run(argv: Sequence[str]) -> int:
    """Run a worker until a file changes, or it ends by itself; return its exit code.

    :param argv: ``--noting`` and ``--leash``, descriptors of the supervisor, and perhaps
        ``--queues-of``; then the arguments of ``python -m alligator``.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--noting", type=int, required=True)
    parser.add_argument("--leash", type=int, required=True)
    parser.add_argument("--queues-of", metavar="ALIAS")
    own, rest = parser.parse_known_args(argv)
    stop_when_abandoned(own.leash)
    is_told = threading.Event()

    def on_change(path: Path) -> None:
        print(f"{path} has changed; reloading.", flush=True)
        os.write(own.noting, b"1")
        is_told.set()
        os.kill(os.getpid(), signal.SIGTERM)

    unblock()
    since = time.time()
    try:
        _load()
        if own.queues_of is not None:
            rest += [f"--queue={name}" for name in _served_queues(own.queues_of)]
    except Exception as err:
        traceback.print_exc()
        _wait_for_change(on_change, since, files_of(err))
        return 2
    threading.Thread(
        target=watch, args=[on_change, since], name="alligator-autoreload", daemon=True
    ).start()
    from alligator.cli import main

    code = main(rest)
    if code == 2 and not is_told.is_set():  # it could not start
        _wait_for_change(on_change, since)
    return code


def _load() -> None:
    """Set Django up, and check the project.

    :raises Exception: its code cannot be loaded, or is in error.
    """
    import django

    django.setup()
    from django.core.management.base import BaseCommand

    BaseCommand(stdout=sys.stdout, stderr=sys.stderr).check()


def _served_queues(alias: str) -> list[str]:
    from alligator.contrib.django.management.served_queues import served_queues

    return served_queues(alias)  # imported once Django is set up


def files_of(error: BaseException) -> set[Path]:
    """Return the files that have to do with an error, such as modules that failed to import.

    Such a module is not among ``sys.modules``, which Django's reloader watches.
    """
    names = set[str | None]()
    errors, seen = [error], set[int]()
    while errors:
        each = errors.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        names |= {frame.filename for frame in traceback.extract_tb(each.__traceback__)}
        if isinstance(each, SyntaxError):
            names.add(each.filename)
        if isinstance(each, ImportError):
            names.add(each.path)
        errors += filter(None, (each.__cause__, each.__context__))
    return {Path(name).absolute() for name in names if name and Path(name).is_file()}


def _wait_for_change(
    on_change: Callable[[Path], None], since: float, files: Iterable[Path] = ()
) -> None:
    print("The worker cannot start; it waits for a file to change.", file=sys.stderr, flush=True)
    watch(on_change, since, files, in_error=True)


def watch(
    on_change: Callable[[Path], None],
    since: float,
    files: Iterable[Path] = (),
    *,
    in_error: bool = False,
) -> None:
    """Watch the files of the project, and return after a change.

    Watched are what Django's own server watches, and all Python files of the applications of the
    project: a module of tasks is imported only with the first task.

    :param on_change: called with the path of the file.
    :param since: when the process began to load code, a Unix timestamp.
    :param files: to be watched, too.
    :param in_error: the code cannot be loaded. What is near the working directory, where
        ``manage.py`` is, is watched, too: the change may come in a file that nothing imported.
    """
    from django.utils import autoreload

    reloader = autoreload.get_reloader()
    reloader.extra_files.update(files)
    for directory, pattern in _own_files(in_error):
        reloader.watch_dir(directory, pattern)
    # A receiver that needs settings which are in error is no reason to watch nothing.
    autoreload.autoreload_started.send_robust(sender=reloader)
    reloader.notify_file_changed = partial(_notify, reloader, on_change)
    ticker = reloader.tick()
    with contextlib.suppress(_Changed):
        next(ticker)  # notes how the files are
        for path in reloader.watched_files():
            if since < _changed_at(path) <= time.time():
                reloader.notify_file_changed(path)  # after its code was loaded, perhaps
        for _ in ticker:
            pass


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


class _Changed(BaseException):
    """Ends the loop of a reloader."""


def _notify(reloader: Any, on_change: Callable[[Path], None], path: Path) -> None:
    from django.utils import autoreload

    answers = autoreload.file_changed.send(sender=reloader, file_path=path)
    if not any(answer for _, answer in answers):  # else a receiver has seen to it, as for templates
        on_change(path)
        raise _Changed


def _own_files(in_error: bool) -> Iterator[tuple[Path, str]]:
    """Yield directories and patterns: of the applications that are not installed as packages.

    While settings or an application cannot be loaded, these are not known.
    """
    from django.apps import apps

    if in_error:
        for pattern in ("*.py", "*/*.py", "*/*/*.py"):
            yield Path.cwd(), pattern
    if not apps.apps_ready:
        return
    for config in apps.get_app_configs():
        path = Path(config.path).resolve()
        if _INSTALLED.isdisjoint(path.parts):
            yield path, "**/*.py"


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
