"""Name the Gators of a Django project on a command line.

::

    $ DJANGO_SETTINGS_MODULE=mysite.settings latergator.py status \
          --app alligator.contrib.django.command_line:default

To import this module sets Django up.
"""

from copy import copy

import django
from django.apps import apps

from alligator.contrib.django import gators
from alligator.gator import Gator

if not apps.ready:
    django.setup()


def __getattr__(alias: str) -> Gator:
    """Return a copy of the Gator of an alias, which the command line may change.

    Tasks of the project go on using ``gators[alias]``, on its own queue.
    """
    if alias.startswith("__"):
        raise AttributeError(alias)
    return copy(gators[alias])
