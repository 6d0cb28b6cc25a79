"""Examine the server or file behind a DSN, and say what to change."""

import argparse
import sys
from collections.abc import Iterable

from alligator.backends.base import Client, Finding
from alligator.cli import table
from alligator.cli.parser import version
from alligator.cli.source import queues_of
from alligator.common.text import escape
from alligator.exceptions import AlligatorException
from alligator.gator import Gator
from alligator.results.unserved import Served, remarks


def doctor(gator: Gator, arguments: argparse.Namespace) -> int:
    """Print what was found out; return 1 if something must be changed."""
    queues = queues_of(gator, arguments)  # SQS is examined queue by queue
    python = ".".join(map(str, sys.version_info[:3]))
    found = [Finding("version", f"Alligator {version()} on Python {python}")]
    found += gator.client.examine()
    home = gator.store.home if gator.store is not None else None
    if isinstance(home, Client) and home is not gator.client:
        found += [each._replace(subject=f"store: {each.subject}") for each in home.examine()]
    found += _workers(gator, queues)
    if arguments.json:
        wrong = any(each.must_change for each in found)
        table.print_json({"must_change": wrong, "findings": [each._asdict() for each in found]})
    else:
        _print(found)
    return int(any(each.must_change for each in found))


def _workers(gator: Gator, queues: Iterable[str]) -> list[Finding]:
    if gator.store is None:
        text = "there is no store, so no results, schedules, heartbeats or tasks that wait for"
        return [Finding("store", f"{text} others", "name one with --store if you want these")]
    try:
        served = Served(gator.client, gator.store, gator.schedules)
        lines = remarks(served, list(queues))
    except AlligatorException as err:
        return [Finding("workers", f"it is unknown which workers live: {err}".rstrip("."))]
    advice = "start a worker for it, or stop queueing there"
    return [Finding("workers", line.rstrip("."), advice) for line in lines]


def _print(found: Iterable[Finding]) -> None:
    width = max(len(each.subject) for each in found)
    for each in found:
        mark = "!!" if each.must_change else " >" if each.advice else "ok"
        line = f"{mark}  {each.subject:<{width}}  {each.found}."
        show = table.problem if each.must_change else table.warning if each.advice else escape
        print(show(line))
        if each.advice:
            print(escape(f"    {'':<{width}}  → {each.advice}."))
    wrong = sum(each.must_change for each in found)
    advised = sum(bool(each.advice) for each in found) - wrong
    print()
    print(
        f"{wrong} to change, {advised} to consider."
        if wrong or advised
        else "Nothing needs to be changed."
    )
