"""Show the dashboard in the admin, to users with its permissions.

``alligator.view_dashboard`` lets a user look, ``alligator.change_dashboard`` lets one act. Django
imports this module if ``django.contrib.admin`` is installed. A site that is not the default one
takes the dashboard by one line::

    site.register(Dashboard, DashboardAdmin)
"""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.middleware.csrf import get_token
from django.urls import path, reverse

from alligator.common.text import shorten
from alligator.contrib.django import gators
from alligator.contrib.django.models import Dashboard
from alligator.gator import Gator

if TYPE_CHECKING:
    from alligator.web import ActionRecord, Request
    from alligator.web import Dashboard as Pages
    from alligator.web.access import Access


@admin.register(Dashboard)
class DashboardAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """The dashboard of all Gators of ``settings.ALLIGATOR``, as pages of an admin site.

    The pages bring their own style and a strict ``Content-Security-Policy``. So they stand beside
    those of the admin, and link back to it. What a user does there is in the log of the admin.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shown: list[Gator] = []
        self._pages: Pages | None = None

    def has_add_permission(self, request: Any) -> bool:
        """Return False: there is one dashboard."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """Return False."""
        return False

    def get_urls(self) -> list[Any]:
        """Return the patterns of all pages."""
        # The pages say themselves how long they may be kept.
        view = self.admin_site.admin_view(self.dashboard_view, cacheable=True)
        return [
            path("", view, name="alligator_dashboard_changelist"),
            path("<path:path>", view, name="alligator_dashboard_page"),
        ]

    def dashboard_view(self, request: Any, path: str = "") -> Any:
        """Answer a request.

        :param path: the part of the path below the dashboard.
        :raises PermissionDenied: the user may not look.
        :raises ImportError: Jinja2 is missing.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self._dashboard().django(request, path)

    def _dashboard(self) -> "Pages":
        """Return the dashboard of the Gators as the settings are now; a test may override them."""
        from alligator.web import Dashboard as Pages  # it needs Jinja2

        aliases = gators.aliases()
        found = [gators[alias] for alias in aliases]
        if self._pages is None or self._shown != found:
            self._pages = Pages(
                dict(zip(source_names(aliases), found, strict=True)),
                resolve_access=self._access,
                home=self._home,
                form_fields=_form_fields,
                on_action=_log_action,
            )
            self._shown = found
        return self._pages

    def _access(self, request: "Request") -> "Access":
        return "all" if self.has_change_permission(request.original) else "read_only"

    def _home(self, _request: "Request") -> tuple[str, str]:
        name = self.admin_site.name
        return reverse("admin:index", current_app=name), str(self.admin_site.site_header)


def source_names(aliases: Iterable[str]) -> Iterator[str]:
    """Yield the name of each alias in the paths of the dashboard, where ``Mail`` is ``mail``."""
    given = {"static", "do"}  # paths of the dashboard
    for alias in aliases:
        base = re.sub(r"[^a-z0-9_-]", "-", alias.lower())[:50].strip("_-") or "alias"
        name, number = base, 2
        while name in given:
            name, number = f"{base}-{number}", number + 1
        given.add(name)
        yield name


def _form_fields(request: "Request") -> dict[str, str]:
    return {"csrfmiddlewaretoken": get_token(request.original)}


def _log_action(request: "Request", record: "ActionRecord") -> None:
    """Write to the log of the admin who did what."""
    queues = ", ".join(record.queue_names)
    of_alias = f" of {record.source}" if record.source else ""
    tasks = ", ".join(shorten(task_id, 100) for _, task_id in record.tasks)
    LogEntry.objects.create(
        user_id=request.original.user.pk,
        content_type=ContentType.objects.get_for_model(Dashboard),
        object_id=shorten(queues, 500),
        object_repr=shorten(f"{record.title}: {queues}{of_alias}", 200),
        action_flag=DELETION if record.is_destructive else CHANGE,
        change_message=record.text + (f" Tasks: {tasks}" if tasks else ""),
    )
