"""Test the chaos harness itself: its counts, its reports, and when it refuses to report."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from alligator.common.log import worker_logger
from alligator.common.text import describe_error
from alligator.exceptions import ConnectionLost
from alligator.execution.backend_trouble import Outage
from chaos import __main__ as chaos
from chaos import report, runner
from chaos.ledger import (
    ACKNOWLEDGED,
    ATTEMPTED,
    COMPLETED,
    FAILED,
    HANDED,
    KILLED,
    STARTED,
    Account,
    Entry,
    Ledger,
)
from chaos.load import changes_in
from chaos.loops.limits import above_limit
from chaos.loops.pauses import Pause, latest_start, started_early, started_in_pauses
from chaos.loops.rates import above_rate, share_used, starts_by_key
from chaos.loops.unique_keys import Push, lost_keys, two_pending
from chaos.overlaps import runs, unexplained
from chaos.proof import losses_seen
from chaos.rows import Row, row_of
from chaos.table import HEADER, line


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def at(monkeypatch, ledger):
    """Note things in the ledger at times of one's own choice."""

    def note(when, what, *names, pid=1):
        monkeypatch.setattr("chaos.ledger.time.time", lambda: 1000.0 + when)
        ledger.note(what, *names, pid=pid)

    return note


def promised(ledger, *names):
    ledger.note(ATTEMPTED, *names)
    ledger.note(ACKNOWLEDGED, *names)


# -- The ledger. --------------------------------------------------------------------------------


def test_nothing_noted_is_nothing_at_all(ledger):
    assert ledger.entries() == []
    assert ledger.count_completed() == 0
    assert ledger.account() == Account()


def test_every_kind_of_line_comes_back(ledger, at):
    for when, what in enumerate("TASCFK"):
        at(when, what, "a/1-x", "b,c", pid=7)
    expected = [
        Entry(what, name, 7, 1000.0 + when)
        for when, what in enumerate("TASCFK")
        for name in ("a/1-x", "b,c")
    ]
    assert ledger.entries() == expected
    account = ledger.account()
    assert account.attempted == account.acknowledged == set(account.completed) == {"a/1-x", "b,c"}
    kinds = [account.starts, account.ends, account.failures, account.kills]
    assert [[entry.what for entry in each] for each in kinds] == [
        [what] * 2 for what in (STARTED, COMPLETED, FAILED, KILLED)
    ]


def test_the_process_that_notes_is_named(ledger):
    ledger.note(STARTED, "a")
    assert ledger.entries()[0].pid == os.getpid()


def test_lost_is_what_was_acknowledged_and_never_completed(ledger):
    promised(ledger, "done", "lost", "buried")
    ledger.note(ATTEMPTED, "cut-off")
    ledger.note(STARTED, "lost")
    ledger.note(COMPLETED, "done")
    account = ledger.account()
    assert account.lost() == {"lost", "buried"}
    assert account.lost({"buried"}) == {"lost"}
    assert (account.duplicated, account.unexpected) == (0, set())


def test_duplicated_is_every_completion_after_the_first(ledger):
    promised(ledger, "once", "thrice")
    ledger.note(COMPLETED, "once", "thrice", "thrice", "thrice")
    account = ledger.account()
    assert (account.duplicated, account.lost(), account.unexpected) == (2, set(), set())


def test_unexpected_is_what_nobody_tried_to_push(ledger):
    ledger.note(ATTEMPTED, "cut-off")
    ledger.note(COMPLETED, "cut-off", "ghost")
    assert ledger.account().unexpected == {"ghost"}


@pytest.mark.parametrize("length", range(1, len("C torn 12 1000.123456")))
def test_a_torn_line_counts_as_never_written_and_spoils_no_other(ledger, length):
    promised(ledger, "torn", "tor", "whole")
    with Path(ledger.path).open("a") as file:
        file.write("\nC torn 12 1000.123456"[: length + 1])
    assert ledger.account().completed == {}
    assert ledger.count_completed() == 0
    ledger.note(COMPLETED, "whole")
    assert ledger.account().completed == {"whole": 1}
    assert ledger.count_completed() == 1
    assert ledger.account().lost() == {"torn", "tor"}


def test_counting_goes_on_where_it_ended_and_counts_each_once(ledger):
    ledger.note(COMPLETED, "a", "b")
    assert ledger.count_completed() == 2
    ledger.note(STARTED, "c")
    ledger.note(COMPLETED, "a", "c")
    assert ledger.count_completed() == 3
    assert Ledger(ledger.path).count_completed() == 3


@pytest.mark.parametrize(
    ("what", "name"), [("C", "two words"), ("C", ""), ("C", "a\nb"), ("X", "a")]
)
def test_what_could_not_be_read_back_is_not_noted(ledger, what, name):
    with pytest.raises(ValueError, match="cannot note"):
        ledger.note(what, "good", name)
    assert ledger.entries() == []


def test_waiting_for_a_line_sees_it_or_gives_up(ledger):
    assert not ledger.wait_for("7-", within=0.01)
    ledger.note(ACKNOWLEDGED, "17-1")
    assert not ledger.wait_for("7-", within=0.01)
    ledger.note(ATTEMPTED, "7-1")
    assert not ledger.wait_for("7-", within=0.01)
    ledger.note(ACKNOWLEDGED, "7-1")
    assert ledger.wait_for("7-", within=20.0)


# -- What a kill did. -----------------------------------------------------------------------------


def test_recovery_is_from_the_kill_to_the_next_start_of_what_it_interrupted(ledger, at):
    at(0, STARTED, "interrupted", "ended", "never-again", pid=1)
    at(1, COMPLETED, "ended", pid=1)
    at(0.5, STARTED, "elsewhere", pid=2)
    at(2, KILLED, "-", pid=1)
    at(3.5, STARTED, "interrupted", pid=2)
    at(4, STARTED, "ended", "elsewhere", pid=2)  # no kill had interrupted these
    at(9, STARTED, "interrupted", pid=3)  # nor is a later start the recovery
    assert ledger.account().recoveries() == [1.5]


def test_recoveries_are_sorted_and_one_for_each_kill(ledger, at):
    at(0, STARTED, "a", pid=1)
    at(1, KILLED, "-", pid=1)
    at(4, STARTED, "a", pid=2)
    at(5, KILLED, "-", pid=2)
    at(6, STARTED, "a", pid=3)
    assert ledger.account().recoveries() == [1.0, 3.0]


def test_gaps_are_of_what_ended_before_a_kill_and_ended_again(ledger, at):
    at(0, COMPLETED, "acked", "unacked", pid=1)
    at(0.25, KILLED, "-", pid=1)
    at(1, COMPLETED, "unacked", pid=2)
    at(1, COMPLETED, "alive", pid=2)
    at(2, COMPLETED, "alive", pid=3)  # twice, but no worker was killed
    assert ledger.account().gaps() == [0.25]


# -- Overlaps. ------------------------------------------------------------------------------------


def test_runs_are_those_that_came_to_an_end(ledger, at):
    at(0, STARTED, "a", "b", "c", pid=1)
    at(1, COMPLETED, "a", pid=1)
    at(2, FAILED, "b", pid=1)
    at(3, COMPLETED, "c", pid=2)  # its start was not noted
    found = runs(ledger.account())
    assert {name: [(run.began, run.ended) for run in each] for name, each in found.items()} == {
        "a": [(1000.0, 1001.0)],
        "b": [(1000.0, 1002.0)],
    }


@pytest.fixture
def overlap(ledger, at):
    """Let a task run from 0 to 5 s in one process and from 3 to 4 s in another."""
    at(0, STARTED, "a", pid=1)
    at(3, STARTED, "a", pid=2)
    at(4, COMPLETED, "a", pid=2)
    at(5, COMPLETED, "a", pid=1)
    return ledger.account()


def test_one_run_after_the_other_is_no_overlap(ledger, at):
    for began, pid in ((0, 1), (2, 2)):
        at(began, STARTED, "a", pid=pid)
        at(began + 1, COMPLETED, "a", pid=pid)
    assert unexplained(ledger.account(), [], 3.0, at_once=False) == (0, [])


@pytest.mark.parametrize(
    ("fault", "at_once", "explained"),
    [
        (None, False, False),
        ((1000.5, 1002.5), False, True),  # no lease was extended meanwhile
        ((1000.5, 1001.0), False, False),  # too short for that
        ((1003.5, 1006.0), False, False),  # it came later
        ((990.0, 999.0), False, False),  # it was long over
        ((1000.5, 1000.6), True, True),  # a lost connection is enough
        ((999.0, 999.4), True, False),
        ((1003.5, 1003.6), True, False),
    ],
)
def test_an_overlap_is_counted_and_needs_a_fault_to_explain_it(overlap, fault, at_once, explained):
    count, wrong = unexplained(overlap, [fault] if fault else [], 3.0, at_once=at_once)
    assert count == 1
    assert len(wrong) == (not explained)


# -- Rows, and how they are shown. ----------------------------------------------------------------


def test_a_row_adds_up_and_calls_losses_and_surprises_wrong(ledger):
    promised(ledger, "done", "lost", "buried")
    ledger.note(COMPLETED, "done", "done", "ghost")
    row = row_of("a loop", "redis", ledger.account(), 5, {"buried"})
    assert (row.faults, row.acknowledged, row.completed) == (5, 3, 2)
    assert (row.lost, row.duplicated, row.unexpected, row.buried) == (1, 1, 1, 1)
    assert row.wrong == ["lost ['lost']", "ran, but no producer pushed them: ['ghost']"]


def test_a_row_without_losses_is_not_wrong(ledger):
    promised(ledger, "done")
    ledger.note(COMPLETED, "done", "done")
    assert row_of("a loop", "redis", ledger.account(), 1).wrong == []


def test_a_line_has_every_figure_under_its_heading():
    row = Row("a loop", "redis", 11, 22, 33, 44, 55, 66, 77, [0.5, 1.0, 4.0], 88.2, note="so what")
    cells = {"faults": "11", "ack'd": "22", "done": "33", "lost": "44", "dup": "55"}
    cells |= {"unexp": "66", "buried": "77", "recovery": "1.00 / 4.00 s", "time": "88 s"}
    cells |= {"loop": "a loop", "backend": "redis", "note": "so what"}
    for heading, cell in cells.items():
        assert line(row)[HEADER.index(heading) :].startswith(cell)
    assert "WRONG" not in line(row)


def test_a_line_says_what_is_wrong_and_does_without_recoveries():
    row = Row("a loop", "redis", 1, 1, 0, 1, 0, 0, wrong=["lost ['a']", "late"])
    first, *rest = line(row).splitlines()
    assert first[HEADER.index("recovery") :].split() == ["-", "0", "s"]
    assert rest == ["    WRONG: lost ['a']", "    WRONG: late"]


# -- What workers say. ------------------------------------------------------------------------


def test_what_else_is_said_of_a_lost_server_is_no_change_of_its_state(capsys, monkeypatch):
    monkeypatch.setattr("alligator.execution.backend_trouble.ECHO", 0.0)
    why = ConnectionLost("The redis server cannot be reached: closed.")
    outage = Outage(worker_logger("INFO"))
    print("Task 1 is a dead letter, but its failure could not be recorded:", describe_error(why))
    for _ in range(2):
        outage.begins(why)
        print("Tasks that waited for others stay:", describe_error(why))
        outage.ends()
    assert changes_in(capsys.readouterr().out) == "-+-+"


# -- Running it. ----------------------------------------------------------------------------------


def test_a_loop_that_crashes_is_a_row_that_says_so(monkeypatch):
    def crash(environment, size):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(runner.importlib, "import_module", lambda _: SimpleNamespace(run=crash))
    row = runner.run_one("a loop", "sqlite", 3)
    assert row.wrong == ["RuntimeError: no such luck"]
    assert (row.loop, row.backend, row.faults) == ("a loop", "sqlite", 3)


def test_every_loop_says_where_and_how_often():
    found = dict(chaos.all_loops())
    assert {"worker_killed", "kill_at_each_step", "poison"} <= set(found)
    for loop in found.values():
        assert set(loop.BACKENDS) <= {"sqlite", "redis", "beanstalk", "sqs"}
        assert all(chaos.full_size(loop, backend) > 0 for backend in loop.BACKENDS)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--only", "nothing"], "invalid choice: 'nothing'"),
        (["--backend", "oracle"], "invalid choice: 'oracle'"),
        (["--only", "recovery", "--backend", "sqs"], "none of ['recovery'] runs on ['sqs']"),
        (["--scale", "0"], "--scale 0.0 is not above 0"),
        (["--scale", "nan"], "--scale nan is not above 0"),
    ],
)
def test_to_ask_for_nothing_is_an_error(argv, said, capsys):
    with pytest.raises(SystemExit) as exit_:
        chaos.main(argv)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


class Inline(ThreadPoolExecutor):
    """Runs in this process what would get one of its own."""

    def __init__(self, at_once, **_):
        super().__init__(at_once)


@pytest.fixture
def run_as(monkeypatch):
    """Let every loop find the same; return with what each was called."""
    calls = []

    def found(losses, **differing):
        def run_one(name, backend, size):
            calls.append((name, backend, size))
            figures = {"lost": 0, "duplicated": 0, "unexpected": 0, **differing}
            return Row(name, backend, size, 1, 1, **figures)

        monkeypatch.setattr(chaos, "losses_seen", lambda: losses)
        monkeypatch.setattr(chaos, "run_one", run_one)
        monkeypatch.setattr(chaos, "ProcessPoolExecutor", Inline)
        return calls

    return found


def test_of_a_client_that_loses_the_losses_are_seen():
    assert losses_seen(kills=6, patience=0.5) > 0


def test_a_blind_harness_refuses_to_report(run_as, capsys, tmp_path):
    calls = run_as(0)
    file = tmp_path / "rows.json"
    assert chaos.main(["--only", "worker_killed", "--json", str(file)]) == 2
    said = capsys.readouterr().out
    assert "The harness does not work" in said
    assert HEADER not in said
    assert calls == []
    assert not file.exists()


@pytest.mark.parametrize(
    ("figures", "code"),
    [({}, 0), ({"duplicated": 3}, 0), ({"wrong": ["late"]}, 1), ({"lost": 1}, 1)],
)
def test_the_exit_code_tells_of_losses_and_wrongs(run_as, figures, code, capsys, tmp_path):
    calls = run_as(10, **figures)
    file = tmp_path / "rows.json"
    asked = ["--only", "worker_killed", "--scale", "0.001", "--json", str(file)]
    assert chaos.main([*asked, "--backend", "redis", "--backend", "sqs"]) == code
    assert sorted(calls) == [("worker_killed", "redis", 1), ("worker_killed", "sqs", 1)]
    assert "10 losses were seen" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert [row["backend"] for row in found["rows"]] == ["redis", "sqs"]
    assert "redis-server" in found["versions"]


def test_the_table_of_the_docs_has_all_figures(tmp_path):
    rows = [
        Row("worker killed", "redis", 1000, 13_000, 12_999, 1, 7, 0, 2, recovery=[0.5, 1.0, 1.25]),
        Row("poison", "sqs", 9, 10, 10, 0, 0, 3),
    ]
    report.save(tmp_path / "rows.json", rows, "redis-server 7.0", 600.0)
    text = report.as_rst(tmp_path / "rows.json")
    assert "in 10 minutes: redis-server 7.0." in text
    assert "13,010 tasks were acknowledged and\n1 lost; 3 ran" in text
    cells = [line.strip(" *-") for line in text.splitlines()]
    first = cells.index("worker killed")
    assert cells[first : first + 9] == [
        "worker killed",
        *("redis", "1000", "13000", "12999", "1", "7", "2"),
        "1.00 / 1.25 s",
    ]


@pytest.mark.parametrize(
    ("backend", "handed", "ours", "servers"),
    [
        ("beanstalk", {"a"}, 1, 1),
        ("beanstalk", set(), 0, 2),
        ("beanstalk", None, 2, 0),
        ("redis", set(), 2, 0),
    ],
)
def test_what_a_server_lost_by_itself_is_told_apart(ledger, backend, handed, ours, servers):
    ledger.note(ATTEMPTED, "a", "b", "c")
    ledger.note(ACKNOWLEDGED, "a", "b", "c")
    ledger.note(COMPLETED, "c")
    row = row_of("x", backend, ledger.account(), 1, handed=handed)
    assert (row.lost, row.lost_by_server) == (ours, servers)
    assert bool(row.wrong) == bool(ours)


def test_handed_out_is_noted(ledger):
    ledger.note(HANDED, "a", "b")
    assert ledger.account().handed == {"a", "b"}


# -- Unique keys. --------------------------------------------------------------------------------


def test_two_pending_tasks_of_one_key_are_seen(ledger, at):
    pushes = [
        Push("k", "one", "id-1", False, 1000.0, 1000.1),
        Push("k", "two", "id-2", False, 1002.0, 1002.1),
        Push("other", "three", "id-3", False, 1002.0, 1002.1),
    ]
    at(1, STARTED, "one")
    at(1.5, COMPLETED, "one")
    at(3, STARTED, "two")
    assert two_pending(pushes, ledger.account()) == []
    at(4, STARTED, "one")
    (wrong,) = two_pending(pushes, ledger.account())
    assert wrong == "one started 1.900 s after two of k was queued"


def test_a_key_that_is_taken_by_a_task_that_is_gone_is_seen(ledger, at):
    names = {"id-1": "one"}
    duplicates = [Push("k", "dup", "id-1", True, 1000.0 + after, 1010.0) for after in (1, 2.4, 4)]
    at(1, STARTED, "one")
    at(1.5, COMPLETED, "one")
    (wrong,) = lost_keys(duplicates, ledger.account(), names)
    assert wrong == "k was taken by one, which had ended 2.500 s before"
    at(4, COMPLETED, "one")  # it was not acked, and ran again
    assert lost_keys(duplicates, ledger.account(), names) == []
    (wrong,) = lost_keys([duplicates[0]._replace(task_id="id-2")], ledger.account(), names)
    assert wrong == "k was taken by id-2, which no push queued"


# -- Pauses. -------------------------------------------------------------------------------------


def test_a_start_while_the_queue_is_paused_is_seen(ledger, at):
    pauses = [Pause(1000.0, 1003.0), Pause(1010.0, 1013.0)]
    at(0.9, STARTED, "soon")
    at(3.1, STARTED, "resumed")
    at(9.9, STARTED, "before")
    assert started_in_pauses(ledger.account(), pauses, within=1.0) == []
    assert latest_start(ledger.account(), pauses) == pytest.approx(0.9)
    at(11.5, STARTED, "late")
    (wrong,) = started_in_pauses(ledger.account(), pauses, within=1.0)
    assert wrong == "late started 1.500 s after a pause began, and 1.500 s before it ended"
    assert latest_start(ledger.account(), pauses) == pytest.approx(1.5)


def test_a_delayed_task_that_starts_before_it_is_due_is_seen(ledger, at):
    at(1, STARTED, "due", "not-delayed")
    assert started_early(ledger.account(), {"due": 1000.75}) == []
    (wrong,) = started_early(ledger.account(), {"due": 1001.25})
    assert wrong == "due started 0.250 s before it was due"


# -- Rates. --------------------------------------------------------------------------------------


def test_a_full_bucket_and_then_one_start_for_each_token_are_no_more_than_the_rate():
    starts = [1000.0] * 4 + [1000.5, 1001.0, 1001.5, 1010.0, 1010.0, 1010.0, 1010.0, 1010.5]
    assert above_rate(starts, 4, 2.0, late=0.0) == []
    assert share_used(starts, 4, 2.0) == pytest.approx(12 / 25)


@pytest.mark.parametrize(
    ("again", "above"),
    [("", ["3"]), ("0", []), ("3", []), ("4", ["3"]), ("6", ["3"])],
    ids=["none", "beside it", "itself", "of another key", "of a run that was over"],
)
def test_a_start_above_a_limit_is_wrong_where_no_lease_had_run_out(ledger, at, again, above):
    """The task of a lease that had run out starts again."""
    at(0.0, STARTED, "6", pid=4)
    at(0.5, COMPLETED, "6", pid=4)
    at(1.5, STARTED, "0", "4", pid=1)  # one of this key, one of another
    at(2.0, STARTED, "3", pid=3)
    at(2.1, COMPLETED, "3", pid=3)
    at(3.0, COMPLETED, "0", "4", pid=1)
    if again:
        at(4.0, STARTED, again, pid=5)
    assert above_limit(["3 1002.000000"], ledger.account()) == above


def test_a_task_may_start_beside_its_own_run_before_it_is_killed(ledger, at):
    at(1.0, STARTED, "3", pid=1)
    at(2.0, STARTED, "3", pid=2)
    at(2.1, COMPLETED, "3", pid=2)
    at(2.5, KILLED, "3", pid=1)
    at(4.0, STARTED, "0", pid=3)
    at(4.5, KILLED, "0", pid=3)
    at(5.0, STARTED, "0", pid=4)
    assert above_limit(["3 1002.000000"], ledger.account()) == []
    assert above_limit(["6 1004.200000"], ledger.account()) == ["6"], "a kill alone explains none"


@pytest.mark.parametrize(
    ("starts", "above"),
    [
        ([1000.0] * 5, [1000.0]),  # more than the bucket holds
        ([1000.0] * 4 + [1000.4, 1000.5], [1000.4]),  # no token had come, and then one had
        ([1000.0] * 4 + [1000.5, 1000.6], [1000.6]),
        ([1000.0] * 4 + [1002.0] * 5, [1002.0]),  # the bucket was full again
        ([1000.0 + 0.4 * number for number in range(17)], [1006.4]),  # a little too often
    ],
)
def test_a_start_above_the_rate_is_seen(starts, above):
    assert above_rate(starts, 4, 2.0, late=0.0) == above


def test_tasks_that_start_late_may_start_closer_to_each_other():
    starts = [1000.0] * 4 + [1000.4]
    assert above_rate(starts, 4, 2.0, late=0.11) == []
    assert above_rate(starts, 4, 2.0, late=0.09) == [1000.4]


def test_starts_are_told_apart_by_their_rate(ledger, at):
    at(2, STARTED, "0", "1", pid=1)
    at(1, STARTED, "6", "5", pid=2)
    expected = {"one": [1001.0, 1002.0], "four": [1002.0], "fifteen": [1001.0]}
    assert starts_by_key(ledger.account()) == expected
