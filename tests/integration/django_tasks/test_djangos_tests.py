"""Run Django's own tests of its tasks framework with Alligator as the backend."""

import json
import os
import subprocess

import pytest

from tests.integration.django_tasks import run_djangos_tests
from tests.support import ROOT
from tests.support.django_releases import PINNED, folder_of_tests, missing, python_of

_CLASS = "asserts the class of the built-in backend"
_LACKS = "asserts what the immediate backend cannot do, and Alligator can"

#: The tests that cannot pass with another backend, and why.
EXCLUDED = {
    "test_tasks.TaskTestCase.test_get_backend": _CLASS,
    "test_tasks.TaskTestCase.test_using_correct_backend": _CLASS,
    "test_dummy_backend.DummyBackendTestCase.test_using_correct_backend": _CLASS,
    "test_immediate_backend.ImmediateBackendTestCase.test_using_correct_backend": _CLASS,
    "test_immediate_backend.ImmediateBackendTestCase.test_cannot_get_result": _LACKS,
    "test_immediate_backend.ImmediateBackendTestCase.test_cannot_pass_run_after": _LACKS,
    "test_immediate_backend.ImmediateBackendTestCase.test_cannot_refresh_result": _LACKS,
}

#: How many tests each release has.
COUNTS = {"6.0.10": 76, "6.1.3": 85}


@pytest.mark.parametrize("version", PINNED)
def test_djangos_own_tests_pass(version):
    django = PINNED[version]
    if why := missing(version):
        pytest.skip(why)
    done = subprocess.run(
        [python_of(version), run_djangos_tests.__file__, folder_of_tests(django)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["django"], told["ran"], told["skipped"]) == (django, COUNTS[django], [])
    unexpected = {name: told["failed"][name] for name in told["failed"] if name not in EXCLUDED}
    assert unexpected == {}
    assert set(told["failed"]) == set(EXCLUDED)  # else it need not be excluded
