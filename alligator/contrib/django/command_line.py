"""Name the Gators of a Django project on a command line.

::

    $ DJANGO_SETTINGS_MODULE=mysite.settings latergator.py status \
          --app alligator.contrib.django.command_line:reports

``alligator.contrib.django:gators`` is that of the alias ``default``. To name one sets Django up.
"""

from alligator.contrib.django import gators
from alligator.gator import Gator


def __getattr__(alias: str) -> Gator:
    """Return a copy of the Gator of an alias, which the command line may change."""
    if alias.startswith("__"):
        raise AttributeError(alias)
    return gators.for_command_line(alias)
