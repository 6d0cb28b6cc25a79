"""``latergator.py dead --show`` and ``--pytest``: what is shown of a task that any program may have
written, and the test that is made of it.
"""

import ast
import json
import operator
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator import DeadTask, Gator, result_of
from alligator.cli import commands as cli
from alligator.cli import show_dead_letter
from alligator.exceptions import BadPayload, BadSignature, NotAllowed
from tests.support import ROOT

JOBS = """
class Mailer:
    @staticmethod
    def send(*args, **kwargs):
        raise ValueError(f"{args} {kwargs}")

def test_me(number, timeout=0, func=None):
    return 1 / number
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "dead_jobs.py").write_text(textwrap.dedent(JOBS))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("dead_jobs", None)


@pytest.fixture
def gator(place):
    gator = Gator(f"sqlite://{place}/q.db")
    yield gator
    gator.close()


def letter(data, **fields):
    given = {"task_id": "x", "queue_name": "all", "error": "ValueError: no", "traceback": ""}
    return DeadTask(**{"data": data, "died_at": 0.0, "attempts": 1, **given, **fields})


def message(module="dead_jobs", name="test_me", args=(), kwargs=None, **more):
    fields = {"task_id": "x", "retries": 0, "module": module, "callable": name}
    return json.dumps({**fields, "args": list(args), "kwargs": kwargs or {}, **more})


def as_test(data, **options):
    return show_dead_letter.as_test(Gator("locmem://dead-letters", **options), letter(data))


def pytest_run(place, source):
    (place / "test_generated.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "test_generated.py::" + source.partition("def ")[2].partition("(")[0]],
        cwd=place,
        env={**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def test_a_letter_is_shown_and_becomes_a_test_that_fails_as_it_did(place, gator, capsys):
    awkward = {"a b": "line\nbreak", 'quo"te': "'; import os #", "snow": "☃\ud800"}
    gator.options(task_id="first")("dead_jobs:Mailer.send", 1, None, [True, 2.5], **awkward)
    gator.options(task_id="second").task("dead_jobs.test_me", 0, timeout=3, func=4)
    gator.run_all()

    assert cli.main(["dead", gator.conn_string, "--show", "second"]) == 0
    shown = capsys.readouterr().out
    assert "id:        second\nqueue:     all\ndied:      20" in shown
    assert "\nattempts:  1\nerror:     ZeroDivisionError: division by zero\n" in shown
    assert "\n      return 1 / number\n" in shown
    assert json.loads(shown.partition("\ndata:\n")[2])["args"] == [0]

    assert cli.main(["dead", gator.conn_string, "--pytest", "second"]) == 0
    source = capsys.readouterr().out
    said = pytest_run(place, source)
    assert "ZeroDivisionError: division by zero" in said
    assert "1 failed" in said

    assert cli.main(["dead", gator.conn_string, "--pytest", "first"]) == 0
    said = pytest_run(place, capsys.readouterr().out)
    (original,) = [each for each in gator.dead() if each.task_id == "first"]
    assert "def test_Mailer_send_as_it_died():" in said
    assert "1 failed" in said
    assert "ValueError: (1, None, [True, 2.5]) {'a b': 'line\\nbreak'" in original.error
    assert original.error[:100] in said


def test_it_passes_once_the_task_is_mended(place, gator):
    gator.task("dead_jobs.test_me", 0)
    gator.run_all()
    source = show_dead_letter.as_test(gator, gator.dead()[0])
    (place / "dead_jobs.py").write_text("def test_me(number):\n    return 0\n")
    assert "1 passed" in pytest_run(place, source)


def test_no_such_letter(gator, capsys):
    gator.task("dead_jobs.test_me", 0)
    for flag in ("--show", "--pytest"):
        assert cli.main(["dead", gator.conn_string, flag, "no\nsuch"]) == 1
        assert capsys.readouterr().err == "latergator.py: no dead task 'no\\nsuch' there\n"
    with pytest.raises(SystemExit):
        cli.main(["dead", gator.conn_string, "--show", "x", "--pytest", "x"])


def test_a_letter_on_another_queue_and_older_than_the_list_is_long(gator, capsys):
    for number in range(3):
        gator.options(queue_name="low", task_id=f"dead-{number}")("dead_jobs.test_me", 0)
    Gator(gator.conn_string, "low").run_all()
    command = ["dead", gator.conn_string, "--queue", "all", "--queue", "low", "--limit", "1"]
    assert cli.main([*command, "--show", "dead-0"]) == 0
    assert "id:        dead-0\nqueue:     low\n" in capsys.readouterr().out


def test_on_every_backend(durable_gator, capsys):
    gator = durable_gator("letters")
    gator.task(operator.truediv, 1, 0)
    gator.run_all()
    deadline = time.monotonic() + 30
    while not (letters := gator.dead()):
        assert time.monotonic() < deadline, "no dead letter"
    assert show_dead_letter.print_one(gator, ["letters"], letters[0].task_id) == 0
    assert json.loads(capsys.readouterr().out.partition("\ndata:\n")[2])["args"] == [1, 0]
    assert show_dead_letter.print_one(gator, ["letters"], letters[0].task_id, as_code=True) == 0
    assert "        truediv,\n        1,\n        0,\n" in capsys.readouterr().out


def test_nothing_in_a_letter_steers_the_terminal_or_looks_like_another_field():
    shown = show_dead_letter.show(
        letter(
            b'\xff\x1b[2J{"a":\n1}',
            task_id="x\nerror:     none",
            error="V\x1b[31m\nerror: \u202e",
            traceback="line\r\nerror:     forged\n\x9b2J\u2028data:",
            died_at=float("1e300"),
        )
    )
    lines = shown.split("\n")
    assert [line.partition(":")[0] for line in lines if not line.startswith("  ")] == [
        "id",
        "queue",
        "died",
        "attempts",
        "error",
        "traceback",
        "data",
        "",
    ]
    assert all(line.isprintable() for line in lines)
    assert r"\xff\x1b[2J" in shown


@pytest.mark.parametrize(
    "data",
    [
        "not json",
        "[1]",
        b"\xff",
        message(module="os; import sys"),
        message(module="dead_jobs\nimport os"),
        message(name="test_me()"),
        message(name="test_me as x"),
        message(name=""),
        message(name="class"),
        message(module="import.dead_jobs"),
        message(name="ﬁle"),
        message(module=".dead_jobs"),
        message(module=None),
        message(name=5),
        message().replace('"args": []', '"args": {}'),
        message().replace('"kwargs": {}', '"kwargs": [1]'),
        message(args=[1]).replace("[1]", "[NaN]"),
        message(args=[1]).replace("[1]", "[" * 200 + "]" * 200),
    ],
    ids=lambda data: ascii(data)[:60],
)
def test_what_is_no_task_becomes_no_test(data):
    with pytest.raises(BadPayload):
        as_test(data)


def test_what_may_not_run_becomes_no_test():
    """The user who runs the test would run it."""
    with pytest.raises(NotAllowed):
        as_test(message(module="os", name="system", args=["true"]))
    with pytest.raises(NotAllowed):
        as_test(message(), allowed=["myapp.*"])
    with pytest.raises(BadSignature):
        as_test(message(), secret_keys=["k" * 16])


def test_a_signed_one_is_opened(place):
    gator = Gator("locmem://dead-signed", secret_keys=["k" * 16])
    gator.task("dead_jobs.test_me", 0)
    gator.run_all()
    found = gator.dead()[0]
    assert "from dead_jobs import test_me\n" in show_dead_letter.as_test(gator, found)
    with pytest.raises(BadSignature):
        show_dead_letter.as_test(gator, replace(found, queue_name="other"))
    gator.client.drop_all("all")


def test_it_is_refused_in_one_line(gator, capsys):
    gator.client.push("all", "x", message(module="os", name="system"))
    gator.run_all()
    assert cli.main(["dead", gator.conn_string, "--pytest", "x"]) == 2
    said = capsys.readouterr().err
    assert "may not run here" in said
    assert said.count("\n") == 1


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Text of all kinds: quotes, braces, line breaks, lone surrogates.
    | st.text()
    | st.text(st.characters(exclude_categories=[]), max_size=5)
    | st.sampled_from(["{module}", "'''", '"""', "\\", "%s", "\n# x", "{0!r}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(json_values, max_size=4),
    st.dictionaries(st.text(), json_values, max_size=4),
    st.text(st.characters(exclude_categories=[])),
    st.dictionaries(st.text(), json_values, max_size=2),
)
def test_whatever_it_says_it_is_one_call_with_these_arguments(args, kwargs, error, headers):
    data = message(args=args, kwargs=kwargs, options={"headers": headers})
    dead = letter(data, error=error, task_id=error, queue_name=error)
    source = show_dead_letter.as_test(Gator("locmem://dead-letters"), dead)
    assert source.isascii()
    imported, library, test = ast.parse(source).body
    assert ast.unparse(imported) == "from dead_jobs import test_me"
    assert ast.unparse(library) == "import alligator"
    (statement,) = test.body
    function, *given_args = statement.value.args
    assert function.id == "test_me"
    options = {
        each.arg: ast.literal_eval(each.value) for each in statement.value.func.value.keywords
    }
    assert options == {"is_async": False, **({"headers": headers} if headers else {})}
    assert [ast.literal_eval(each) for each in given_args] == args
    found = {}
    for each in statement.value.keywords:
        assert each.arg is None
        found |= ast.literal_eval(each.value)
    assert found == kwargs


def test_results_of_other_tasks_are_in_the_test_or_it_says_so(gator):
    from dead_jobs import Mailer

    parent = gator.options(save_results=60).task("operator.neg", 7)
    child = gator.task(Mailer.send, 1, result_of(parent), to=result_of(parent))
    gator.run_all()
    (dead,) = gator.dead()
    assert dead.task_id == child.task_id
    assert "Mailer.send,\n        1,\n        -7,\n        **{'to': -7}," in (
        show_dead_letter.as_test(gator, dead)
    )
    gator.store.forget([parent.task_id])
    text = show_dead_letter.as_test(gator, dead)
    assert "        1,\n        None,\n        **{'to': None}," in text
    assert (
        f"# Argument 1 is None here: ResultTimeout: There is no result of task {parent.id}" in text
    )
    ast.parse(text)
