"""Pause and resume queues, and cancel tasks."""

import argparse
import sys

from alligator.cli.source import queues_of
from alligator.common.text import escape, shorten, show_time
from alligator.constants import RUNNING
from alligator.gator import Gator


def pause(gator: Gator, arguments: argparse.Namespace) -> int:
    """Pause queues."""
    for name in queues_of(gator, arguments):
        gator.pause(name, arguments.seconds)
        until = gator.paused(name)
        ends = until is not None and until < float("inf")
        print(f"{name}: paused" + (f" until {show_time(until or 0.0)}" if ends else ""))
    return 0


def resume(gator: Gator, arguments: argparse.Namespace) -> int:
    """End the pause of queues; return 1 if none of them was paused."""
    resumed = 0
    for name in queues_of(gator, arguments):
        was_paused = gator.resume(name)
        resumed += was_paused
        print(f"{name}: resumed" if was_paused else f"{name}: was not paused")
    return 0 if resumed else 1


def cancel(gator: Gator, arguments: argparse.Namespace) -> int:
    """Cancel a task; return 1 if there is none of that id."""
    for name in queues_of(gator, arguments):
        gator.queue_name = name
        found = gator.cancel(arguments.id, running=arguments.running)
        if found is not None:
            how = "is asked to end" if found.status == RUNNING else "canceled"
            print(f"{escape(name)}: {shorten(arguments.id)} {how}")
            return 0
    hint = "" if arguments.running else "; with --running also one that runs"
    print(
        f"latergator.py: no task {shorten(repr(arguments.id))} waits there{hint}", file=sys.stderr
    )
    return 1
