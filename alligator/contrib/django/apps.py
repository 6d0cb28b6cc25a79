"""Describe the application that goes into ``INSTALLED_APPS``."""

from django.apps import AppConfig
from django.core import checks


class AlligatorConfig(AppConfig):  # type: ignore[misc]
    """The application ``'alligator.contrib.django'``, labeled ``alligator``."""

    name = "alligator.contrib.django"
    label = "alligator"
    verbose_name = "Alligator"
    default_auto_field = "django.db.models.AutoField"

    def ready(self) -> None:
        """Register the checks of the setting ``ALLIGATOR``."""
        from alligator.contrib.django.checks import check_settings

        checks.register(check_settings, "alligator")
