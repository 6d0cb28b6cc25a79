"""The dashboard: find the page or the action of a request, and answer it."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from alligator.common.text import shorten
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidTask,
    UnsupportedOption,
)
from alligator.gator import Gator
from alligator.web import access
from alligator.web.actions import ACTIONS, ActionRecord, Confirmation, Done
from alligator.web.http import asgi, django_view, static_files, wsgi
from alligator.web.http.messages import MAX_BODY, Request, Response
from alligator.web.pages import PAGES
from alligator.web.rendering import Renderer, compile_all
from alligator.web.view import Application, Page, Source, View

log = logging.getLogger(__name__)

_HTML = "text/html; charset=utf-8"

#: The header by which a page of ours asks for what changes of itself.
FRAGMENT = "x-alligator-fragment"

#: Names of sources, which stand in the path.
_SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")

#: Paths that are no pages.
_TAKEN = frozenset({"static", "do"})


class Dashboard:
    """Pages about the queues of a Gator, and actions on them.

    Mount one of :attr:`wsgi`, :attr:`asgi` and :attr:`django` in an application, or give
    :attr:`wsgi` to a server. Threads may share it.

    :param gators: the Gator, or several by the names under which they are shown: small letters,
        digits, ``-`` and ``_``.
    :param resolve_access: is given each :class:`~alligator.web.Request`, and returns
        ``'all'``, ``'read_only'``, or None, which forbids. ``request.original`` is what the
        framework calls a request. None: each visitor may look, and
        none may act.
    :param basic_auth: ``'name:password'`` that a browser has to send; None: none is asked for.
    :param every: seconds after which a page looks for news.
    :param home: is given each :class:`~alligator.web.Request` for a page, and returns URL and
        name of the page of your application to which its header links; None: it links to none.
    :param form_fields: is given the same, and returns the hidden fields that a form has to have,
        by name, such as the CSRF token of a framework.
    :param on_action: is called with the request and an
        :class:`~alligator.web.ActionRecord`, after a visitor has done something. What it raises is
        logged.
    :raises InvalidTask: there is no Gator, or one has a name that cannot stand in a path; an
        argument has no such value.
    :raises ImportError: Jinja2 is missing; install ``alligator[web]``.
    """

    def __init__(
        self,
        gators: Gator | Mapping[str, Gator],
        *,
        resolve_access: Callable[[Request], access.Access] | None = None,
        basic_auth: str | None = None,
        every: float = 3.0,
        home: Callable[[Request], tuple[str, str] | None] | None = None,
        form_fields: Callable[[Request], Mapping[str, str]] | None = None,
        on_action: Callable[[Request, ActionRecord], object] | None = None,
    ) -> None:
        self._sources = _sources_of(gators)
        self._resolve_access = resolve_access or access.read_only
        self._basic_auth = None if basic_auth is None else access.BasicAuth(basic_auth)
        if not 0.2 <= every <= 3600:
            raise InvalidTask(f"every={every!r:.60} is no number of seconds from 0.2 to 3600.")
        self._renderer = Renderer(every)
        self._application = Application(home, form_fields)
        self._on_action = on_action

    # -- The adaptors, to be mounted. -----------------------------------------------------------

    @property
    def wsgi(self) -> Callable[..., Any]:
        """The dashboard as a WSGI application."""
        return partial(wsgi.serve, self.handle)

    @property
    def asgi(self) -> Callable[..., Any]:
        """The dashboard as an ASGI application."""
        return partial(asgi.serve, self.handle)

    @property
    def django(self) -> Callable[..., Any]:
        """The dashboard as a view of Django, for ``re_path('^queues/', dashboard.django)``.

        Django's own CSRF token is not asked for: see :func:`alligator.web.access.is_own`.
        """
        view = partial(django_view.serve, self.handle)
        view.csrf_exempt = True  # type: ignore[attr-defined]
        return view

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record how full the queues are, once a minute, until the end of the block.

        For a server that has the dashboard alone: else a queue that no worker sees has a depth
        only of the minutes in which a user looked at it. The first visitor need not wait, either:
        templates are compiled, and what workers recorded is being read.
        """
        compile_all()
        stop = threading.Event()
        for source in self._sources.values():
            source.history.begin(source.gator)
            look = partial(source.sampler.run, source.gator, stop.wait)
            threading.Thread(target=look, name="alligator-depths", daemon=True).start()
        try:
            yield
        finally:
            stop.set()

    # -- One request. ---------------------------------------------------------------------------

    def handle(self, request: Request) -> Response:
        """Answer a request; raise nothing."""
        try:
            response = self._answer(request)
        except Exception:
            log.exception("The dashboard failed at %s", shorten(request.path))
            response = self._message(
                request, 500, "Something went wrong here.", "The log of the dashboard has more."
            )
        headers = (*access.HEADERS, *response.headers)
        if response.status != 304:
            headers = (*headers, ("Content-Length", str(len(response.body))))
        body = b"" if request.method == "HEAD" else response.body
        return Response(response.status, body, headers)

    def _answer(self, request: Request) -> Response:
        if request.path.startswith("/static/"):
            return static_files.answer(request)
        if self._basic_auth is not None and (asks := self._basic_auth.refuse(request)):
            return asks
        allowed = access.resolve(self._resolve_access, request)
        if allowed is None:
            return self._message(request, 403, "You may not see this dashboard.")
        if request.method not in ("GET", "HEAD", "POST"):
            return self._message(request, 405, "This is no page to do that with.")
        source, path = self._source_of(request.path)
        view = View(request, source, tuple(self._sources), allowed, application=self._application)
        try:
            if path.startswith("do/"):
                return self._act(view, path.removeprefix("do/"))
            return self._show(view, path)
        except ConnectionLost as err:
            return self._problem(view, 503, "The queue cannot be reached.", str(err))
        except UnsupportedOption as err:
            return self._problem(view, 200, "This backend cannot tell.", str(err))
        except AlligatorException as err:
            return self._problem(view, 400, "That does not work.", str(err))

    def _source_of(self, path: str) -> tuple[Source, str]:
        """Return which Gator a path is about, and the rest of the path."""
        rest = path.strip("/")
        first, _, after = rest.partition("/")
        if first in self._sources and len(self._sources) > 1:
            return self._sources[first], after
        return next(iter(self._sources.values())), rest

    def _show(self, view: View, path: str) -> Response:
        page = PAGES.get(path)
        if page is None:
            return self._problem(view, 404, "There is no such page.", shorten(path))
        if view.request.method == "POST":
            return self._problem(view, 405, "This page only shows.", shorten(path))
        with view.source.history.page():
            found = page(view)
        if found.location:
            return Response(303, b"", (("Location", found.location), ("Cache-Control", "no-store")))
        return self._rendered(view, found)

    def _rendered(self, view: View, page: Page) -> Response:
        is_fragment = FRAGMENT in view.request.headers
        body = self._renderer.render(view, page, is_fragment=is_fragment)
        headers = [
            ("Content-Type", _HTML),
            ("Cache-Control", "no-cache, private"),
            ("Vary", "Cookie"),
        ]
        if is_fragment:
            tag = self._renderer.tag(body)
            headers.append(("ETag", tag))
            if tag in view.request.headers.get("if-none-match", ""):
                return Response(304, b"", tuple(headers))
        return Response(page.status, body.encode("utf-8", "replace"), tuple(headers))

    def _act(self, view: View, name: str) -> Response:
        action = ACTIONS.get(name)
        if action is None:
            return self._problem(view, 404, "There is no such action.", shorten(name))
        if view.access != "all":
            return self._problem(
                view, 403, "You may only look here.", "Actions are not allowed for you."
            )
        if view.request.method != "POST":
            return self._rendered(view, Confirmation(action, view).page())
        if not access.is_own(view.request):
            return self._problem(
                view,
                403,
                "That came from another site.",
                "Open the dashboard itself, and try again.",
            )
        if len(view.request.body) > MAX_BODY:
            return self._problem(view, 413, "That is too much.", f"At most {MAX_BODY:,} bytes.")
        try:
            done = action.do(view, view.request.form)
        except ConnectionLost as err:
            self._record(view, name, Done(f"It broke off, and may be done in part: {err}"))
            raise
        self._record(view, name, done)
        return self._rendered(view, action.page(view, done))

    def _record(self, view: View, name: str, done: Done) -> None:
        """Tell the application what was done; that it cannot note it undoes nothing."""
        if self._on_action is None or not done.is_done:
            return
        action = ACTIONS[name]
        queue_names = done.queue_names or tuple(view.request.form.get("queue", ()))
        record = ActionRecord(
            name,
            action.title,
            done.text,
            view.source.name,
            queue_names,
            done.changed,
            action.is_destructive,
        )
        try:
            self._on_action(view.request, record)
        except Exception:
            log.exception("The dashboard did %r, and could not record it: %s", name, done.text)

    def _problem(self, view: View, status: int, title: str, text: str = "") -> Response:
        values = {"text": shorten(text, 1000)}
        return self._rendered(view, Page("problem.html", title, values, status=status))

    def _message(self, request: Request, status: int, title: str, text: str = "") -> Response:
        """Answer where no view could be made; any visitor may see it, so it names no DSN."""
        gator = next(iter(self._sources.values())).gator
        view = View(request, Source("Alligator", gator), (), "read_only")
        page = Page("problem.html", title, {"text": text}, status=status)
        body = self._renderer.render(view, page, is_fragment=False).encode("utf-8", "replace")
        return Response(status, body, (("Content-Type", _HTML), ("Cache-Control", "no-store")))


def _sources_of(gators: Gator | Mapping[str, Gator]) -> dict[str, Source]:
    named = {"": gators} if isinstance(gators, Gator) else dict(gators)
    if not named:
        raise InvalidTask("The dashboard has no Gator to show; give it one.")
    for name, gator in named.items():
        if not isinstance(gator, Gator):
            raise InvalidTask(f"{gator!r:.60} is no Gator; the dashboard shows nothing else.")
        if len(named) > 1 and (name in _TAKEN or not _SOURCE_NAME.fullmatch(name)):
            raise InvalidTask(
                f"{name!r:.60} is no name for a part of the dashboard; use small letters, digits, "
                "'-' and '_', and not 'static' or 'do'."
            )
    return {name: Source(name, gator) for name, gator in named.items()}
