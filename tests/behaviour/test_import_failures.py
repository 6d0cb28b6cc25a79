"""Test tasks whose module exists, and raises an error when it is imported.

That is no deploy under way but a failure: told with the error's own text and traceback, and
retried as failures are, by the task's own retries.
"""

import bz2
import json
import os
import shutil
import subprocess
import sys
import uuid

import pytest

from alligator import RETRYING, Gator, Worker
from alligator.constants import DELAYED
from alligator.exceptions import ImportFailed, UnknownModuleError
from alligator.testing import FakeClock
from alligator.utils import import_attr, import_module
from tests.support import ROOT, jobs
from tests.support.compressed_task import SkinnyTask

BROKEN = "raise ValueError('not set up')"
MENDED = "def double(number): return 2 * number"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module's source, and return its name."""
    name = f"m{uuid.uuid4().hex}"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which may look newer than it is
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(body):
        (tmp_path / f"{name}.py").write_text(body)
        return name

    yield write
    sys.modules.pop(name, None)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gator(clock):
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)


def work(gator, **options):
    worker = Worker(gator, log_level="CRITICAL", **{"burst": True, **options})
    worker.run_forever()
    return worker


def check(letter):
    assert letter.error.startswith("ImportFailed: Module 'm")
    assert letter.error.endswith("cannot be imported: ValueError: not set up.")
    assert BROKEN in letter.traceback, "where it was raised"


@pytest.mark.parametrize("concurrency", [1, 2])
def test_it_is_a_dead_letter_on_every_backend_and_runs_once_mended(
    durable_gator, module, concurrency
):
    gator = durable_gator(f"broken-{uuid.uuid4().hex[:8]}")
    name = module(BROKEN)
    gator.options(retries=1).task(f"{name}.double", 4)
    work(gator, burst=False, max_tasks=1, concurrency=concurrency)
    (letter,) = gator.dead()
    check(letter)
    assert letter.attempts == 2, "its one retry, and no more"
    module(MENDED)
    assert gator.revive() == 1
    assert work(gator, burst=False, max_tasks=1, concurrency=concurrency).tasks_complete == 1


@pytest.mark.parametrize("keys", [None, ["k" * 20]])
def test_its_retries_are_those_of_any_failure(clock, module, keys):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock, secret_keys=keys)
    name = module(BROKEN)
    options = {"retries": 2, "retry_delay": 60, "retry_backoff": 3, "priority": 2, "timeout": 9}
    task = gator.options(on_success=jobs.on_success, **options).task(f"{name}:double", [4])
    work(gator)
    place = gator.client.find("all", task.task_id)
    assert (place.state, place.due) == (DELAYED, clock.time() + 60)
    assert "ValueError: not set up" in gator.explain(task)
    module(MENDED)
    clock.advance(60)
    jobs.seen.clear()
    (delivery,) = gator.client.reserve(["all"]).deliveries
    again = gator.codec.decode(delivery)
    assert (again.retries, again.retried, again.retry_delay) == (1, 1, 60)
    assert (again.priority, again.timeout, again.func_args) == (2, 9, ([4],))
    gator.client.release(delivery)
    assert work(gator).tasks_complete == 1
    assert [each[2] for each in jobs.seen] == [[4, 4]], "and its hook is called"


def test_each_way_to_run_one(gator, module):
    name = f"{module(BROKEN)}.double"
    gator.options(retries=1).task(name, 1)
    assert gator.pop().status == RETRYING
    with pytest.raises(ImportFailed, match="ValueError: not set up"):
        gator.pop()
    task = gator.task(name, 2)
    with pytest.raises(ImportFailed, match="ValueError: not set up"):
        gator.get(task.task_id)
    gator.options(retries=2).task(name, 3)
    assert gator.run_all() == 3
    assert Worker(gator, log_level="CRITICAL").check_and_run_task() is False
    assert len(gator.dead()) == 3
    for letter in gator.dead():
        check(letter)
    with pytest.raises(ImportFailed, match="ValueError: not set up"):
        gator.options(is_async=False).task(name, 4)
    module(MENDED)
    assert gator.options(is_async=False).task(name, 4).result == 8
    gator.revive()
    assert gator.run_all() == 3


def test_a_hook_in_a_broken_module_is_one_too(gator, module):
    good = json.loads(gator.task(jobs.note).serialize())
    gator.client.drop_all("all")
    hook = {"module": module(BROKEN), "callable": "double"}
    good |= {"retries": 1, "options": {"on_error": hook}}
    gator.client.push("all", "x", json.dumps(good))
    work(gator)
    (letter,) = gator.dead()
    check(letter)
    assert json.loads(letter.data)["options"]["on_error"] == hook


def test_a_task_class_of_ones_own_that_imports_by_itself(module):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", task_class=SkinnyTask)
    data = {"task_id": "x", "retries": 2, "module": module(BROKEN), "callable": "double"}
    task = SkinnyTask("x", retries=2)
    task.to_call(jobs.note, 4)
    written = json.loads(bz2.decompress(task.serialize()))
    gator.client.push("all", "x", bz2.compress(json.dumps(written | data).encode()))
    assert gator.run_all() == 3
    (letter,) = gator.dead()
    check(letter)
    module(MENDED)
    gator.revive()
    assert gator.pop().result == 8


def test_what_has_expired_is_not_imported_again(gator, module, clock):
    gator.options(expires=30, retries=5, retry_delay=20).task(f"{module(BROKEN)}.double", 1)
    gator.run_all()
    clock.advance(31)
    gator.run_all()
    (letter,) = gator.dead()
    assert letter.error.startswith("Expired:")


def test_it_is_waited_for_and_told(gator_with_store, module):
    gator = gator_with_store
    task = gator.options(save_results=60).task(f"{module(BROKEN)}.double", 1)
    work(gator, burst=False, max_tasks=1)
    assert task.wait(5) is True
    with pytest.raises(Exception, match="ValueError: not set up"):
        gator.result(task)


def test_what_is_missing_is_told_apart_from_what_is_broken(module):
    name = module("import not_installed_here")
    for missing in (
        "no_such_module",
        "tests.no_such",
        f"{name}_no",
        "tests.support.jobs.note",
        "json.no",
    ):
        with pytest.raises(UnknownModuleError) as caught:
            import_module(missing)
        assert type(caught.value) is UnknownModuleError, missing
    for broken in (name, f"{name}.below"):
        with pytest.raises(ImportFailed, match="No module named 'not_installed_here'") as failed:
            import_attr(broken, "double")
        assert isinstance(failed.value.__cause__, ModuleNotFoundError)
    assert name not in sys.modules


def run(folder, *arguments, **env):
    """Run Python in a Django project; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
        | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_a_django_project_that_was_not_set_up(tmp_path):
    pytest.importorskip("django")
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tests" / "docs" / "project", project)
    source = "from sosocial.models import Post\ndef describe(): return Post._meta.label\n"
    (project / "posts.py").write_text(source)
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    gator.task("posts.describe")
    worker = ["-m", "alligator", gator.conn_string, "--burst"]

    said = run(project, *worker)
    (letter,) = gator.dead()
    assert "ImproperlyConfigured: Requested setting" in letter.error
    assert "from sosocial.models import Post" in letter.traceback
    assert "ImproperlyConfigured" in said
    assert "perhaps for a moment" not in said

    gator.revive()
    run(project, *worker, DJANGO_SETTINGS_MODULE="mysite.settings")
    (letter,) = gator.dead()
    assert "AppRegistryNotReady: Apps aren't loaded yet." in letter.error

    gator.revive()
    start = "import django, sys; django.setup(); from alligator.cli import main; main(sys.argv[1:])"
    said = run(project, "-c", start, *worker[2:], DJANGO_SETTINGS_MODULE="mysite.settings")
    assert "sosocial.Post" in said
    assert gator.dead() == []
    gator.close()
