"""Test a current directory that a deploy deleted: the error is one line."""

import os
import shutil
import subprocess
import sys
import uuid

import pytest

from alligator import Gator, Worker
from alligator.common.importing import NO_DIRECTORY, current_directory
from alligator.exceptions import AlligatorException, InvalidDSN
from tests.support import ROOT, jobs

IN_DELETED = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.executable, sys.argv[1:])"


@pytest.fixture
def deleted(tmp_path, monkeypatch):
    """Be in a directory, and delete it when called."""
    place = tmp_path / "release-1"
    place.mkdir()
    monkeypatch.chdir(place)
    return lambda: shutil.rmtree(place)


@pytest.mark.parametrize(
    "argv",
    [
        ["-m", "alligator", "locmem://", "--burst"],
        ["-m", "alligator", "locmem://", "--burst", "--processes", "2"],
        ["-m", "alligator", "sqlite://relative.db", "--burst"],
        ["-m", "alligator", "status", "locmem://"],
        ["-m", "alligator", "--app", "myapp.queues:gator"],
        [str(ROOT / "bin" / "latergator.py"), "dead", "sqlite:///tmp/not-there.db"],
    ],
)
def test_the_command_line_says_so_in_one_line(tmp_path, argv):
    place = tmp_path / "gone"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", IN_DELETED, sys.executable, *argv],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"latergator.py: {NO_DIRECTORY}\n"


def test_a_relative_file_cannot_be_found_from_there(deleted):
    deleted()
    assert current_directory() == ""
    with pytest.raises(InvalidDSN, match=r"'relative\.db' cannot be followed: .* deleted"):
        Gator("sqlite://relative.db")


def test_a_worker_goes_on_with_all_that_it_can_still_find(deleted, tmp_path):
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    deleted()
    jobs.seen.clear()
    gator.task(jobs.note, 1)
    gator.task("release_1.tasks.never_imported")
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert jobs.seen == [((1,), {})]
    assert gator.stats()["delayed"] == 1, "others may have that code"
    gator.close()


def test_code_that_is_missing_for_that_is_told_with_the_reason(deleted, monkeypatch):
    monkeypatch.setattr("alligator.tasks.backoff.DEPLOY_DELAYS", ())
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    gator.task("release_1.tasks.never_imported")
    deleted()
    gator.run_all()
    (letter,) = gator.dead()
    assert letter.error.startswith("UnknownModuleError: Module 'release_1.tasks' cannot be")
    assert letter.error.endswith(NO_DIRECTORY)


def test_a_file_that_went_with_the_directory_is_out_of_reach(deleted):
    gator = Gator("sqlite://queue.db")
    gator.task(jobs.note, 1)
    deleted()
    with pytest.raises(AlligatorException, match="release-1 does not exist"):
        gator.task(jobs.note, 2)
    gator.close()
