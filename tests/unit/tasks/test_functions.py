"""Test which functions can be tasks."""

import functools
import json
import os
import random
import subprocess
import sys

import pytest

from alligator.exceptions import BadPayload, InvalidTask
from alligator.tasks.functions import (
    check_arguments,
    check_callable,
    import_callable,
    split_name,
    wire_name,
)
from tests.support import ROOT, jobs


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (jobs.note, ("tests.support.jobs", "note")),
        (jobs.Mailer.send, ("tests.support.jobs", "Mailer.send")),
        (json.dumps, ("json", "dumps")),
        (random.choice, ("random", "choice")),
        (len, ("builtins", "len")),
    ],
)
def test_names_lead_back_to_the_function(func, name):
    assert wire_name(func) == name
    assert import_callable(*name) == func


def local():
    def inner():
        pass

    return inner


@pytest.mark.parametrize(
    "func",
    [
        lambda: 1,
        local(),
        jobs.Mailer().method,
        jobs.Mailer,
        functools.partial(jobs.note, 1),
        3,
        json,
        [],
    ],
)
def test_what_cannot_be_imported_back_is_refused(func):
    with pytest.raises(InvalidTask, match="a task must be a function"):
        check_callable(func, in_process=False)


@pytest.mark.parametrize(
    ("func", "hint"),
    [
        (3, r"gator\.task\(f, 1\) instead of gator\.task\(f\(1\)\)"),
        (None, "called already"),
        ([], "called already"),
        (local(), r"decorator made it, give its wrapper functools\.wraps"),
        (functools.partial(jobs.note, 1), r"Give the function and its arguments to task\(\)"),
    ],
)
def test_a_refusal_says_what_was_probably_meant(func, hint):
    with pytest.raises(InvalidTask, match=hint) as found:
        check_callable(func, in_process=False)
    assert str(found.value).count("Was") == (hint.count("called") or hint.count("instead"))


def test_coroutine_functions_are_tasks_and_no_hooks():
    check_callable(jobs.coroutine, in_process=False)
    assert import_callable("tests.support.jobs", "coroutine") is jobs.coroutine
    with pytest.raises(BadPayload, match="coroutine function"):
        import_callable("tests.support.jobs", "coroutine", plain=True)


SCRIPT = """
from alligator import Gator
from alligator.exceptions import InvalidTask
def f(): return "ran"
gator = Gator("locmem://")
gator.task(f)
assert gator.pop().result == "ran"
gator = Gator("sqlite://q.db")
try:
    gator.task(f)
except InvalidTask as err:
    assert "__main__" in str(err), err
else:
    raise SystemExit("was not refused")
assert gator.options(is_async=False)(f).result == "ran"
"""


def test_functions_of_main_are_for_this_process_only(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(ROOT)
    subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        check=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("myapp.tasks.resize", ("myapp.tasks", "resize")),
        ("myapp.tasks:Mailer.send", ("myapp.tasks", "Mailer.send")),
    ],
)
def test_split_name(text, parts):
    assert split_name(text) == parts


@pytest.mark.parametrize(
    "text", ["", "f", ".f", "a.", "a..b", "a b.c", "a:", ":a", "a:b:c", "a-b.c"]
)
def test_bad_names(text):
    with pytest.raises(InvalidTask, match="is not"):
        split_name(text)


def test_arguments_must_fit():
    check_arguments(jobs.on_success, [1], {"result": 2})
    check_arguments(max, [1, 2, 3], {})
    with pytest.raises(InvalidTask, match="missing a required argument: 'result'"):
        check_arguments(jobs.on_success, [1], {})
    with pytest.raises(InvalidTask, match="unexpected keyword"):
        check_arguments(jobs.on_start, [1], {"x": 2})
