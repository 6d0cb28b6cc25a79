"""Parse the command line of ``latergator.py``, and carry out its commands."""

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from alligator.cli import (
    completion,
    doctor,
    health,
    listing,
    move,
    pause_and_cancel,
    revive_drop_backup,
)
from alligator.cli.parser import COMMANDS, queue_parser, worker_parser
from alligator.cli.source import check_exists, gator_of, with_source, without_dsn
from alligator.cli.start_dashboard import dashboard
from alligator.cli.start_worker import work
from alligator.common.importing import NO_DIRECTORY, current_directory
from alligator.common.text import shorten
from alligator.exceptions import AlligatorException, InvalidTask
from alligator.gator import Gator
from alligator.workers.signals import unblock

__all__ = ["main", "queue_parser", "worker_parser"]

_COMMANDS: dict[str, Callable[[Gator, argparse.Namespace], int]] = {
    "status": listing.status,
    "running": listing.running,
    "workers": listing.workers,
    "tasks": listing.tasks,
    "recent": listing.recent,
    "history": listing.history,
    "dead": listing.dead,
    "explain": listing.explain,
    "schedule": listing.schedule,
    "revive": revive_drop_backup.revive,
    "pause": pause_and_cancel.pause,
    "resume": pause_and_cancel.resume,
    "cancel": pause_and_cancel.cancel,
    "drop": revive_drop_backup.drop,
    "backup": revive_drop_backup.backup,
    "move": move.move,
    "doctor": doctor.doctor,
    "health": health.health,
}

_WORD = re.compile(r"[a-z]{1,20}")

#: The exit code of a program that Ctrl-C ended, as shells have it.
_INTERRUPTED = 130

#: The commands that look at no queue.
_WITHOUT_QUEUE = frozenset({"schedule"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: a worker did not stop gracefully, a question was answered with no, there was no
    task with the ids given, or as the help of the command says. 2: it cannot be done, for the
    reason on standard error. 130: a command was ended by Ctrl-C.

    :param argv: the arguments; None: those of the process, which should end afterwards.
    """
    is_program = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    here = current_directory()
    if not here:
        print(f"latergator.py: {NO_DIRECTORY}", file=sys.stderr)
        return 2
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        if argv and argv[0] in COMMANDS:
            if is_program:
                unblock()
            _print_anything()
            return _carry_out(argv[0], argv[1:])
        if argv and _WORD.fullmatch(argv[0]):
            raise InvalidTask(_no_command(argv[0]))
        parser = worker_parser()
        arguments = with_source(parser, parser.parse_args(argv))
        return work(arguments, argv, is_program=is_program)
    except (AlligatorException, NotImplementedError) as err:
        print(f"latergator.py: {shorten(str(err), 1000)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # of a command; a worker handles it
        return _INTERRUPTED
    except BrokenPipeError:  # nothing reads our output any more
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the flush at exit
        return 0


def _no_command(word: str) -> str:
    near = get_close_matches(word, COMMANDS, 1, 0.6)
    hint = f"did you mean {near[0]!r}?" if near else "--help lists the commands."
    return f"{word!r} is no command, nor a DSN such as redis://localhost:6379/0; {hint}"


def _carry_out(command: str, argv: Sequence[str]) -> int:
    parser = queue_parser(command)
    arguments = parser.parse_intermixed_args(argv)
    if command == "completion":
        print(completion.script(arguments.shell), end="")
        return 0
    if command == "dashboard":
        return dashboard(arguments)
    arguments = without_dsn(arguments)
    gator = gator_of(with_source(parser, arguments))
    if command not in _WITHOUT_QUEUE:
        check_exists(gator)
    return _COMMANDS[command](gator, arguments)


def _print_anything() -> None:
    """Write characters that standard output cannot encode with backslashes."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
