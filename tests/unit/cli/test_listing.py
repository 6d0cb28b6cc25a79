"""Test what the listings print, on made rows, as tables and as JSON."""

import json
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest

from alligator import DELAYED, FAILED, SUCCESS, WAITING
from alligator.cli import listing
from alligator.cli.parser import queue_parser
from alligator.common.clock import SystemClock
from alligator.exceptions import InvalidTask
from alligator.monitoring.rows import (
    AttemptRow,
    History,
    NowRow,
    Page,
    RecentRow,
    RunningRow,
    TaskRow,
    WorkerRow,
)

EVIL = "\x1b[2Jgone\nnext"


class Fixed(SystemClock):
    def time(self):
        return 1_000_000.0


def gator_with(**answers):
    """Stands for a Gator whose methods return made rows."""
    found = SimpleNamespace(clock=Fixed(), queue_name="all", asked=[])
    found.client = SimpleNamespace(check_queue_name=lambda name: None)

    def answer(name, rows):
        def method(*args, **kwargs):
            found.asked.append((name, args, kwargs))
            return rows

        return method

    for name, rows in answers.items():
        setattr(found, name, answer(name, rows))
    return found


def shown(capsys, command, gator, *arguments):
    code = getattr(listing, command)(gator, queue_parser(command).parse_args(["x", *arguments]))
    return code, capsys.readouterr().out.splitlines()


def document(capsys, command, gator, *arguments):
    code, lines = shown(capsys, command, gator, *arguments, "--json")
    assert code == 0
    return json.loads("\n".join(lines))


def names_of(row):
    return {each.name for each in fields(row)}


RUNNING = [
    RunningRow("id-1", "myapp.f", "all", 2, 999_990.0, "host:7", 21.0, (0.4, "photo 12 of 30")),
    RunningRow(EVIL, EVIL, "low", 1, None, "", None, None),
]


def test_running(capsys):
    code, lines = shown(capsys, "running", gator_with(running=RUNNING))
    assert code == 0
    titles = ["task", "function", "queue", "attempt", "since", "lease", "worker", "progress"]
    assert lines[0].split() == titles
    assert lines[1].split() == [
        *["id-1", "myapp.f", "all", "2", "10", "s", "21", "s", "host:7", "40%"],
        *["photo", "12", "of", "30"],
    ]
    assert "\x1b" not in lines[2]
    assert lines[2].split()[-4:] == ["-", "-", "-", "-"]
    assert len(lines) == 3
    assert shown(capsys, "running", gator_with(running=[])) == (0, ["Nothing runs."])


def test_running_as_json_and_on_one_queue(capsys):
    found = document(capsys, "running", gator_with(running=RUNNING), "--queue", "all")
    assert list(found) == ["running"]
    assert set(found["running"][0]) == names_of(RunningRow)
    assert [each["task_id"] for each in found["running"]] == ["id-1"]
    assert found["running"][0]["progress"] == [0.4, "photo 12 of 30"]


WORKERS = [
    WorkerRow(
        *("host", 7, ("all", "low"), 4, "1.2.0", 992_800.0, 999_999.0, 120, 3),
        running=(NowRow("a", "myapp.f", "all", 1, 0.0), NowRow("b", "myapp.g", "all", 1, 0.0)),
        name="host:7:1f",
    ),
    WorkerRow("other", 8, ("low",), 1, "1.2.0", 1.0, 2.0, 0, 0, (), is_lost=True),
]


def test_workers(capsys):
    code, lines = shown(capsys, "workers", gator_with(workers=WORKERS))
    assert code == 0
    assert "host:7" in lines[1]
    assert "all, low" in lines[1]
    assert lines[1].endswith("myapp.f and 1 more")
    assert " 2 h " in lines[1]
    assert " lost " in lines[2]
    assert lines[3].startswith("Worker other:8 was lost; it was last seen ")
    _, lines = shown(capsys, "workers", gator_with(workers=WORKERS), "--queue", "all")
    assert len(lines) == 2


def test_workers_as_json(capsys):
    found = document(capsys, "workers", gator_with(workers=WORKERS))
    assert set(found["workers"][0]) == names_of(WorkerRow)
    assert set(found["workers"][0]["running"][0]) == names_of(NowRow)
    assert found["workers"][1]["is_lost"] is True


def page(following=None):
    found = Page(
        [
            TaskRow("id-1", "myapp.f", "all", DELAYED, "1, 'x'", "b=2", 5, 1_000_120.0, 0),
            TaskRow("id-2", "", "all", WAITING, EVIL, "", 0, None, 3),
        ]
    )
    found.next = following
    return found


def test_tasks(capsys):
    gator = gator_with(tasks=page("cur'sor"))
    arguments = ("--state", "delayed", "--limit", "2", "--after", "x")
    code, lines = shown(capsys, "tasks", gator, *arguments)
    assert code == 0
    assert gator.asked == [("tasks", ("delayed",), {"limit": 2, "after": "x"})]
    assert lines[0].split() == ["task", "due", "in", "call", "priority", "attempts"]
    assert "myapp.f(1, 'x', b=2)" in lines[1]
    assert " 2 min " in lines[1]
    assert "?(\\x1b[2Jgone\\nnext)" in lines[2]
    assert lines[3] == "There are more: --after 'cur'\"'\"'sor'"


def test_tasks_as_json(capsys):
    found = document(capsys, "tasks", gator_with(tasks=page("more")))
    assert found["next"] == "more"
    assert set(found["tasks"][0]) == names_of(TaskRow)
    assert [each["state"] for each in found["tasks"]] == ["delayed", "waiting"]
    assert document(capsys, "tasks", gator_with(tasks=page()))["next"] is None


def test_tasks_that_a_server_cannot_list_are_counted(capsys):
    found = page()
    found.left_out = 1200
    _, lines = shown(capsys, "tasks", gator_with(tasks=found))
    assert lines[-1] == "1,200 more are there, which the server cannot list."
    assert document(capsys, "tasks", gator_with(tasks=found))["left_out"] == 1200


def test_no_tasks_and_two_queues(capsys):
    empty = gator_with(tasks=Page())
    assert shown(capsys, "tasks", empty, "--state", "held") == (0, ["No task of 'all' is held."])
    with pytest.raises(InvalidTask, match="once"):
        shown(capsys, "tasks", empty, "--queue", "a", "--queue", "b")


RECENT = [
    RecentRow("id-1", "myapp.f", "all", FAILED, 2, 1.0, 10.0, 12.5, "host:7", "1, b=2", EVIL),
    RecentRow("id-2", "myapp.g", "low", SUCCESS, 1, 1.0, 10.0, 10.0, "", "", ""),
]


def test_recent(capsys):
    gator = gator_with(recent=RECENT)
    code, lines = shown(capsys, "recent", gator, "--state", "failed", "--function", "myapp.f")
    assert code == 0
    assert gator.asked == [("recent", (50, "myapp.f", "failed"), {})]
    assert " failed " in lines[1]
    assert " 2.5 s " in lines[1]
    assert "myapp.f(1, b=2)" in lines[1]
    assert lines[1].endswith("\\x1b[2Jgone\\nnext")
    assert lines[2].endswith("-")
    found = document(capsys, "recent", gator, "--queue", "low")
    assert [each["task_id"] for each in found["recent"]] == ["id-2"]
    assert set(found["recent"][0]) == names_of(RecentRow)
    assert found["recent"][0]["state"] == "success"


HISTORY = History(
    *("id-1", "myapp.f", "all", "1", "b=2", 5.0),
    attempts=(
        AttemptRow(10.0, 12.0, "host:7", "retried", "ValueError: x", f"Traceback\n  {EVIL}"),
        AttemptRow(20.0, None, "", "running", "", ""),
    ),
    result=None,
    revived=(15.0,),
)


def test_history(capsys):
    code, lines = shown(capsys, "history", gator_with(history=HISTORY), "id-1")
    assert code == 0
    assert lines[:3] == ["id:        id-1", "queue:     all", "call:      myapp.f(1, b=2)"]
    assert lines[4] == "result:    (none saved)"
    assert lines[5].startswith("revived:   1970-01-01 ")
    assert lines[6].startswith("attempt 1: retried, started ")
    assert lines[6].endswith(", took 2.0 s, on host:7")
    assert lines[7:11] == ["  ValueError: x", "    Traceback", "      \\x1b[2Jgone", "    next"]
    assert lines[11].startswith("attempt 2: running, started ")
    found = document(capsys, "history", gator_with(history=HISTORY), "id-1")["history"]
    assert set(found) == names_of(History)
    assert set(found["attempts"][0]) == names_of(AttemptRow)


def test_no_history_is_exit_code_1(capsys):
    none = gator_with(history=None)
    assert listing.history(none, queue_parser("history").parse_args(["x", EVIL])) == 1
    said = capsys.readouterr().err
    assert "no history of" in said
    assert "\x1b" not in said
    code, lines = shown(capsys, "history", none, "id-1", "--json")
    assert (code, json.loads("\n".join(lines))) == (1, {"history": None})


@pytest.mark.parametrize("columns", [30, 60, 100])
def test_listings_fit_a_terminal(columns, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    for command, rows in (("recent", RECENT), ("running", RUNNING), ("workers", WORKERS[:1])):
        _, lines = shown(capsys, command, gator_with(**{command: rows}))
        if columns > 60:
            assert max(map(len, lines)) <= columns
            assert len(lines) == 1 + len(rows)
        assert not any("\x1b" in line for line in lines)
