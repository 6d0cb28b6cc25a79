"""Add users to an empty database: ``manage.py add_users``."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.db import transaction

from social.models import Follow

#: The mail server of ``start.py`` refuses gone@…, and is too busy for busy@… the first time.
FOLLOWERS = ("bob", "eve", "busy", "gone")


class Command(BaseCommand):
    """Add ada, an administrator, and her followers. The password of each is the name."""

    help = "Adds ada, an administrator, and her followers, if there are no users."

    @transaction.atomic
    def handle(self, *_args: Any, **_options: Any) -> None:
        """Add them, if there are no users."""
        if User.objects.exists():
            return
        ada = User.objects.create_superuser("ada", "ada@example.com", "ada")
        for name in FOLLOWERS:
            user = User.objects.create_user(name, f"{name}@example.com", name)
            Follow.objects.create(follower=user, followed=ada)
        Follow.objects.create(follower=ada, followed=User.objects.get(username="bob"))
