"""The application: it declares its schedules when it is ready."""

from django.apps import AppConfig


class SocialConfig(AppConfig):
    """The social network."""

    name = "social"

    def ready(self) -> None:
        """Declare the schedules: workers queue their tasks, and the admin shows them."""
        from alligator.contrib.django import gators
        from social.schedules import declare

        declare(gators["default"])
