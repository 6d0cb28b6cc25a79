"""Describe the application that goes into ``INSTALLED_APPS``."""

from django.apps import AppConfig


class AlligatorConfig(AppConfig):  # type: ignore[misc]
    """The application ``'alligator.contrib.django'``, labeled ``alligator``."""

    name = "alligator.contrib.django"
    label = "alligator"
    verbose_name = "Alligator"
