"""Give the dashboard its permissions, and its entry in the admin."""

from typing import Any

from django.db import models


class _NoRows(models.Manager):  # type: ignore[misc]
    """Finds nothing, and asks no database: ``dumpdata`` looks at models without a table, too."""

    def get_queryset(self) -> Any:
        """Return what has no rows."""
        return super().get_queryset().none()


class Dashboard(models.Model):  # type: ignore[misc]
    """Stands for the dashboard; it has no table, so it needs no migration.

    ``alligator.view_dashboard`` lets a user look, ``alligator.change_dashboard`` lets one act. As
    all permissions, ``manage.py migrate`` makes them.
    """

    objects = _NoRows()

    class Meta:
        """What Django is told about it."""

        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "change")
        verbose_name = verbose_name_plural = "dashboard"
