"""Test what a policy allows, and its errors at the call. Attacks are in tests/security."""

import hmac
import logging
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from alligator import Gator, Task, Worker
from alligator.common.importing import import_guard
from alligator.common.log import safe_traceback
from alligator.exceptions import InvalidTask, NotAllowed
from alligator.security import Policy
from alligator.security.policy import Reading
from alligator.security.signing import Signer
from tests.security import victim
from tests.support import jobs

HERE = "tests.security.victim"
KEY = "k" * 32


@pytest.mark.parametrize(
    ("allowed", "module", "name"),
    [
        (None, HERE, "honest"),
        (None, HERE, "Mailer.send"),
        (None, HERE, "cached"),
        (None, HERE, "borrowed"),
        (None, HERE, "public"),
        (None, "operator", "add"),
        (None, "_operator", "add"),
        (None, "builtins", "print"),
        (None, "random", "choice"),
        (None, "math", "sqrt"),
        (None, "time", "sleep"),
        ([f"{HERE}.honest"], HERE, "honest"),
        ([f"{HERE}:Mailer.send"], HERE, "Mailer.send"),
        ([f"{HERE}.*"], HERE, "honest"),
        ([f"{HERE}.Mailer.*"], HERE, "Mailer.send"),
        (["tests.*"], HERE, "borrowed"),
        (["tests.*.victim.*"], HERE, "honest"),
        (
            [f"{HERE}.borrowed"],
            HERE,
            "borrowed",
        ),  # in the list, whatever module it is from
        (["*"], HERE, "honest"),
        (["operator.add"], "_operator", "add"),
        (["operator.*"], "operator", "add"),
        (["os.getpid"], "os", "getpid"),
        (["os.*"], "os", "getpid"),
        (["os.*"], "posix", "getpid"),
        (["os.path.*"], "os.path", "exists"),
        (["subprocess.*"], "subprocess", "run"),
        ([f"{HERE}._private"], HERE, "_private"),
        (["tests.support.jobs.*", f"{HERE}.*"], HERE, "honest"),
    ],
)
def test_what_passes(allowed, module, name):
    from alligator.tasks.functions import import_callable

    token = import_guard.set(reading := Reading(Policy(allowed)))
    try:
        function = import_callable(module, name)
    finally:
        import_guard.reset(token)
    reading.check(function)
    assert callable(function)


@pytest.mark.parametrize(
    "allowed",
    [
        "tests.*",
        b"tests.*",
        ["tests"],
        ["tests*"],
        ["tests."],
        [".tests"],
        ["te sts.x"],
        ["os.system; x"],
        [""],
        [None],
        [len],
        ["tests.[a]"],
        ["tests.?"],
    ],
    ids=repr,
)
def test_a_list_with_a_slip_in_it_is_refused_at_once(allowed):
    with pytest.raises(InvalidTask, match="allowed"):
        Gator("locmem://", allowed=allowed)


def test_an_empty_list_allows_nothing():
    with pytest.raises(NotAllowed, match="not in the list"):
        Gator("locmem://", allowed=[]).task(jobs.note)


@pytest.mark.parametrize(
    "call",
    [
        lambda gator: gator.task(os.system, "true"),
        lambda gator: gator.task("os.system", "true"),
        lambda gator: gator.task("subprocess:run", "true"),
        lambda gator: gator.task(eval, "1"),
        lambda gator: gator.task(subprocess.run, "true"),
        lambda gator: gator.task(victim._private),
        lambda gator: gator.options(on_start=os.remove).task(jobs.note),
    ],
)
def test_a_producer_is_told_at_the_call(call):
    gator = Gator("locmem://told")
    with pytest.raises(NotAllowed, match="may not run here"):
        call(gator)
    with pytest.raises(NotAllowed), gator.batch() as batch:
        batch.task(jobs.note)
        batch.task(os.system, "true")
    assert gator.len() == 0


def test_a_list_holds_for_the_producer_too():
    gator = Gator("locmem://listed", allowed=["tests.support.jobs.*"])
    gator.task(jobs.note, 1)
    for function in (victim.honest, f"{HERE}.honest"):
        with pytest.raises(NotAllowed, match="not in the list"):
            gator.task(function)
    with pytest.raises(NotAllowed, match="not in the list"):
        gator.options(on_success=victim.honest).task(jobs.note)
    assert gator.len() == 1


def test_sync_mode_is_the_callers_own_business():
    gator = Gator("locmem://sync", allowed=["tests.support.jobs.*"])
    assert gator.options(is_async=False).task(lambda: 42).result == 42


def test_pop_get_and_cancel_are_held_to_it_too():
    unrestricted = Gator("locmem://paths")
    strict = Gator("locmem://paths", allowed=["tests.support.jobs.*"])
    for take in (strict.pop, lambda: strict.get("a"), lambda: strict.cancel("a")):
        unrestricted.options(task_id="a").task(victim.honest)
        with pytest.raises(NotAllowed):
            take()
        unrestricted.client.drop_all("all")
    assert victim.called == []


def test_importing_a_module_may_itself_import():
    """The policy is for what the message names, not for what the module needs."""
    sys.modules.pop("tests.security.uses_import_attr", None)
    gator = Gator("locmem://nested", allowed=["tests.security.uses_import_attr.*"])
    gator.client.push(
        "all",
        "x",
        '{"task_id": "x", "retries": 0, "module": "tests.security.uses_import_attr",'
        ' "callable": "fine"}',
    )
    assert gator.pop().result == os.sep


# -- Signatures. --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    ["k" * 32, b"k" * 32, [], ["short"], [b"k" * 15], [None], [12345678901234567890]],
    ids=repr,
)
def test_bad_keys_are_refused_and_not_shown(keys):
    with pytest.raises(InvalidTask) as caught:
        Gator("locmem://", secret_keys=keys)
    assert "short" not in str(caught.value)
    assert "kkk" not in str(caught.value)


def test_keys_are_not_shown():
    gator = Gator("locmem://", secret_keys=[KEY])
    for shown in (repr(gator), repr(gator.signer), repr(gator.codec), str(vars(gator))):
        assert KEY not in shown


def test_signed_tasks_on_every_durable_backend(durable_gator):
    """Whatever id the backend gives, through a retry and a revival; unsigned ones end aside."""
    gator = durable_gator(f"signed-{os.getpid()}", secret_keys=[KEY])
    jobs.seen.clear()
    gator.task(jobs.note, "schräg ✓")
    with gator.options(retries=1) as opts:
        opts.task(jobs.fail)
    with gator.batch() as batch:
        batch.task(jobs.note, "2")
    assert worker(gator) == 2
    assert sorted(args for (args, _) in jobs.seen) == [("2",), ("schräg ✓",)]
    (failed,) = gator.dead()
    assert failed.error == "ValueError: too much"
    assert gator.revive() == 1
    assert worker(gator) == 0
    assert [letter.error for letter in gator.dead()] == ["ValueError: too much"]


def worker(gator):
    found = Worker(gator, log_level="CRITICAL", nap_time=0.1)
    found.burst = not gator.conn_string.startswith("sqs")
    if not found.burst:
        found.max_tasks = 3 if gator.stats()["waiting"] == 3 else 1
    found.run_forever()
    return found.tasks_complete


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_task_class_that_writes_text_or_bytes(kind):
    class Own(Task):
        def serialize(self):
            plain = super().serialize()
            return plain if kind is str else b"\xff\n" + plain.encode()

        @classmethod
        def deserialize(cls, data):
            assert isinstance(data, kind)
            return super().deserialize(data if kind is str else data[2:])

    gator = Gator(f"locmem://own-{kind}", task_class=Own, secret_keys=[KEY])
    gator.task(jobs.which_task)
    task = gator.pop()
    assert task.result == task.task_id


def test_signatures_are_compared_in_constant_time(monkeypatch):
    """By what the standard library has for it, and with every key, whichever fits."""
    compared, real = [], hmac.compare_digest
    monkeypatch.setattr(
        "alligator.security.signing.hmac.compare_digest",
        lambda a, b: compared.append(a) or real(a, b),
    )
    signer = Signer([KEY, "o" * 32])
    signer.open("q", signer.seal("q", "x", "data"))
    assert len(compared) == 2


def test_a_signature_depends_on_every_field():
    signer = Signer([KEY])
    seals = {
        signer.seal(queue, task_id, data)
        for queue in ("a", "ab")
        for task_id in ("c", "bc")
        for data in ("d", "cd")
    }
    assert len({re.search("[0-9a-f]{64}", seal)[0] for seal in seals}) == 8


# -- The command line. ----------------------------------------------------------------------------


def latergator(dsn, *flags, **environment):
    return subprocess.run(
        [sys.executable, "-m", "alligator", dsn, "--burst", *flags],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_allow_on_the_command_line(sqlite_dsn):
    gator = Gator(sqlite_dsn)
    gator.task("math.sqrt", 9)
    gator.task("operator.add", 1, 2)
    done = latergator(sqlite_dsn, "--allow", "math.sqrt", "--allow", "tests.support.jobs.*")
    assert done.returncode == 0, done.stderr
    assert "3.0" in done.stdout
    (letter,) = gator.dead()
    assert "operator.add" in letter.error
    refused = latergator(sqlite_dsn, "--allow", "math")
    assert refused.returncode == 2
    assert "'math'" in refused.stderr


def test_keys_from_the_environment(sqlite_dsn):
    signing, unsigned = Gator(sqlite_dsn, secret_keys=[KEY]), Gator(sqlite_dsn)
    signing.task("math.sqrt", 9)
    unsigned.task("math.sqrt", 16)
    done = latergator(sqlite_dsn, ALLIGATOR_SECRET_KEYS=f"{'n' * 32}, {KEY}")
    assert "3.0" in done.stdout
    assert "4.0" not in done.stdout
    assert KEY not in done.stdout + done.stderr
    (letter,) = signing.dead()
    assert "not signed" in letter.error
    for nothing in ("", " , "):  # an unset variable in a template must not open the door
        empty = latergator(sqlite_dsn, ALLIGATOR_SECRET_KEYS=nothing)
        assert empty.returncode == 2
        assert "is set, and empty" in empty.stderr
    short = latergator(sqlite_dsn, ALLIGATOR_SECRET_KEYS="hunter2hunter2")
    assert short.returncode == 2
    assert "hunter2" not in short.stderr


# -- The log. -------------------------------------------------------------------------------------

FORGED = "\n2026-01-01 00:00:00,000 alligator.workers INFO all is well \x1b[2J\x07\r"


def test_no_message_can_forge_a_line_of_the_log(capsys):
    gator = Gator("locmem://forge")
    gator.task(jobs.fail, FORGED)
    gator.client.push("all", "id" + FORGED, FORGED)
    with gator.options(on_start=jobs.broken_hook, task_id="h") as opts:
        opts.task(jobs.note)
    worker = Worker(gator, burst=True)
    worker.run_forever()
    said = capsys.readouterr().out
    assert "ValueError" in said
    assert "all is well" in said
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} alligator")
    for line in said.splitlines():
        assert not line.startswith("2026-01-01"), "a forged line"
        assert line.isprintable(), repr(line)
        assert stamp.match(line) or line.startswith("  "), repr(line)


def test_a_handler_of_ones_own_gets_the_same(caplog):
    """Through ``logging``'s propagation, whatever its formatter."""
    gator = Gator("locmem://own-handler")
    gator.task(jobs.fail, FORGED)
    with caplog.at_level(logging.INFO, "alligator.workers"):
        Worker(gator, burst=True).run_forever()
    assert "\n2026-01-01" not in caplog.text
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
def test_a_server_out_of_reach_is_logged_without_its_password(scheme, caplog):
    place = {"redis": "0", "redis+sentinel": "main/0?sentinel_password=hunter2"}[scheme]
    gator = Gator(f"{scheme}://someone:hunter2@127.0.0.1:1/{place}")
    with caplog.at_level(logging.DEBUG):
        worker = Worker(gator, log_level="DEBUG")
        thread = threading.Thread(target=worker.run_forever)
        thread.start()
        deadline = time.monotonic() + 30
        while "cannot be reached" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        worker.keep_running = False
        thread.join(30)
    assert "cannot be reached (" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_long_traceback_is_cut():
    with pytest.raises(ValueError, match="xxx") as caught:
        jobs.fail("x" * 100_000)
    assert len(safe_traceback(caught.value)) < 21_000


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no text for you")


def give_unshowable():
    return Unshowable()


def test_a_result_without_a_text_does_no_harm():
    gator = Gator("locmem://unshowable")
    gator.task(give_unshowable)
    gator.task(jobs.note)
    worker = Worker(gator, burst=True)
    worker.run_forever()
    assert worker.tasks_complete == 2
    assert gator.dead() == []
