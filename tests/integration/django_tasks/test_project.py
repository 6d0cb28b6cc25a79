"""Test a project with tasks as its developer runs it: ``manage.py``, on each Django there is."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.django_releases import PINNED, missing, python_of

SETTINGS = """
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parent.parent
SECRET_KEY = "of the tests"
DEBUG = USE_TZ = True
INSTALLED_APPS = ["alligator.contrib.django", "shop"]
if not find_spec("django.tasks"):
    INSTALLED_APPS.append("django_tasks")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "db.sqlite3"}}
ALLIGATOR = {"DSN": f"sqlite://{FOLDER}/queue.db"}
TASKS = {
    "default": {
        "BACKEND": "alligator.contrib.django.AlligatorBackend",
        "QUEUES": ["default", "letters"],
    }
}
"""

TASKS = """
from alligator.contrib.django.tasks_framework import framework


@framework.task(queue_name="letters", takes_context=True)
def greet(context, name):
    if context.attempt == 1:
        raise ValueError("not yet")
    return f"Hello {name}, {context.attempt}"


greet = greet.using(retries=1)  # Django 6.0 takes no options of a backend in the decorator


@framework.task
async def shout(name):
    return name.upper()
"""

PROGRAM = """
import os
from io import StringIO

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"

import django
from django.core.management import call_command

django.setup()
out = StringIO()
call_command("check", stdout=out)
assert "no issues" in out.getvalue()

from shop.tasks import greet, shout

one, other = greet.enqueue("Ada"), shout.using(priority=5).enqueue("bob")
call_command("latergator", burst=True)
one.refresh()
other.refresh()
print(one.status, one.return_value, [each.exception_class.__name__ for each in one.errors])
print(other.return_value, other.attempts)
"""


@pytest.fixture
def run(tmp_path):
    """Run the program above in a project in ``tmp_path``; return what it prints."""

    def run_with(python, settings=SETTINGS):
        files = {"mysite/settings.py": settings, "shop/tasks.py": TASKS, "program.py": PROGRAM}
        files |= {"mysite/__init__.py": "", "shop/__init__.py": ""}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        return subprocess.run(
            [python, "program.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
        )

    return run_with


@pytest.mark.parametrize("version", ["this", *PINNED])
def test_a_task_from_its_declaration_to_its_result(run, version):
    if version != "this" and (why := missing(version)):
        pytest.skip(why)
    done = run(sys.executable if version == "this" else python_of(version))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [
        "SUCCESSFUL Hello Ada, 2 ['ValueError']",
        "BOB 1",
    ]


def test_a_mistake_in_the_settings_is_told_by_check(run):
    wrong = SETTINGS.replace('"QUEUES": [', '"OPTIONS": {"ALIAS": "defualt"}, "QUEUES": [')
    done = run(sys.executable, wrong)
    assert "SystemCheckError" in done.stderr
    said = "TASKS['default']: ALLIGATOR has no alias 'defualt'. Did you mean 'default'?"
    assert f"(alligator.tasks.E001) {said}" in done.stderr
