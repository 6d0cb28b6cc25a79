"""List queues, tasks, workers and what happened, as tables or as JSON.

The keys of the JSON documents are the names of the fields of ``alligator.monitoring.rows``; times
are Unix timestamps in seconds, states are words. docs/commands.rst describes each document.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from heapq import nlargest
from typing import Any

from alligator.backends.base import DeadTask
from alligator.cli import show_dead_letter, show_schedule, table
from alligator.cli.source import queues_of
from alligator.common.text import escape, shorten, show_time
from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import InvalidTask
from alligator.gator import Gator
from alligator.monitoring.rows import QueueRow
from alligator.results import explain as explanation
from alligator.results.unserved import Served, remarks

#: The states of a task as words.
STATES = {
    WAITING: "waiting",
    DELAYED: "delayed",
    RUNNING: "running",
    RETRYING: "retrying",
    SUCCESS: "success",
    FAILED: "failed",
    CANCELED: "canceled",
}


def as_json(row: Any) -> dict[str, Any]:
    """Return a row as an object: its fields by their names, its state as a word."""
    found = asdict(row)
    if "state" in found:
        found["state"] = STATES.get(found["state"], str(found["state"]))
    return found


# -- Queues. --------------------------------------------------------------------------------------


def status(gator: Gator, arguments: argparse.Namespace) -> int:
    """Show how many tasks are in which state, and how many workers there are."""
    rows = _queue_rows(gator, queues_of(gator, arguments))
    served = Served(gator.client, gator.store, gator.schedules)
    warnings = remarks(served, [each.name for each in rows])
    if arguments.json:
        queues = [_queue_json(each, has_store=gator.store is not None) for each in rows]
        table.print_json({"queues": queues, "warnings": warnings})
        return 0
    for line in _as_since_1_0(rows, has_store=gator.store is not None):
        print(line)
    for line in warnings:
        print(table.warning(line))
    return 0


def _queue_rows(gator: Gator, names: Sequence[str]) -> list[QueueRow]:
    found = []
    for name in names:
        stats = gator.client.stats(name)
        alive = len(gator.store.workers(name)) if gator.store is not None else 0
        counts = stats.waiting, stats.delayed, stats.running, stats.dead
        found.append(QueueRow(name, *counts, stats.oldest, False, alive))
    return found


def _queue_json(row: QueueRow, *, has_store: bool) -> dict[str, Any]:
    found = as_json(row)
    if not has_store:
        found["workers"] = None
    return found


def _as_since_1_0(rows: Iterable[QueueRow], *, has_store: bool) -> list[str]:
    titles = ("waiting", "delayed", "running", "dead", "oldest", "workers")
    lines = [f"{'queue':<24}" + "".join(f"{title:>9}" for title in titles)]
    for row in rows:
        oldest = "-" if row.oldest is None else f"{row.oldest:.0f} s"
        workers = row.workers if has_store else "-"
        cells = (row.waiting, row.delayed, row.running, row.dead, oldest, workers)
        lines.append(f"{row.name:<24}" + "".join(f"{cell:>9}" for cell in cells))
    return lines


# -- One task, and the dead. ----------------------------------------------------------------------


def explain(gator: Gator, arguments: argparse.Namespace) -> int:
    """Explain why a task has not run, or how it ended."""
    for name in queues_of(gator, arguments):
        gator.queue_name = name
        facts = explanation.gather(gator.results, arguments.id)
        if facts.state is not None:
            break
    sentence = explanation.sentence(facts)
    if arguments.json:
        state = None if facts.state is None else STATES.get(facts.state, str(facts.state))
        about = {"task_id": arguments.id, "queue_name": gator.queue_name, "state": state}
        table.print_json({**about, "explanation": sentence})
    else:
        print(escape(sentence))
    return 0 if facts.state is not None else 1


def dead(gator: Gator, arguments: argparse.Namespace) -> int:
    """List the tasks that were given up, newest first; or show one of them."""
    queues = queues_of(gator, arguments)
    if arguments.pytest is not None:
        if arguments.json:
            raise InvalidTask("--pytest prints a test, and --json a document; give one of the two.")
        return show_dead_letter.print_one(gator, queues, arguments.pytest, as_code=True)
    if arguments.show is not None and not arguments.json:
        return show_dead_letter.print_one(gator, queues, arguments.show)
    if arguments.show is not None:
        letter = show_dead_letter.find(gator, queues, arguments.show)
        table.print_json({"dead": [_letter(letter)] if letter else []})
        return 0 if letter else 1
    if arguments.purge is not None:
        for name in queues:
            deleted = gator.client.purge_dead(name, arguments.purge)
            if not arguments.json:
                print(f"{name}: {deleted} deleted")
    letters = [each for name in queues for each in gator.client.dead(name, arguments.limit)]
    newest = nlargest(arguments.limit, letters, key=lambda each: each.died_at)
    if arguments.json:
        table.print_json({"dead": [_letter(each) for each in newest]})
        return 0
    for letter in newest:
        when, error = show_time(letter.died_at), shorten(letter.error, 200)
        print(f"{when:<19}  {letter.queue_name}  {shorten(letter.task_id)}  {error}")
    return 0


def _letter(letter: DeadTask) -> dict[str, Any]:
    found = asdict(letter)
    if isinstance(letter.data, bytes):
        found["data"] = letter.data.decode(errors="backslashreplace")
    return found


def schedule(gator: Gator, arguments: argparse.Namespace) -> int:
    """Show what the schedules of a Gator will queue next, and when."""
    if arguments.app is None:
        raise InvalidTask("Schedules are in your code; name their Gator: --app myapp.queues:gator.")
    ticks = gator.schedules.coming(arguments.next, arguments.queue or ())
    if arguments.json:
        table.print_json({"schedule": [show_schedule.as_json(*each) for each in ticks]})
        return 0
    rows = show_schedule.table(ticks)
    for row in rows:
        print(row)
    if not rows:
        print(f"{arguments.app} has no schedules{' there' if arguments.queue else ''}.")
    return 0
