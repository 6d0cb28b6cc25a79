"""Parse the command line of ``latergator.py``, and carry out its commands."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import Any, NoReturn

from alligator.backends.base import QueueStats
from alligator.backends.dsn import mask_password
from alligator.cli import show_dead_letter, show_schedule
from alligator.common.importing import NO_DIRECTORY, current_directory, import_attr
from alligator.common.log import worker_logger
from alligator.common.text import escape, shorten, show_time
from alligator.constants import ALL
from alligator.exceptions import AlligatorException, InvalidTask, LeaveNow, NodeLost
from alligator.gator import Gator, reconfigure
from alligator.results import explain
from alligator.results.unserved import Served, remarks
from alligator.tasks.functions import split_name
from alligator.tasks.task import Task
from alligator.workers.fetcher import queue_names
from alligator.workers.init_process import stay_behind
from alligator.workers.isolation import Given
from alligator.workers.signals import StopSignals, unblock
from alligator.workers.supervisor import Supervisor, stop_when_abandoned
from alligator.workers.worker import Worker

#: Names the secret keys, separated by spaces or commas; the first signs. It is an environment
#: variable, since every user of a machine can read command lines.
KEYS_VARIABLE = "ALLIGATOR_SECRET_KEYS"

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_EPILOG = """\
%(prog)s reads secret keys for signed tasks from ALLIGATOR_SECRET_KEYS.

Looking after a queue:
  %(prog)s status DSN [--queue NAME]        how many tasks are in which state
  %(prog)s dead DSN [--queue NAME]          the tasks that were given up (dead letters)
  %(prog)s dead DSN --show ID               one of them, with its traceback
  %(prog)s dead DSN --pytest ID             a test that fails as it did
  %(prog)s revive DSN [ID ...]              run dead tasks again (no ID: all)
  %(prog)s explain DSN ID                   why a task has not run
  %(prog)s drop DSN [--queue NAME]          delete everything on a queue
  %(prog)s backup DSN TARGET                copy a SQLite file that is in use
  %(prog)s schedule --app MODULE:GATOR      what its schedules will queue next
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the whole usage, and exit with 2."""
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def worker_parser() -> argparse.ArgumentParser:
    """Return the parser of ``latergator.py DSN``."""
    parser = _Parser(
        prog="latergator.py",
        description="Run a worker that consumes an Alligator queue.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_source(parser)
    add = parser.add_argument
    add("--max-tasks", type=_number(int, 0), default=0, metavar="N", help="stop after N tasks")
    add("--nap", type=_number(float, 0), metavar="SECONDS", help="between looks at an empty queue")
    add("--burst", action="store_true", help="stop when the queue is empty")
    add("--concurrency", type=_number(int, 1), metavar="N", help="tasks at a time, in threads")
    add("--processes", type=_number(int, 1), metavar="N", help="worker processes, supervised")
    add("--lease", type=_number(float, 0.1), metavar="SECONDS", help="until a dead worker's task")
    add("--prefetch", type=_prefetch, metavar="N", help="tasks reserved at once, or 'auto'")
    add("--grace", type=_number(float, 0), default=30.0, metavar="SECONDS", help="to finish in")
    add("--log-level", type=str.upper, choices=_LEVELS, default="INFO")
    add(
        "--allow",
        action="append",
        metavar="NAME",
        help="run only this function, or these: myapp.tasks.*; may be repeated",
    )
    add("--worker", metavar="MODULE:CLASS", help="a Worker class of your own")
    add("--leash", type=int, help=argparse.SUPPRESS)
    add("--isolated", type=_descriptors, help=argparse.SUPPRESS)
    return parser


def queue_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of ``latergator.py status DSN``, and of the other commands."""
    parser = _Parser(prog=f"latergator.py {command}", description=_COMMANDS[command].__doc__)
    _add_source(parser)
    if command == "dead":
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
    if command == "revive":
        parser.add_argument("ids", nargs="*", metavar="ID", help="task ids; none: all")
        parser.add_argument(
            "--retries",
            type=_number(int, 0),
            metavar="N",
            help="further tries after the first; not given: as it was pushed",
        )
    if command == "explain":
        parser.add_argument("id", metavar="ID", help="of the task")
    if command == "schedule":
        parser.add_argument(
            "--next",
            type=_number(int, 1),
            default=10,
            metavar="N",
            help="so many, and at least the next of each schedule",
        )
    if command == "backup":
        parser.add_argument("target", nargs="?", metavar="TARGET", help="a file that is not there")
    if command == "drop":
        parser.add_argument(
            "--yes", action="store_true", help="do not ask; needed without a terminal"
        )
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dsn", nargs="?", help="such as redis://localhost:6379/0")
    parser.add_argument(
        "--queue", action="append", metavar="NAME", help="may be repeated: strict order"
    )
    parser.add_argument("--store", metavar="DSN", help="where results are, if not with the queue")
    parser.add_argument("--app", metavar="MODULE:GATOR", help="take the Gator from your code")
    parser.add_argument("--task", metavar="MODULE:CLASS", help="a Task class of your own")


def _number(kind: type, low: float) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        value = kind(text)
        if not low <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low} up")
        return value

    convert.__name__ = "number"
    return convert


def _descriptors(text: str) -> Given:
    tasks, answers = map(int, text.split(","))
    return Given(tasks, answers)


def _prefetch(text: str) -> int | str:
    return text if text == "auto" else int(_number(int, 1)(text))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: a worker did not stop gracefully, a question was answered with no, or there was no
    task with the ids given. 2: it cannot be done, for the reason on standard error.

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
        if argv and argv[0] in _COMMANDS:
            if is_program:
                unblock()
            _print_anything()
            parser = queue_parser(argv[0])
            arguments = _without_dsn(parser.parse_intermixed_args(argv[1:]))
            gator = _gator(_with_source(parser, arguments))
            if argv[0] != "schedule":  # which looks at no queue
                _check_exists(gator)
            return _COMMANDS[argv[0]](gator, arguments)
        parser = worker_parser()
        arguments = _with_source(parser, parser.parse_args(argv))
        return _work(arguments, argv, is_program=is_program)
    except (AlligatorException, NotImplementedError) as err:
        print(f"latergator.py: {shorten(str(err), 1000)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # nothing reads our output any more
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the flush at exit
        return 0


def _print_anything() -> None:
    """Write characters that standard output cannot encode with backslashes."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _without_dsn(arguments: argparse.Namespace) -> argparse.Namespace:
    """With --app, read the first positional argument as an id, or a target, and not as a DSN."""
    if arguments.app and "ids" in arguments and "://" not in (arguments.dsn or "://"):
        arguments.ids.insert(0, arguments.dsn)
        arguments.dsn = None
    if arguments.app and "target" in arguments and arguments.target is None:
        arguments.target, arguments.dsn = arguments.dsn, None
    return arguments


def _with_source(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> argparse.Namespace:
    """Refuse a command line that names no queue, and show the usage."""
    if arguments.dsn is None and arguments.app is None:
        parser.print_usage(sys.stderr)
        raise InvalidTask("Give a DSN such as redis://localhost:6379/0, or --app.")
    return arguments


def _check_exists(gator: Gator) -> None:
    """Refuse a file that does not exist: to look at a queue must not create one."""
    for client in (gator.client, gator.store.home if gator.store else None):
        if client is not None:
            client.check_exists()


def _gator(arguments: argparse.Namespace) -> Gator:
    task_class = _load(arguments.task, Task, "--task") if arguments.task else Task
    allowed = getattr(arguments, "allow", None)
    if arguments.app is None:
        return Gator(
            arguments.dsn,
            arguments.queue[0] if arguments.queue else ALL,
            task_class,
            store=arguments.store,
            allowed=allowed,
            secret_keys=_keys(),
        )
    if arguments.store is not None:
        raise InvalidTask("--app names a Gator; its store goes there: Gator(…, store=…).")
    gator = import_attr(*_split(arguments.app, "--app"))
    if not isinstance(gator, Gator):
        raise InvalidTask(f"--app {arguments.app} is no Gator but a {type(gator).__name__}.")
    if arguments.dsn is not None and arguments.dsn != gator.conn_string:
        given = mask_password(arguments.dsn)
        raise InvalidTask(f"--app names a Gator, and {given} another one; give one of the two.")
    if arguments.task:
        gator.task_class = task_class
    if arguments.queue:
        gator.queue_name = arguments.queue[0]
    reconfigure(gator, allowed=allowed, secret_keys=None if gator.signer else _keys())
    return gator


def _keys() -> list[str] | None:
    """Return the secret keys of the environment; None: it names none."""
    if KEYS_VARIABLE not in os.environ:
        return None
    keys = os.environ[KEYS_VARIABLE].replace(",", " ").split()
    if not keys:
        raise InvalidTask(f"{KEYS_VARIABLE} is set, and empty; unset it, or give it a key.")
    return keys


def _split(name: str, flag: str) -> tuple[str, str]:
    if ":" not in name:
        raise InvalidTask(f"{flag} {name} is not module:name, such as myapp.queues:gator.")
    return split_name(name)


def _load(name: str, base: type, flag: str) -> Any:
    found = import_attr(*_split(name, flag))
    if not isinstance(found, type) or not issubclass(found, base):
        raise InvalidTask(f"{flag} {name} is not a subclass of alligator.{base.__name__}.")
    return found


def _work(arguments: argparse.Namespace, argv: list[str], *, is_program: bool) -> int:
    if os.getpid() == 1 and (code := stay_behind()) is not None:
        return code
    signals = StopSignals()
    try:
        with signals.around(to_the_end=is_program):
            worker = _worker(arguments)
            if arguments.processes is not None and arguments.leash is None:
                worker.gator.close()
                return _supervise(arguments, argv, signals)
            if arguments.leash is not None:
                stop_when_abandoned(arguments.leash)
            worker.owns_process = True
            worker.command_line, worker.given = argv, arguments.isolated
            if type(worker).run_forever is Worker.run_forever:
                worker.process_signals = signals
            else:
                signals.put_back()  # it may handle them itself
            return int(worker.run_forever() or 0)
    except (KeyboardInterrupt, LeaveNow):
        if not signals.count:
            raise
        return 1 if signals.count > 1 else 0  # told to stop before it reserved anything


def _worker(arguments: argparse.Namespace) -> Worker:
    gator = _gator(arguments)
    worker_class = _load(arguments.worker, Worker, "--worker") if arguments.worker else Worker
    worker: Worker = worker_class(gator, **_worker_options(arguments))
    if arguments.leash is None:
        _check_reach(gator, queue_names(worker))  # report a lost server now, in one line
        if gator.store is not None and gator.store is not gator.client.store:
            gator.store.last_seen(gator.queue_name)  # the same for the store
    return worker


def _check_reach(gator: Gator, names: Sequence[str]) -> None:
    """Ask for the first of these queues; if only its node is lost, for the next."""
    for name in names[:-1]:
        try:
            gator.client.len(name)
        except NodeLost:
            continue
        return
    gator.client.len(names[-1])


def _worker_options(arguments: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"log_level": getattr(logging, arguments.log_level)}
    given = {
        "max_tasks": arguments.max_tasks or None,
        "to_consume": arguments.queue if len(arguments.queue or ()) > 1 else None,
        "nap_time": arguments.nap,
        "concurrency": arguments.concurrency,
        "lease": arguments.lease,
        "prefetch": arguments.prefetch,
        "grace": arguments.grace,
        "burst": arguments.burst or None,
    }
    # Only what was given, so that a Worker class written for 1.0 still fits.
    options.update({name: value for name, value in given.items() if value is not None})
    return options


def _supervise(arguments: argparse.Namespace, argv: list[str], signals: StopSignals) -> int:
    supervisor = Supervisor(
        argv,
        arguments.processes,
        grace=arguments.grace,
        log=worker_logger(arguments.log_level),
        replace_finished=bool(arguments.max_tasks) and not arguments.burst,
        signals=signals,
    )
    return supervisor.run()


# -- Looking after queues. --------------------------------------------------------------------


def _queues(gator: Gator, arguments: argparse.Namespace) -> list[str]:
    queues = arguments.queue or [gator.queue_name]
    for name in queues:
        gator.client.check_queue_name(name)
    return list(queues)


def _status(gator: Gator, arguments: argparse.Namespace) -> int:
    """Show how many tasks are in which state, and how many workers there are."""
    found = [(name, gator.client.stats(name)) for name in _queues(gator, arguments)]
    alive = {name: len(gator.store.workers(name)) for name, _ in found if gator.store}
    titles = ("waiting", "delayed", "running", "dead", "oldest", "workers")
    print(f"{'queue':<24}" + "".join(f"{title:>9}" for title in titles))
    for name, stats in found:
        oldest = "-" if stats.oldest is None else f"{stats.oldest:.0f} s"
        counts = (stats.waiting, stats.delayed, stats.running, stats.dead)
        cells = (*counts, oldest, alive.get(name, "-"))
        print(f"{name:<24}" + "".join(f"{cell:>9}" for cell in cells))
    for line in remarks(
        Served(gator.client, gator.store, gator.schedules), [name for name, _ in found]
    ):
        print(escape(line))
    return 0


def _dead(gator: Gator, arguments: argparse.Namespace) -> int:
    """List the tasks that were given up, newest first; or show one of them."""
    queues = _queues(gator, arguments)
    if arguments.show is not None:
        return show_dead_letter.print_one(gator, queues, arguments.show)
    if arguments.pytest is not None:
        return show_dead_letter.print_one(gator, queues, arguments.pytest, as_code=True)
    if arguments.purge is not None:
        for name in queues:
            print(f"{name}: {gator.client.purge_dead(name, arguments.purge)} deleted")
    letters = [each for name in queues for each in gator.client.dead(name, arguments.limit)]
    for letter in nlargest(arguments.limit, letters, key=lambda each: each.died_at):
        when, error = show_time(letter.died_at), shorten(letter.error, 200)
        print(f"{when:<19}  {letter.queue_name}  {shorten(letter.task_id)}  {error}")
    return 0


def _revive(gator: Gator, arguments: argparse.Namespace) -> int:
    """Put dead tasks back on their queue."""
    revived = 0
    for name in _queues(gator, arguments):
        gator.queue_name = name
        for task_id in arguments.ids or [None]:
            revived += gator.revive(task_id, retries=arguments.retries)
    print(f"{revived} revived")
    return 0 if revived or not arguments.ids else 1


def _explain(gator: Gator, arguments: argparse.Namespace) -> int:
    """Explain why a task has not run, or how it ended."""
    for name in _queues(gator, arguments):
        gator.queue_name = name
        facts = explain.gather(gator.results, arguments.id)
        if facts.state is not None:
            break
    print(escape(explain.sentence(facts)))
    return 0 if facts.state is not None else 1


def _drop(gator: Gator, arguments: argparse.Namespace) -> int:
    """Delete everything on a queue: waiting, delayed, running and dead."""
    if not arguments.yes and (sys.stdin is None or not sys.stdin.isatty()):
        raise InvalidTask(
            "Nothing was dropped: drop asks first, and standard input is no terminal to answer "
            "on. With --yes it does not ask."
        )
    for name in _queues(gator, arguments):
        if not arguments.yes and not _agrees(_what_goes(name, gator.client.stats(name))):
            return 1
        gator.client.drop_all(name)
        print(f"{name}: dropped")
    return 0


def _what_goes(name: str, stats: QueueStats) -> str:
    counts = {
        "waiting": stats.waiting,
        "delayed": stats.delayed,
        "running": stats.running,
        "dead": stats.dead,
        "held back until others are done": stats.held,
    }
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    tasks = sum(counts.values())
    return f"all {tasks} tasks of {name!r}" + (f" ({told})" if told else "")


def _agrees(what: str) -> bool:
    try:
        return input(f"Drop {what}? [y/N] ").strip().lower() == "y"
    except EOFError:
        print()
        return False


def _backup(gator: Gator, arguments: argparse.Namespace) -> int:
    """Copy a SQLite file that is in use, as it is at one moment."""
    if arguments.target is None:
        raise InvalidTask("Say where to: latergator.py backup DSN TARGET.")
    gator.client.backup(arguments.target)
    print(f"{arguments.target}: written")
    return 0


def _schedule(gator: Gator, arguments: argparse.Namespace) -> int:
    """Show what the schedules of a Gator will queue next, and when."""
    if arguments.app is None:
        raise InvalidTask("Schedules are in your code; name their Gator: --app myapp.queues:gator.")
    rows = show_schedule.table(gator.schedules.coming(arguments.next, arguments.queue or ()))
    for row in rows:
        print(row)
    if not rows:
        print(f"{arguments.app} has no schedules{' there' if arguments.queue else ''}.")
    return 0


_COMMANDS: dict[str, Callable[[Gator, argparse.Namespace], int]] = {
    "status": _status,
    "dead": _dead,
    "revive": _revive,
    "explain": _explain,
    "drop": _drop,
    "backup": _backup,
    "schedule": _schedule,
}
