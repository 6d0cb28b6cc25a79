"""Applications of real frameworks, each with a dashboard mounted, served on this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import quote

import uvicorn
from cheroot import wsgi
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.urls import include, path, re_path
from fastapi import FastAPI
from flask import Flask, request, session
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request as StarletteRequest
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.support import django_settings

#: Which visitors may do what, by the name that they sign in with.
MAY = {"ada": "all", "bob": "read_only"}

#: Where the dashboard is mounted in each application.
PREFIX = "/back office/queues-é"


def user_of_flask(app: Flask) -> Callable[[Any], Any]:
    """Return a resolver that reads the session of Flask."""

    def resolve(seen: Any) -> Any:
        with app.request_context(seen.original):
            return MAY.get(session.get("user", ""))

    return resolve


def user_of_starlette(seen: Any) -> Any:
    """Read the session of Starlette."""
    return MAY.get(StarletteRequest(seen.original).session.get("user", ""))


def user_of_django(seen: Any) -> Any:
    """Read the session of Django."""
    return MAY.get(seen.original.session.get("user", ""))


@contextmanager
def served_by_cheroot(application: Any) -> Iterator[str]:
    """Serve a WSGI application."""
    server = wsgi.Server(("127.0.0.1", 0), application, 4)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.stop()
        thread.join(10)


@contextmanager
def served_by_uvicorn(application: Any, **options: Any) -> Iterator[str]:
    """Serve an ASGI application."""
    config = uvicorn.Config(application, port=0, log_level="warning", ws="none", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "it does not start"
        time.sleep(0.01)
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def flask_site(dashboard: Callable[[Any], Any]) -> Iterator[str]:
    """Serve a Flask application; yield its address.

    :param dashboard: makes the dashboard with this resolver.
    """
    app = Flask("site")
    app.secret_key = "only for tests"

    @app.post("/login")
    def login() -> str:
        session["user"] = request.form["user"]
        return "hello"

    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {_as_wsgi(PREFIX): dashboard(user_of_flask(app)).wsgi}
    )
    with served_by_cheroot(app) as address:
        yield address


def _as_wsgi(text: str) -> str:
    return text.encode().decode("latin-1")


@contextmanager
def fastapi_site(dashboard: Callable[[Any], Any], **options: Any) -> Iterator[str]:
    """Do the same with FastAPI."""
    app = FastAPI(**options)

    @app.post("/login")
    async def login(request: StarletteRequest) -> str:
        request.session["user"] = (await request.body()).decode().partition("=")[2]
        return "hello"

    app.mount(PREFIX, dashboard(user_of_starlette).asgi)
    app.add_middleware(SessionMiddleware, secret_key="only for tests")
    with served_by_uvicorn(app) as address:
        yield address


def configure_django(dashboard: Callable[[Any], Any]) -> None:
    """Configure Django, once in a process, with the dashboard at two places."""
    mounted = dashboard(user_of_django)
    urls = ModuleType("tests.support.urls_of_a_site")
    prefix = PREFIX.lstrip("/")
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("login", login_of_django),
        re_path(f"^{prefix}/", mounted.django),
        path("by-path/", mounted.django),
        path("by-path/<path:path>", mounted.django),
        path("team/<int:number>/", include([re_path("^tasks/", mounted.django)])),
    ]
    django_settings.configure()
    settings.ROOT_URLCONF = urls


def login_of_django(request: Any) -> Any:
    """Sign in."""
    from django.http import HttpResponse

    request.session["user"] = request.POST["user"]
    return HttpResponse("hello")


login_of_django.csrf_exempt = True  # type: ignore[attr-defined]


@contextmanager
def django_site(dashboard: Callable[[Any], Any]) -> Iterator[str]:
    """Do the same with Django, by WSGI."""
    configure_django(dashboard)
    with served_by_cheroot(get_wsgi_application()) as address:
        yield address


@contextmanager
def django_asgi_site(dashboard: Callable[[Any], Any]) -> Iterator[str]:
    """Do the same with Django, by ASGI."""
    configure_django(dashboard)
    with served_by_uvicorn(get_asgi_application(), lifespan="off") as address:
        yield address


def in_url(text: str) -> str:
    """Return a path as it stands in a URL."""
    return quote(text, safe="/'()~")
