"""Use Alligator in a Django project: settings, a worker command, transactions and checks.

::

    from alligator.contrib.django import gators

    gators['default'].task(send_post_email, user.pk, post.pk)

It needs the extra ``django``, and ``'alligator.contrib.django'`` in ``INSTALLED_APPS``. To import
it needs no configured settings. See :doc:`/django`.

Imports: everything but ``alligator.cli``, which only the management command imports. Exports
:data:`gators`, and ``AlligatorBackend`` for Django's tasks framework.
"""

from importlib import import_module
from typing import Any

from alligator.exceptions import MissingDriver

try:
    import django  # noqa: F401
except ImportError as err:
    raise MissingDriver(
        "alligator.contrib.django needs Django; install it: pip install 'alligator[django]'"
    ) from err

from alligator.contrib.django.gator_handler import GatorHandler

__all__ = ["gators"]

#: The Gators of ``settings.ALLIGATOR``, by alias: one per alias and process.
gators: GatorHandler = GatorHandler()


def __getattr__(name: str) -> Any:
    if name == "AlligatorBackend":  # imports the framework, which Django before 6 does not have
        return import_module("alligator.contrib.django.tasks_backend").AlligatorBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
