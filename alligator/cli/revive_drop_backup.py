"""Revive dead letters, drop what is on a queue, and back up a file."""

import argparse
import sys

from alligator.backends.base import QueueStats
from alligator.cli.source import queues_of
from alligator.exceptions import InvalidTask
from alligator.gator import Gator


def revive(gator: Gator, arguments: argparse.Namespace) -> int:
    """Put dead tasks back on their queue."""
    revived = 0
    for name in queues_of(gator, arguments):
        gator.queue_name = name
        for task_id in arguments.ids or [None]:
            revived += gator.revive(task_id, retries=arguments.retries)
    print(f"{revived} revived")
    return 0 if revived or not arguments.ids else 1


def drop(gator: Gator, arguments: argparse.Namespace) -> int:
    """Delete everything on a queue: waiting, delayed, running and dead."""
    if not arguments.yes and (sys.stdin is None or not sys.stdin.isatty()):
        raise InvalidTask(
            "Nothing was dropped: drop asks first, and standard input is no terminal to answer "
            "on. With --yes it does not ask."
        )
    for name in queues_of(gator, arguments):
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


def backup(gator: Gator, arguments: argparse.Namespace) -> int:
    """Copy a SQLite file that is in use, as it is at one moment."""
    if arguments.target is None:
        raise InvalidTask("Say where to: latergator.py backup DSN TARGET.")
    gator.client.backup(arguments.target)
    print(f"{arguments.target}: written")
    return 0
