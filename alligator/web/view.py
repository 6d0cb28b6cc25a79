"""What a page or an action is given, and what a page returns."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

from alligator.backends.dsn import mask_password
from alligator.gator import Gator
from alligator.web.access import Access
from alligator.web.charts.recorded import History, Sampler
from alligator.web.http.messages import URL_ERRORS, Request


def _quoted(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=~", errors="replace")


@dataclass(frozen=True)
class Source:
    """A Gator that is shown, and its name in the path; ``''`` if it is the only one."""

    name: str
    gator: Gator
    sampler: Sampler = field(default_factory=Sampler, compare=False)
    history: History = field(default_factory=History, compare=False)

    @property
    def title(self) -> str:
        """The name for people: the one that was given, else the DSN without its password."""
        return self.name or mask_password(self.gator.conn_string)


@dataclass(frozen=True)
class Application:
    """What the application around a dashboard adds to its pages.

    :param home: returns URL and name of the page to go back to; None: there is none.
    :param form_fields: returns the hidden fields of each form that acts.
    """

    home: Callable[[Request], tuple[str, str] | None] | None = None
    form_fields: Callable[[Request], Mapping[str, str]] | None = None


@dataclass(frozen=True)
class View:
    """One look at one Gator.

    :param sources: the names of all Gators that are shown.
    :param now: a Unix timestamp, by which ages are told.
    :param application: what the application around the dashboard adds to its pages.
    """

    request: Request
    source: Source
    sources: tuple[str, ...]
    access: Access
    now: float = field(default_factory=lambda: time.time())
    application: Application = field(default_factory=Application)

    @cached_property
    def form_fields(self) -> Mapping[str, str]:
        """The hidden fields that the application asks for; look only where there is a form."""
        make = self.application.form_fields
        return make(self.request) if make is not None else {}

    @cached_property
    def home(self) -> tuple[str, str] | None:
        """URL and name of the page of the application to go back to."""
        make = self.application.home
        return make(self.request) if make is not None else None

    @property
    def gator(self) -> Gator:
        """The Gator that is looked at."""
        return self.source.gator

    @property
    def can_act(self) -> bool:
        """Whether actions are allowed."""
        return self.access == "all"

    @property
    def root(self) -> str:
        """The path at which the dashboard is mounted, as a URL has it, without a slash at its end.

        Never two slashes at the start: a browser would take what follows for another host.
        """
        root = self.request.root.strip("/")
        return f"/{_quoted(root)}" if root else ""

    @property
    def here(self) -> str:
        """The path and query of this page, to come back to."""
        query = self.request.query_string
        path = f"{self.root}{_quoted(self.request.path)}"
        return f"{path}?{query}" if query else path

    def url(self, path: str = "", /, source: str | None = None, **query: Any) -> str:
        """Return the URL of a page, with a query of all values that are not None or empty.

        :param path: such as ``'queue'`` or ``'do/pause'``; the empty one is the overview.
        :param source: another one of the Gators.
        """
        name = self.source.name if source is None else source
        inner = "/".join(each for each in (name if len(self.sources) > 1 else "", path) if each)
        given = {key: value for key, value in query.items() if value not in (None, "")}
        text = urlencode(given, doseq=True, errors=URL_ERRORS)
        return f"{self.root}/{inner}{'?' if text else ''}{text}"

    def static(self, name: str) -> str:
        """Return the URL of one of the files in ``static/``."""
        return f"{self.root}/static/{name}"


@dataclass(frozen=True)
class Page:
    """What is to be shown.

    :param template: a file in ``templates/``.
    :param title: of the page, for people.
    :param nav: the entry of the navigation that it belongs to; None: to none.
    :param is_live: whether it looks for news by itself.
    :param location: the URL to show instead of it.
    """

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    nav: str | None = None
    is_live: bool = False
    status: int = 200
    location: str = ""
