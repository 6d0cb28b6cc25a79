"""Define the command line of ``latergator.py``: its commands, their flags and their help."""

import argparse
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from alligator.workers.isolation import Given

#: How standard output of every command ends: with one of these exit codes.
EXIT_CODES = """\
Exit codes: 0, done; 1, no, or not all of it (each command says what that means); 2, it cannot be
done, for the reason on standard error."""

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMATS = ("text", "json")

#: What ``tasks --state`` takes.
STATES = ("waiting", "delayed", "running", "held", "dead")

#: What ``recent --state`` takes.
ENDS = ("success", "failed", "retrying", "canceled")

SHELLS = ("bash", "zsh", "fish")


class CommandHelp(NamedTuple):
    """What the help says of a command."""

    usage: str  # after the name of the program
    summary: str  # one line
    description: str  # whole sentences
    examples: tuple[str, ...]  # after the name of the program


COMMANDS: dict[str, CommandHelp] = {
    "status": CommandHelp(
        "status DSN [--queue NAME] [--watch]",
        "how full the queues are, and who serves them",
        "Show how many tasks are in which state on each queue, and how many workers serve it. "
        "Without --queue, all queues are shown. A warning names each queue with waiting tasks "
        "that no worker serves. With --watch, the table is shown again every two seconds, with "
        "the tasks that came in and went out per minute.",
        (
            "status redis://localhost:6379/0",
            "status redis://localhost:6379/0 --watch",
            "status redis://localhost:6379/0 --queue images --json",
        ),
    ),
    "running": CommandHelp(
        "running DSN",
        "what runs now, since when, and on which worker",
        "List the tasks that run now: since when, on which worker, how long their lease lasts, "
        "and what progress they reported.",
        ("running redis://localhost:6379/0",),
    ),
    "workers": CommandHelp(
        "workers DSN",
        "the workers, what they have done, and what they do now",
        "List the workers that live, or that were lost in the last hour.",
        ("workers redis://localhost:6379/0 --json",),
    ),
    "tasks": CommandHelp(
        "tasks DSN [--state STATE]",
        "the tasks on a queue, with function and arguments",
        "List the tasks of one queue in one state, in the order in which they would run, without "
        "touching them. Where there are more, the last line says how to see the next ones.",
        (
            "tasks redis://localhost:6379/0 --state delayed --limit 20",
            "tasks redis://localhost:6379/0 --queue images --json",
        ),
    ),
    "recent": CommandHelp(
        "recent DSN",
        "the tasks that ended lately",
        "List the tasks that ended lately, the newest first. Every failure is among them; of more "
        "than 50 successes a second, only some are.",
        ("recent redis://localhost:6379/0 --state failed --function myapp.tasks.resize",),
    ),
    "history": CommandHelp(
        "history DSN ID",
        "each attempt at a task that saves its history",
        "Show each attempt at a task: when, where, how it ended, and its traceback. The task must "
        "have been pushed with the option history or save_results. Exit code 1: nothing is known "
        "of it.",
        ("history redis://localhost:6379/0 0192d1f3-8c1e-7000-a1b2-c3d4e5f60718",),
    ),
    "explain": CommandHelp(
        "explain DSN ID",
        "why a task has not run",
        "Explain why a task has not run, or how it ended. Exit code 1: nothing is known of it.",
        ("explain redis://localhost:6379/0 0192d1f3-8c1e-7000-a1b2-c3d4e5f60718",),
    ),
    "dead": CommandHelp(
        "dead DSN [--queue NAME]",
        "the dead letters: tasks that failed and have no retry left",
        "List the dead letters, newest first; or show one of them. Exit code 1: there "
        "is no dead task with the id given.",
        (
            "dead redis://localhost:6379/0",
            "dead redis://localhost:6379/0 --show 0192d1f3-8c1e-7000-a1b2-c3d4e5f60718",
            "dead redis://localhost:6379/0 --purge 2592000",
        ),
    ),
    "revive": CommandHelp(
        "revive DSN [ID ...]",
        "run dead tasks again (no ID: all)",
        "Put dead tasks back on their queue. Exit code 1: none of the ids given is dead.",
        ("revive redis://localhost:6379/0", "revive redis://localhost:6379/0 ID --retries 5"),
    ),
    "pause": CommandHelp(
        "pause DSN [--queue NAME]",
        "let no further task of a queue start",
        "Pause a queue: workers start no task of it within a second. Running tasks finish; "
        "pushes, delays and schedules go on.",
        ("pause redis://localhost:6379/0 --queue images --seconds 600",),
    ),
    "resume": CommandHelp(
        "resume DSN [--queue NAME]",
        "end the pause of a queue",
        "End the pause of a queue. Exit code 1: it was not paused.",
        ("resume redis://localhost:6379/0 --queue images",),
    ),
    "cancel": CommandHelp(
        "cancel DSN ID",
        "take a task off its queue before it runs",
        "Cancel a task that waits, is delayed or is held. With --running also one that runs: its "
        "worker notices within a second. Exit code 1: there is no such task.",
        ("cancel redis://localhost:6379/0 ID", "cancel redis://localhost:6379/0 ID --running"),
    ),
    "move": CommandHelp(
        "move SOURCE TARGET",
        "move all waiting and delayed tasks to another backend",
        "Move every waiting and delayed task of a queue to the queue of the same name elsewhere, "
        "with its id, delay and priority. Running tasks, dead letters, results and tasks that are "
        "held back until others are done stay. You may interrupt the command and repeat it: "
        "nothing is lost. A move that was killed may have doubled some tasks, which is then said. "
        "Exit code 1: some tasks are still at the source.",
        (
            "move sqlite:///var/lib/app/queue.db redis://localhost:6379/0",
            "move beanstalk://localhost:11300/ redis://localhost:6379/0 --queue all --queue mail",
        ),
    ),
    "drop": CommandHelp(
        "drop DSN [--queue NAME]",
        "delete everything on a queue",
        "Delete everything on a queue: waiting, delayed, running and dead. It counts what would "
        "go, and asks first. Exit code 1: the answer was no.",
        ("drop redis://localhost:6379/0 --queue images",),
    ),
    "backup": CommandHelp(
        "backup DSN TARGET",
        "copy a SQLite file that is in use",
        "Copy a SQLite file that is in use, as it is at one moment.",
        ("backup sqlite:///var/lib/app/queue.db /backup/queue.db",),
    ),
    "schedule": CommandHelp(
        "schedule --app MODULE:GATOR",
        "what its schedules will queue next",
        "Show what the schedules of a Gator will queue next, and when.",
        ("schedule --app myapp.gator:gator --next 20",),
    ),
    "doctor": CommandHelp(
        "doctor DSN",
        "what is wrong with the server or file, and what to change",
        "Connect, and look at the versions, persistence, eviction, clock, permissions and tables. "
        "Say what should be changed. Exit code 1: something must be changed, as tasks may get "
        "lost or cannot run; 2: the server cannot be reached.",
        ("doctor redis://localhost:6379/0", "doctor sqs://eu-west-1/ --queue all"),
    ),
    "health": CommandHelp(
        "health DSN",
        "whether a worker of this host lives, for containers",
        "End with exit code 0 if a worker of this host was seen lately, else with 1. It reads the "
        "heartbeats in the store. If the store cannot be reached, that is not known, and the exit "
        "code is 1, or 0 with --or-unknown.",
        ("health redis://localhost:6379/0", "health --app myapp.gator:gator --or-unknown"),
    ),
    "dashboard": CommandHelp(
        "dashboard DSN [DSN ...]",
        "see and steer the queues in a browser",
        "Serve the dashboard, until Ctrl-C or SIGTERM ends it. It only shows, and only to this "
        "machine, unless you say otherwise. Several DSNs are shown beside each other; write "
        "NAME=DSN to name one. If the environment variable ALLIGATOR_DASHBOARD_AUTH is "
        "name:password, browsers ask for that. It needs the extra: pip install "
        "'alligator[dashboard]'.",
        (
            "dashboard redis://localhost:6379/0",
            "dashboard --app myapp.gator:gator --allow-actions",
            "dashboard mail=redis://localhost:6379/0 images=sqlite:///var/lib/app/queue.db",
            "dashboard redis://localhost:6379/0 --host 0.0.0.0 --port 8080",
        ),
    ),
    "completion": CommandHelp(
        "completion SHELL",
        "a script by which a shell completes commands and flags",
        "Print a script for bash, zsh or fish; load it from the start-up file of your shell.",
        ("completion bash > ~/.local/share/bash-completion/completions/latergator.py",),
    ),
}


class Parser(argparse.ArgumentParser):
    """Parse, and report an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line, without the whole usage, and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def _epilog() -> str:
    width = max(len(about.usage) for about in COMMANDS.values()) + 2
    lines = [f"  %(prog)s {each.usage:<{width}}{each.summary}" for each in COMMANDS.values()]
    return (
        "Examples of workers:\n"
        "  %(prog)s redis://localhost:6379/0 --concurrency 8\n"
        "  %(prog)s --app myapp.gator:gator --processes 4 --max-tasks 10000\n\n"
        "%(prog)s reads secret keys for signed tasks from ALLIGATOR_SECRET_KEYS.\n\n"
        "Looking after queues (COMMAND --help tells more):\n" + "\n".join(lines) + "\n\n"
        "Exit codes of a worker: 0, it ended as it was told; 1, it did not end gracefully; 2, it\n"
        "could not start, for the reason on standard error.\n"
    )


def worker_parser() -> argparse.ArgumentParser:
    """Return the parser of ``latergator.py DSN``."""
    parser = Parser(
        prog="latergator.py",
        description="Run a worker that consumes an Alligator queue.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source(parser)
    add_worker_flags(parser)
    _add_version(parser)
    parser.add_argument("--leash", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--isolated", type=_descriptors, help=argparse.SUPPRESS)
    return parser


def add_worker_flags(parser: argparse.ArgumentParser, grace: float | None = 30.0) -> None:
    """Add the flags that say how a worker works; not the ones that name its queue.

    :param grace: the default of ``--grace``.
    """
    add = parser.add_argument
    add("--max-tasks", type=_number(int, 0), default=0, metavar="N", help="stop after N tasks")
    add("--nap", type=_number(float, 0), metavar="SECONDS", help="between looks at an empty queue")
    add("--burst", action="store_true", help="stop when the queue is empty")
    add("--concurrency", type=_number(int, 1), metavar="N", help="tasks at a time, in threads")
    add("--processes", type=_number(int, 1), metavar="N", help="worker processes, supervised")
    add("--lease", type=_number(float, 0.1), metavar="SECONDS", help="until a dead worker's task")
    add("--prefetch", type=_prefetch, metavar="N", help="tasks reserved at once, or 'auto'")
    add("--grace", type=_number(float, 0), default=grace, metavar="SECONDS", help="to finish in")
    add("--log-level", type=str.upper, choices=LOG_LEVELS, default="INFO")
    add("--log-format", choices=LOG_FORMATS, default="text", help="text, or a JSON object a line")
    add("--hide-results", action="store_true", help="do not log what tasks return")
    add(
        "--allow",
        action="append",
        metavar="NAME",
        help="run only this function, or these: myapp.tasks.*; may be repeated",
    )
    add("--worker", metavar="MODULE:CLASS", help="a Worker class of your own")
    add(
        "--metrics-port",
        type=_port,
        metavar="PORT",
        help="serve metrics for Prometheus here; 0: any free port",
    )
    add("--metrics-host", metavar="HOST", help="where: 127.0.0.1, not given; 0.0.0.0: everywhere")


def worker_flags(given: Mapping[str, Any]) -> list[str]:
    """Return the command line that says of a worker what a parser has read, defaults left out.

    :param given: values by the names that :func:`add_worker_flags` gives them.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_worker_flags(parser)
    found = []
    for action in parser._actions:
        flag, value = action.option_strings[0], given.get(action.dest)
        if value is None or value == action.default:
            continue
        if action.nargs == 0:
            found.append(flag)
        else:
            found += [f"{flag}={each}" for each in (value if type(value) is list else [value])]
    return found


def queue_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of ``latergator.py status DSN``, and of the other commands."""
    about = COMMANDS[command]
    examples = "\n".join(f"  latergator.py {each}" for each in about.examples)
    parser = Parser(
        prog=f"latergator.py {command}",
        description=about.description,
        epilog=f"Examples:\n{examples}\n\n{EXIT_CODES}\n",
        formatter_class=_Sentences,
    )
    _add_version(parser)
    if command == "completion":
        parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
        return parser
    if command == "dashboard":
        _dashboard(parser)
        return parser
    _add_source(parser)
    if command in _FLAGS:
        _FLAGS[command](parser)
    if command in LISTINGS:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document instead of a table"
        )
    return parser


class _Sentences(argparse.RawDescriptionHelpFormatter):
    """Wrap the description, and leave the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("Examples:"):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


#: The commands that take ``--json``.
LISTINGS = frozenset(
    {
        *("status", "running", "workers", "tasks", "recent", "history"),
        *("explain", "dead", "schedule", "doctor"),
    }
)


def _dead(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        type=_number(int, 1),
        default=100,
        metavar="N",
        help="list the newest so many of all these queues",
    )
    parser.add_argument(
        "--purge",
        type=_number(float, 0),
        metavar="SECONDS",
        help="delete the dead letters that are older than this",
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--show", metavar="ID", help="its error, traceback and data")
    one.add_argument("--pytest", metavar="ID", help="a test that fails as it did")


def _revive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="task ids; none: all")
    parser.add_argument(
        "--retries",
        type=_number(int, 0),
        metavar="N",
        help="further tries after the first; not given: as it was pushed",
    )


def _id(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="of the task")


def _schedule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--next",
        type=_number(int, 1),
        default=10,
        metavar="N",
        help="so many, and at least the next of each schedule",
    )


def _backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="TARGET", help="a file that is not there")


def _move(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="TARGET", help="the DSN of another backend")


def _drop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask; needed without a terminal")


def _cancel(parser: argparse.ArgumentParser) -> None:
    _id(parser)
    parser.add_argument("--running", action="store_true", help="also if it runs already")


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="show it again and again; Ctrl-C ends")
    parser.add_argument(
        "--every",
        type=_number(float, 0.1),
        default=2.0,
        metavar="SECONDS",
        help="how often --watch looks",
    )


def _tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", choices=STATES, default="waiting", help=", ".join(STATES))
    parser.add_argument("--limit", type=_number(int, 1), default=100, metavar="N", help="so many")
    parser.add_argument("--after", metavar="CURSOR", help="go on from here; see the last line")


def _recent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", choices=ENDS, help=", ".join(ENDS))
    parser.add_argument("--function", metavar="NAME", help="only of this: myapp.tasks.resize")
    parser.add_argument("--limit", type=_number(int, 1), default=50, metavar="N", help="so many")


def _pause(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=_number(float, 0), metavar="SECONDS", help="until it ends by itself"
    )


def _health(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--within",
        type=_number(float, 0),
        default=90.0,
        metavar="SECONDS",
        help="a worker must have been seen since then: 90 by default",
    )
    parser.add_argument(
        "--or-unknown",
        action="store_true",
        help="0 also if the store cannot be reached, for what restarts a worker on 1",
    )


def _dashboard(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dsns", nargs="*", metavar="DSN", help="such as redis://localhost:6379/0, or NAME=DSN")
    add(
        "--app",
        action="append",
        default=[],
        metavar="MODULE:GATOR",
        help="take a Gator from your code, with its schedules; may be repeated",
    )
    add("--store", metavar="DSN", help="where results are, if not with the queue")
    add("--task", metavar="MODULE:CLASS", help="a Task class of your own")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen: 127.0.0.1")
    add("--port", type=_port, default=8023, metavar="N", help="where to listen: 8023; 0: any")
    add("--allow-actions", action="store_true", help="let visitors revive, cancel, purge, …")
    add("--prefix", metavar="PATH", help="the path at which a proxy shows it: /queues")
    add(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="a host name under which a proxy shows it; may be repeated",
    )
    add(
        "--every",
        type=_number(float, 0.2),
        default=3.0,
        metavar="SECONDS",
        help="how often a page looks for news: 3",
    )


_FLAGS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "dead": _dead,
    "revive": _revive,
    "explain": _id,
    "history": _id,
    "cancel": _cancel,
    "schedule": _schedule,
    "backup": _backup,
    "move": _move,
    "drop": _drop,
    "status": _status,
    "tasks": _tasks,
    "recent": _recent,
    "pause": _pause,
    "health": _health,
}


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dsn", nargs="?", help="such as redis://localhost:6379/0")
    parser.add_argument(
        "--queue", action="append", metavar="NAME", help="may be repeated: strict order"
    )
    parser.add_argument("--store", metavar="DSN", help="where results are, if not with the queue")
    parser.add_argument("--app", metavar="MODULE:GATOR", help="take the Gator from your code")
    parser.add_argument("--task", metavar="MODULE:CLASS", help="a Task class of your own")


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: object) -> NoReturn:
        print(f"Alligator {version()}")
        parser.exit(0)


def version() -> str:
    """Return the version of Alligator; its package exports it, and imports this one's callers."""
    return str(import_module("alligator").version())


def _number(kind: type, low: float) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = kind(text)
        if not low <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low} up")
        return value

    convert.__name__ = "number"
    return convert


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return int(text)


def _descriptors(text: str) -> Given:
    tasks, answers = map(int, text.split(","))
    return Given(tasks, answers)


def _prefetch(text: str) -> int | str:
    return text if text == "auto" else int(_number(int, 1)(text))
