"""Find Django's tasks framework: ``django.tasks``, or the package django-tasks on Django before 6.

Its classes are the same in both, but for the name of one exception.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from alligator.exceptions import MissingDriver


def _name() -> str:
    for name in ("django.tasks", "django_tasks"):
        if find_spec(name):
            return name
    raise MissingDriver(
        "AlligatorBackend needs Django 6, which has django.tasks; or, on an older one, the package "
        "django-tasks: pip install django-tasks"
    )


#: The package that has the framework.
NAME = _name()

framework: Any = import_module(NAME)
base: Any = import_module(f"{NAME}.base")
exceptions: Any = import_module(f"{NAME}.exceptions")
signals: Any = import_module(f"{NAME}.signals")

BaseTaskBackend: Any = import_module(f"{NAME}.backends.base").BaseTaskBackend
#: The exception of a task that cannot be; its name had an ``Error`` at its end up to 0.12.
InvalidTask: Any = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
InvalidTaskBackend: Any = (
    getattr(exceptions, "InvalidTaskBackend", None) or exceptions.InvalidTaskBackendError
)

_utils: Any = import_module("django.utils.json" if NAME == "django.tasks" else f"{NAME}.utils")
#: Makes JSON types of a value; raises TypeError or ValueError where that cannot be.
normalize_json: Any = _utils.normalize_json
