"""List queues, tasks, workers and what happened, as tables or as JSON.

The keys of the JSON documents are the names of the fields of ``alligator.monitoring.rows``; times
are Unix timestamps in seconds, states are words. docs/commands.rst describes each document.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from heapq import nlargest
from typing import Any

from alligator.backends.base import DeadTask
from alligator.cli import show_dead_letter, show_schedule, table
from alligator.cli.source import queues_of
from alligator.common.text import describe_error, escape, shorten, show_time
from alligator.constants import FAILED
from alligator.exceptions import ConnectionLost, InvalidTask, UnsupportedOption
from alligator.gator import Gator
from alligator.monitoring.rates import NO_RATE, Rate, Rates
from alligator.monitoring.rows import (
    STATE_WORDS,
    ActivityRow,
    History,
    QueueRow,
    RunningRow,
    TaskRow,
    WorkerRow,
)
from alligator.results import explain as explanation
from alligator.results.unserved import Served, remarks


def as_json(row: Any) -> dict[str, Any]:
    """Return a row as an object: its fields by their names, its state as a word."""
    found = asdict(row)
    if "state" in found:
        found["state"] = STATE_WORDS.get(found["state"], str(found["state"]))
    return found


# -- Queues. --------------------------------------------------------------------------------------


def status(gator: Gator, arguments: argparse.Namespace) -> int:
    """Show how many tasks are in which state, and how many workers there are."""
    if arguments.watch:
        if arguments.json:
            raise InvalidTask("--watch shows a table again and again, --json prints one document.")
        return _watch(gator, arguments)
    rows, warnings = _look(gator, arguments)
    rates = Rates().look(rows, _activity(gator), gator.clock.time())
    if arguments.json:
        table.print_json(status_json(rows, warnings, rates, has_store=gator.store is not None))
        return 0
    lines = status_lines(rows, rates, gator, is_short=bool(arguments.queue))
    _print_status(lines, warnings)
    return 0


def _watch(gator: Gator, arguments: argparse.Namespace) -> int:
    """Show the queues until Ctrl-C; on a terminal in the same place."""
    rates, clears = Rates(), table.is_terminal(sys.stdout)
    with suppress(KeyboardInterrupt):
        while True:
            now = gator.clock.time()
            try:
                rows, warnings = _look(gator, arguments)
                found = rates.look(rows, _activity(gator), now)
                lines = status_lines(rows, found, gator, is_short=False)
            except ConnectionLost as err:  # it may come back
                lines, warnings = [], [describe_error(err)]
            if clears:
                print(table.CLEAR, end="")
            print(f"{show_time(now)}, every {arguments.every:g} s (Ctrl-C ends)")
            _print_status(lines, warnings)
            print(end="" if clears else "\n", flush=True)
            time.sleep(arguments.every)
    return 0


def _print_status(lines: Iterable[str], warnings: Iterable[str]) -> None:
    for line in lines:
        print(line)
    for line in warnings:
        print(table.warning(line), flush=True)


def _look(gator: Gator, arguments: argparse.Namespace) -> tuple[list[QueueRow], list[str]]:
    """Return the queues, and a line for each that no worker serves."""
    names = queues_of(gator, arguments)
    rows = _queue_rows(gator, names)
    if not arguments.queue:
        known = gator.queues()
        own = [] if gator.queue_name in {each.name for each in known} else rows
        rows = sorted([*known, *own], key=lambda row: row.name)
        names = [each.name for each in rows if each.waiting or each.delayed or each in own]
    served = Served(gator.client, gator.store, gator.schedules)
    return rows, remarks(served, names)


def _queue_rows(gator: Gator, names: Sequence[str]) -> list[QueueRow]:
    found = []
    for name in names:
        stats = gator.client.stats(name)
        alive = len(gator.store.workers(name)) if gator.store is not None else 0
        counts = stats.waiting, stats.delayed, stats.running, stats.dead
        found.append(QueueRow(name, *counts, stats.oldest, _is_paused(gator, name), alive))
    return found


def _is_paused(gator: Gator, name: str) -> bool:
    try:
        return gator.paused(name) is not None
    except UnsupportedOption:
        return False


def _activity(gator: Gator) -> list[ActivityRow] | None:
    """Return what was done in the last minutes; None: it is not recorded."""
    try:
        return gator.activity(minutes=2)
    except UnsupportedOption:
        return None


def status_json(
    rows: Iterable[QueueRow],
    warnings: Sequence[str],
    rates: Mapping[str, Rate],
    *,
    has_store: bool,
) -> dict[str, Any]:
    """Return the document of ``status --json``."""
    queues = []
    for row in rows:
        rate = rates.get(row.name, NO_RATE)
        about = {**as_json(row), "in_per_minute": rate.came, "out_per_minute": rate.went}
        queues.append(about if has_store else {**about, "workers": None})
    return {"queues": queues, "warnings": list(warnings)}


def status_lines(
    rows: Sequence[QueueRow], rates: Mapping[str, Rate], gator: Gator, *, is_short: bool
) -> list[str]:
    """Return the lines of ``status``.

    :param is_short: for the columns that it has had since 1.0, in their widths.
    """
    has_store = gator.store is not None
    columns = [
        table.Column("queue", lambda row: row.name, may_be_cut=True),
        table.Column("waiting", lambda row: row.waiting, is_number=True),
        table.Column("delayed", lambda row: row.delayed, is_number=True),
        table.Column("running", lambda row: row.running, is_number=True),
        table.Column("dead", lambda row: row.dead, is_number=True),
        table.Column("oldest", _oldest, is_number=True),
        table.Column("workers", lambda row: row.workers if has_store else "-", is_number=True),
    ]
    if is_short:
        width = max([24, *(len(row.name) for row in rows)])
        return [
            f"{name:<{width}}" + "".join(f"{cell:>9}" for cell in cells)
            for name, *cells in (
                [column.title for column in columns],
                *([str(column.cell(row)) for column in columns] for row in rows),
            )
        ]
    # A column that would say nothing anywhere is left out.
    if any(each.came is not None for each in rates.values()):
        columns.append(table.Column("in/min", lambda row: _rate(rates, row, 0), is_number=True))
    if any(each.went for each in rates.values()) or len(columns) > 7:
        columns.append(table.Column("out/min", lambda row: _rate(rates, row, 1), is_number=True))
    if any(each.paused for each in rows):
        columns.append(table.Column("paused", lambda row: "paused" if row.paused else "-"))
    return table.show(columns, rows)


def _oldest(row: QueueRow) -> str:
    return "-" if row.oldest is None else f"{row.oldest:.0f} s"


def _rate(rates: Mapping[str, Rate], row: QueueRow, which: int) -> str:
    rate = rates.get(row.name, NO_RATE)[which]
    return "-" if rate is None else f"{rate:,.0f}"


# -- Workers and what runs. -----------------------------------------------------------------------


def running(gator: Gator, arguments: argparse.Namespace) -> int:
    """List the tasks that run now."""
    rows = [each for each in gator.running() if _is_meant(each.queue_name, arguments)]
    if arguments.json:
        table.print_json({"running": [as_json(each) for each in rows]})
        return 0
    _print_table(running_columns(gator.clock.time()), rows, "Nothing runs.")
    return 0


def running_columns(now: float) -> list[table.Column]:
    """Return the columns of ``running``.

    :param now: a Unix timestamp in seconds.
    """
    return [
        table.Column("task", lambda row: shorten(row.task_id), may_be_cut=True),
        table.Column("function", lambda row: row.function or "?", may_be_cut=True),
        table.Column("queue", lambda row: row.queue_name, may_be_cut=True),
        table.Column("attempt", lambda row: row.attempt, is_number=True),
        table.Column("since", lambda row: _since(row.started, now), is_number=True),
        table.Column("lease", lambda row: table.ago(row.lease_left), is_number=True),
        table.Column("worker", lambda row: row.worker or "-", may_be_cut=True),
        table.Column("progress", _progress, may_be_cut=True),
    ]


def _since(moment: float | None, now: float) -> str:
    return table.ago(None if moment is None else max(0.0, now - moment))


def _progress(row: RunningRow) -> str:
    if row.progress is None:
        return "-"
    fraction, text = row.progress
    return f"{fraction:.0%} {text}".rstrip()


def workers(gator: Gator, arguments: argparse.Namespace) -> int:
    """List the workers."""
    rows = [
        each for each in gator.workers() if any(_is_meant(name, arguments) for name in each.queues)
    ]
    if arguments.json:
        table.print_json({"workers": [as_json(each) for each in rows]})
        return 0
    lost = [each for each in rows if each.is_lost]
    _print_table(worker_columns(gator.clock.time()), rows, "No worker lives.")
    for each in lost:
        seen = show_time(each.last_seen)
        print(table.problem(f"Worker {each.host}:{each.pid} was lost; it was last seen {seen}."))
    return 0


def worker_columns(now: float) -> list[table.Column]:
    """Return the columns of ``workers``.

    :param now: a Unix timestamp in seconds.
    """
    return [
        table.Column("worker", lambda row: f"{row.host}:{row.pid}", may_be_cut=True),
        table.Column("queues", lambda row: ", ".join(row.queues), may_be_cut=True),
        table.Column("at a time", lambda row: row.concurrency, is_number=True),
        table.Column("up", lambda row: _since(row.started, now), is_number=True),
        table.Column("seen", lambda row: "lost" if row.is_lost else _since(row.last_seen, now)),
        table.Column("done", lambda row: row.done, is_number=True),
        table.Column("failed", lambda row: row.failed, is_number=True),
        table.Column("version", lambda row: row.version),
        table.Column("runs", _runs, may_be_cut=True),
    ]


def _runs(row: WorkerRow) -> str:
    if not row.running:
        return "-"
    first = row.running[0]
    more = f" and {len(row.running) - 1} more" if len(row.running) > 1 else ""
    return f"{first.function or first.task_id}{more}"


# -- Tasks. ---------------------------------------------------------------------------------------


def tasks(gator: Gator, arguments: argparse.Namespace) -> int:
    """List the tasks of a queue in one state."""
    names = queues_of(gator, arguments)
    if len(names) > 1:
        raise InvalidTask("tasks lists one queue, in its order; give --queue once.")
    page = gator.tasks(arguments.state, limit=arguments.limit, after=arguments.after)
    if arguments.json:
        found = {"tasks": [_task_json(each) for each in page], "next": page.next}
        table.print_json({**found, "left_out": page.left_out})
        return 0
    none = f"No task of {names[0]!r} is {arguments.state}."
    _print_table(task_columns(gator.clock.time(), arguments.state), page, none)
    if page.left_out:
        print(f"{page.left_out:,} more are there, which the server cannot list.")
    if page.next is not None:
        print(f"There are more: --after {shlex.quote(escape(page.next))}")
    return 0


def _task_json(row: TaskRow) -> dict[str, Any]:
    found = as_json(row)
    return {**found, "state": "dead"} if row.state == FAILED else found


def task_columns(now: float, state: str) -> list[table.Column]:
    """Return the columns of ``tasks``.

    :param now: a Unix timestamp in seconds.
    """
    columns = [
        table.Column("task", lambda row: shorten(row.task_id), may_be_cut=True),
        table.Column("call", lambda row: call_of(row, row.kwargs), may_be_cut=True),
        table.Column("priority", lambda row: row.priority, is_number=True),
        table.Column("attempts", lambda row: row.attempts, is_number=True),
    ]
    if state == "delayed":
        due = table.Column("due in", lambda row: table.ago(_left(row.due, now)), is_number=True)
        columns.insert(1, due)
    return columns


def _left(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, moment - now)


def call_of(row: Any, kwargs: str = "") -> str:
    """Return a row's function with its arguments, as a call."""
    given = ", ".join(filter(None, (row.args, kwargs)))
    return f"{row.function or '?'}({given})"


def recent(gator: Gator, arguments: argparse.Namespace) -> int:
    """List the runs that ended last."""
    rows = [
        each
        for each in gator.recent(arguments.limit, arguments.function, arguments.state)
        if _is_meant(each.queue_name, arguments)
    ]
    if arguments.json:
        table.print_json({"recent": [as_json(each) for each in rows]})
        return 0
    _print_table(RECENT_COLUMNS, rows, "Nothing of that kind has ended lately.")
    return 0


RECENT_COLUMNS = [
    table.Column("ended", lambda row: show_time(row.ended)),
    table.Column("state", lambda row: STATE_WORDS.get(row.state, row.state)),
    table.Column("took", lambda row: table.ago(row.ended - row.started), is_number=True),
    table.Column("queue", lambda row: row.queue_name, may_be_cut=True),
    table.Column("task", lambda row: shorten(row.task_id), may_be_cut=True),
    table.Column("call", lambda row: call_of(row), may_be_cut=True),
    table.Column("worker", lambda row: row.worker or "-", may_be_cut=True),
    table.Column("error", lambda row: row.error or "-", may_be_cut=True),
]


def history(gator: Gator, arguments: argparse.Namespace) -> int:
    """Show each attempt at a task."""
    found: History | None = None
    for name in queues_of(gator, arguments):
        gator.queue_name = name
        found = gator.history(arguments.id)
        if found is not None:
            break
    if arguments.json:
        table.print_json({"history": None if found is None else as_json(found)})
    elif found is None:
        print(
            f"latergator.py: no history of {shorten(repr(arguments.id))} there; tasks have one if "
            "they are pushed with the option history or save_results",
            file=sys.stderr,
        )
    else:
        print(history_text(found), end="")
    return 0 if found is not None else 1


def history_text(found: History) -> str:
    """Return a history as text."""
    result = "(none saved)" if found.result is None else escape(found.result)
    lines = [
        f"id:        {escape(found.task_id)}",
        f"queue:     {escape(found.queue_name)}",
        f"call:      {escape(call_of(found, found.kwargs))}",
        f"pushed:    {show_time(found.pushed)}",
        f"result:    {result}",
    ]
    lines += [f"revived:   {show_time(each)}" for each in found.revived]
    for number, each in enumerate(found.attempts, 1):
        took = "" if each.ended is None else f", took {table.ago(each.ended - each.started)}"
        started = show_time(each.started) if each.started else "?"  # lost before it told
        lines.append(
            f"attempt {number}: {escape(each.outcome)}, started {started}{took}, "
            f"on {escape(each.worker or '?')}"
        )
        if each.error:
            lines.append(f"  {escape(each.error)}")
        # No line of it may look like one of ours.
        lines += [f"    {escape(line)}" for line in each.traceback.rstrip("\n").split("\n") if line]
    return "\n".join(lines) + "\n"


def _is_meant(queue_name: str, arguments: argparse.Namespace) -> bool:
    return not arguments.queue or queue_name in arguments.queue


def _print_table(columns: Sequence[table.Column], rows: Sequence[Any], none: str) -> None:
    for line in table.show(columns, rows) if rows else [none]:
        print(line)


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
        state = None if facts.state is None else STATE_WORDS.get(facts.state, str(facts.state))
        about = {"task_id": arguments.id, "queue_name": gator.queue_name, "state": state}
        table.print_json({**about, "explanation": sentence})
    else:
        print(escape(sentence))
    return 0 if facts.state is not None else 1


def dead(gator: Gator, arguments: argparse.Namespace) -> int:
    """List the dead letters, newest first; or show one of them."""
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
