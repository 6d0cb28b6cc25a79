"""Test the verdict on tasks whose hooks or module raise anything."""

import sys

import pytest

from alligator import Gator, Worker
from tests.support import jobs


def run(gator):
    worker = Worker(gator, burst=True, log_level="CRITICAL")
    worker.run_forever()
    return worker


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retries", None),
        ("retries", "3"),
        ("retries", 10**9),
        ("retry_delay", "5"),
        ("retry_delay", -5),
        ("task_id", None),
        ("priority", "high"),
        ("delay_until", "soon"),
        ("func_kwargs", []),
        ("func", "os.system"),
        ("func", "no such name"),
    ],
)
def test_a_hook_that_spoils_a_task_does_not_hide_its_failure(name, value):
    gator = Gator(f"locmem://spoil-{name}-{value}")
    task = gator.options(retries=2, on_error=jobs.spoil).task(jobs.fail_with, name, value)
    gator.task(jobs.note)
    assert run(gator).tasks_complete == 1, "the next one runs"
    (letter,) = gator.dead()
    assert letter.error == "ValueError: the failure that counts"
    assert letter.task_id == task.task_id
    assert letter.data == gator.codec.encode(task, "all"), "kept as it came"


@pytest.mark.parametrize(
    ("hook", "function"),
    [
        ("on_start", jobs.press_ctrl_c),
        ("on_success", jobs.press_ctrl_c),
        ("on_success", jobs.wipe),
        ("on_error", jobs.press_ctrl_c),
        ("on_error", jobs.wipe),
    ],
)
def test_a_hook_changes_no_outcome(hook, function):
    gator = Gator(f"locmem://{hook}-{function.__name__}")
    jobs.seen.clear()
    gator.options(**{hook: function}).task(jobs.note if hook != "on_error" else jobs.fail)
    worker = run(gator)
    if hook == "on_error":
        assert [each.error for each in gator.dead()] == ["ValueError: too much"]
    else:
        assert worker.tasks_complete == 1
        assert len(jobs.seen) == 1
        assert gator.dead() == []


def bad_module(folder, body, monkeypatch):
    """Put a module into the way of imports, and out of it again."""
    (folder / "bad_module.py").write_text(body)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "bad_module", raising=False)


@pytest.mark.parametrize(
    "body", ["raise KeyboardInterrupt", "def __getattr__(name): raise KeyboardInterrupt"]
)
def test_ctrl_c_while_importing_is_about_the_worker(body, tmp_path, monkeypatch):
    bad_module(tmp_path, body, monkeypatch)
    gator = Gator(f"locmem://{tmp_path.name}")
    gator.task("bad_module.function")
    gator.task(jobs.note)
    assert run(gator).tasks_complete == 1
    assert gator.stats()["delayed"] == 1
    sys.modules.pop("bad_module", None)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("class Odd(BaseException): pass\nraise Odd", "Odd"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def __getattr__(name): raise SystemExit", "SystemExit"),
        ("def __getattr__(name): raise ValueError(name)", "ValueError: function"),
        ("import not_installed", "ModuleNotFoundError: No module named 'not_installed'"),
        ("from tests.support.jobs import not_there", "ImportError: cannot import name 'not_there'"),
        ("this is no python", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_does_not_import_is_a_failure(body, says, tmp_path, monkeypatch):
    """It is there, so that it is no deploy which is under way; and it does no harm."""
    bad_module(tmp_path, body, monkeypatch)
    gator = Gator(f"locmem://{tmp_path.name}")
    gator.task("bad_module.function")
    gator.task(jobs.note)
    assert run(gator).tasks_complete == 1
    (letter,) = gator.dead()
    assert letter.error.startswith("ImportFailed: Module 'bad_module'")
    assert says in letter.error
    assert says in letter.traceback
    assert "perhaps for a moment" not in letter.error
    sys.modules.pop("bad_module", None)


def test_ctrl_c_while_popping_reaches_the_person(tmp_path, monkeypatch):
    gator = Gator("locmem://popping")
    gator.task(jobs.press_ctrl_c)
    for take in (gator.pop, gator.run_all):
        with pytest.raises(KeyboardInterrupt):
            take()
        assert gator.revive() == 1


def test_a_long_traceback_is_cut_to_its_end():
    gator = Gator("locmem://long-traceback")
    gator.task(jobs.fail, "x" * 1_000_000)
    run(gator)
    (letter,) = gator.dead()
    assert len(letter.traceback) <= 20_001
    assert letter.error.startswith("ValueError: xxx")
