"""Run Django's own tests of its tasks framework with Alligator as the backend.

::

    python run_djangos_tests.py FOLDER_OF_TESTS

It prints a JSON object: how many tests ran, and the failed ones by name, each with its error. It
runs on an interpreter that has Django and nothing else.
"""

import importlib
import json
import sys
import unittest

from django.conf import settings

BACKEND = "alligator.contrib.django.AlligatorBackend"

#: What the tests name, and what runs in its place.
STAND_INS = {
    "django.tasks.backends.dummy.DummyBackend": {"DSN": "locmem://djangos-tests"},
    "django.tasks.backends.immediate.ImmediateBackend": {"IMMEDIATE": True},
}

MODULES = ("test_tasks", "test_dummy_backend", "test_immediate_backend", "test_custom_backend")


def swapped(changes):
    """Return the settings of a test with Alligator as the backend."""
    if "TASKS" not in changes:
        return changes
    tasks = {}
    for alias, one in changes["TASKS"].items():
        given = STAND_INS.get(one["BACKEND"])
        tasks[alias] = one if given is None else {**one, "BACKEND": BACKEND, "OPTIONS": given}
    return {**changes, "TASKS": tasks}


def main():
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[],
        USE_TZ=True,
        **swapped({"TASKS": {"default": {"BACKEND": next(iter(STAND_INS))}}}),
    )
    import django
    from django.test import utils

    class override_settings(utils.override_settings):  # noqa: N801 - stands for Django's
        def __init__(self, **changes):
            super().__init__(**swapped(changes))

    django.setup()
    utils.setup_test_environment()
    utils.override_settings = override_settings
    django.test.override_settings = override_settings
    sys.path.insert(0, sys.argv[1])
    suite = unittest.TestSuite()
    for name in MODULES:
        module = importlib.import_module(f"tasks.{name}")
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    result = unittest.TestResult()
    suite.run(result)
    print(
        json.dumps(
            {
                "django": django.get_version(),
                "ran": result.testsRun,
                "skipped": [test.id() for test, _ in result.skipped],
                "failed": {
                    getattr(test, "test_case", test).id().removeprefix("tasks."): error
                    for test, error in result.failures + result.errors
                },
            }
        )
    )


if __name__ == "__main__":
    main()
