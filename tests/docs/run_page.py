"""Run the Python of one page from top to bottom: ``run_page.py PAGE DSN``.

The current directory is a copy of ``project/``. A block that begins with a comment such as
``# myapp/tasks.py`` becomes that file, and is imported; the others share one namespace.
After the last block, ``CHECKS`` looks at what the page has done.
"""

import http.client
import importlib
import inspect
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alligator import Gator, Worker
from tests.docs.snippets import blocks

_FILE = re.compile(r"# ([\w/]+)\.py\n")


def substitutions(page_dsn: str) -> dict[str, str]:
    """Return what a DSN in a page is at run time: the server or the folder of this test.

    Only what connects needs to be here: a Gator that is merely made connects to nothing.
    """
    return {
        "redis://localhost:6379/0": page_dsn,
        "'redis://localhost:'": repr(page_dsn),
        "sqlite:///tmp/": f"sqlite://{Path.cwd()}/",
    }


def substitute(text: str, page_dsn: str) -> str:
    """Return the code as it is run here."""
    meant = substitutions(page_dsn)
    return re.sub("|".join(map(re.escape, meant)), lambda match: meant[match[0]], text)


def run_until_empty(run_forever: Callable[[Worker], int]) -> Callable[[Worker], int]:
    """Let ``run_forever`` of a page end: it stops once the queue is empty."""

    @wraps(run_forever)
    def run(worker: Worker) -> int:
        worker.burst = True
        return run_forever(worker)

    return run


def set_up_django(page_dsn: str) -> SimpleNamespace:
    """Make the tutorial's site real, and return a user with two followers."""
    settings = Path("mysite/settings.py")
    settings.write_text(substitute(settings.read_text(), page_dsn))
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from sosocial.models import Follow, Post

    call_command("migrate", run_syncdb=True, verbosity=0)
    user = User.objects.create(username="ada")
    for name in ("bob", "eve"):
        Follow.objects.create(user=user, email=f"{name}@example.com")
    return SimpleNamespace(user=user, post=Post.objects.create(message="hello"))


#: What the admin needs.
_ADMIN = """
INSTALLED_APPS += [
    f"django.contrib.{name}" for name in ("admin", "messages", "sessions", "staticfiles")
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                f"django.{name}"
                for name in (
                    "template.context_processors.request",
                    "contrib.auth.context_processors.auth",
                    "contrib.messages.context_processors.messages",
                )
            ]
        },
    }
]
STATIC_URL = "static/"
ROOT_URLCONF = "mysite.urls"
ALLOWED_HOSTS = ["localhost", "testserver"]
"""

#: Put after the settings of the page, whose mail is printed.
_MAIL = """
EMAIL_BACKEND = f"django.core.mail.backends.{'filebased' if MAIL_FOLDER else 'locmem'}.EmailBackend"
"""


def set_up_page_of_django(page: Path, page_dsn: str) -> dict[str, Any]:
    """Put the first block of the page into the settings, as it says; return the settings."""
    settings, views = Path("mysite/settings.py"), Path("myapp/urls.py")
    first = next(block for block in blocks(page) if block.language == "python")
    settings.write_text(settings.read_text() + _ADMIN + substitute(first.code, page_dsn) + _MAIL)
    views.write_text(
        "from django.urls import path\n\nfrom myapp import async_views, sites, views\n\n"
        "urlpatterns = [\n"
        "    path('signup/', views.signup),\n"
        "    path('remind/<int:user_id>', async_views.remind),\n"
        "    path('staff/', sites.staff.urls),\n"
        "]\n"
    )
    set_up_django(page_dsn)
    from django.conf import settings as found

    gators().reset()
    return {name: getattr(found, name) for name in ("INSTALLED_APPS", "DATABASES")}


def gators() -> Any:
    """Return the Gators of the project."""
    from alligator.contrib.django import gators

    return gators


def set_up_page_of_tasks(page: Path, page_dsn: str) -> None:
    """Put the first block of the page into the settings, and let this Django have the framework."""
    settings = Path("mysite/settings.py")
    first = next(block for block in blocks(page) if block.language == "python")
    settings.write_text(settings.read_text() + substitute(first.code, page_dsn))
    set_up_django(page_dsn)
    from alligator.contrib.django.tasks_framework import framework

    sys.modules["django.tasks"] = framework  # on Django before 6, django_tasks


def check_django_tasks(names: dict[str, Any]) -> None:
    """Run what the page has enqueued, and the tests of the page."""
    from unittest import TestLoader, TextTestRunner

    from asgiref.sync import async_to_sync
    from django.core import mail
    from django.core.management import call_command
    from django.test import AsyncRequestFactory
    from django.test.utils import setup_test_environment

    setup_test_environment()
    request = AsyncRequestFactory().get("/")
    assert async_to_sync(names["welcome"])(request, names["user"].pk).status_code == 200
    call_command("latergator", burst=True)
    assert [each.to for each in mail.outbox] == [["grace@example.com"]] * 3
    assert names["state_of"](names["result"].id) == "grace@example.com"
    names["second"].refresh()
    assert names["second"].return_value == "report 7, attempt 1"
    names["later"].refresh()
    assert (names["later"].status, names["later"].task.priority) == ("READY", -50)
    tests = TestLoader().loadTestsFromName("myapp.test_tasks")
    result = TextTestRunner().run(tests)
    assert (result.testsRun, result.wasSuccessful()) == (2, True)


def check_django(names: dict[str, Any]) -> None:
    """Sign up, run a worker as the page says, and run the test of the page."""
    from asgiref.sync import async_to_sync
    from django.conf import settings
    from django.test import AsyncRequestFactory, Client

    gators()["default"].run_all()  # what the page itself has pushed
    assert names["User"].objects.filter(username="mary").exists(), "the page signs her up"
    with settings_of(ROOT_URLCONF="myapp.urls"):
        answer = Client().post("/signup/", {"name": "lin", "email": "lin@example.com"})
    assert answer.content == b"You will get a mail."
    boss, visitor = names["User"].objects.create_superuser("boss"), Client()
    visitor.force_login(boss)
    with settings_of(ROOT_URLCONF="myapp.urls"):
        assert b"/staff/alligator/dashboard/" in visitor.get("/staff/").content
        assert b"all" in visitor.get("/staff/alligator/dashboard/queue?name=all").content
    names["MyAppConfig"].create("myapp").ready()
    (row,) = gators()["default"].schedule_rows()
    assert row.function == "myapp.nightly.clear_sessions"
    request, user = AsyncRequestFactory().get("/remind/"), names["User"].objects.get(username="lin")
    assert async_to_sync(names["remind"])(request, user.pk).status_code == 200
    folder = Path.cwd() / "mail"
    done = subprocess.run(
        [sys.executable, "manage.py", "latergator", "--burst"],
        env={**os.environ, "MAIL_FOLDER": str(folder)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, len(list(folder.iterdir()))) == (0, 2), done.stdout + done.stderr
    assert gators()["default"].dead() == []
    assert "alligator.contrib.django" in settings.INSTALLED_APPS
    done = subprocess.run(
        [sys.executable, "manage.py", "test", "myapp"], capture_output=True, text=True, timeout=50
    )
    assert "Ran 1 test" in done.stderr, done.stderr
    assert "OK" in done.stderr, done.stderr


def settings_of(**given: Any) -> Any:
    """Return a context in which Django has these settings."""
    from django.test import override_settings

    return override_settings(**given)


def check_tutorial(names: dict[str, Any]) -> None:
    """Post through the views, run workers of all three kinds, and look at the mail."""
    from django.core import mail
    from django.test import RequestFactory
    from sosocial import slow_views, views

    gator, worker = names["gator"], Worker(names["gator"])

    def post(view: Any) -> None:
        request = RequestFactory().post("/new", {"message": "see you later"})
        request.user = names["user"]
        response = view(request)
        assert (response.status_code, response.url) == (302, "/feed/")

    worker.run_forever()
    mail.outbox = []
    post(slow_views.new_post)
    assert len(mail.outbox) == 1
    post(views.new_post)
    assert len(mail.outbox) == 1, "the second view only queues its mail"
    worker.run_forever()
    assert [sorted(each.to) for each in mail.outbox] == [["bob@example.com", "eve@example.com"]] * 2

    for number, program in enumerate(
        (["manage.py", "run_tasks"], ["-m", "alligator", "--app", "sosocial.worker:gator"]), 1
    ):
        folder = Path.cwd() / f"mail-{number}"
        process = subprocess.Popen(
            [sys.executable, *program], env={**os.environ, "MAIL_FOLDER": str(folder)}
        )
        try:
            post(views.new_post)
            deadline = time.monotonic() + 20
            while not (folder.exists() and list(folder.iterdir())):
                assert time.monotonic() < deadline, f"{program} sent no mail"
                time.sleep(0.05)
        finally:
            process.terminate()
        assert process.wait(20) == 0, "SIGTERM ends it well"
        assert len(list(folder.iterdir())) == 1

    assert gator.stats()["delayed"] == 2
    assert gator.dead() == []


def check_bestpractices(names: dict[str, Any]) -> None:
    """Call the views, and see what they did."""
    from myapp import cache, mail
    from myapp.gator import gator

    request = SimpleNamespace(user=names["user"])
    names["previously_slow_view"](request)
    with socket.create_server(("127.0.0.1", 0)) as server:
        gator.options(timeout=30).task("myapp.ping.ping", "127.0.0.1", server.getsockname()[1])
        assert gator.run_all() == 111
    assert gator.stats()["delayed"] == 1, "the export came too early"
    Path("export.csv").write_text("1,2")
    assert gator.get(names["export"].task_id).result == "1,2"
    assert mail.sent[0] == ("mass", 44), "the urgent one went first"
    assert mail.sent[-1] == ("mass", 99), "the batch went last"
    assert ("welcome", names["user"].pk) in mail.sent, "queued when the transaction was through"
    names["some_view"](request)
    assert cache.rebuilt == [request.user.pk, "thing"]
    assert gator.dead() == []

    from myapp import freshtask

    looked: list[str] = []
    freshtask.close_old_connections = lambda: looked.append("at the connections")
    fresh = Gator("locmem://fresh", task_class=freshtask.FreshTask)
    fresh.task(cache.expensive_thing)
    assert (fresh.run_all(), looked) == (1, ["at the connections"])


def check_extending(names: dict[str, Any]) -> None:
    """See that the hooks ran, and that the naive client delivers."""
    import requests
    from myapp import mail, photos, utils

    assert utils.counts["feeds_imported"] == 2
    assert len(requests.asked) == 4, "a busy site was asked again, a missing one not"
    assert "Task of fetch_feeds failed." in names["logged"], "a hook with one argument"
    assert photos.made == ["other.jpg", "last.jpg", "photo.jpg"]
    assert mail.sent.count(("welcome", names["user"].pk)) == 2, "also by the naive client"
    assert any("is done after" in each for each in names["logged"]), "the LoggingWorker"
    assert "written by task" in Path("report.txt").read_text()


def run_pytest(*arguments: str) -> str:
    """Return what pytest prints."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    # The plugin by its module, whether or not the checkout is installed.
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=50)
    return done.stdout + done.stderr


def check_typing(names: dict[str, Any]) -> None:
    """Run the test that the page has written."""
    said = run_pytest("-p", "alligator.contrib.pytest_plugin", "myapp/test_prices.py")
    assert "1 passed" in said, said


def check_testing(names: dict[str, Any]) -> None:
    """Run a part of the suite that the page has inherited, and the tests that it has written."""
    run = run_pytest
    inherited = run("-k", "priority", "myapp/test_mine.py", "myapp/test_mine_on_a_server.py")
    assert " passed" in inherited, inherited
    assert "failed" not in inherited, inherited
    signup = run("-p", "alligator.contrib.pytest_plugin", "myapp/test_signup.py")
    assert "1 passed" in signup, signup
    assert "ZeroDivisionError: division by zero" in run("myapp/test_dead_letter.py")
    check_dead_letter(Path("myapp/test_dead_letter.py").read_text())


def check_dead_letter(shown: str) -> None:
    """Compare a test in the page with what is really printed."""
    from alligator.cli.show_dead_letter import as_test

    gator = Gator("locmem://dead-letter")
    gator.task("operator.truediv", 1, 0)
    gator.run_all()

    def code(source: str) -> list[str]:
        return [line for line in source.splitlines() if not line.startswith("# ")]

    assert code(as_test(gator, gator.dead()[0])) == code(shown)


def check_dashboard(names: dict[str, Any]) -> None:
    """Open the dashboard in each application as an administrator, and as a visitor."""
    from django.conf import settings
    from django.test import RequestFactory
    from django.urls import resolve
    from starlette.requests import Request

    names["gator"].task("operator.add", 1, 2)
    client = names["app"].test_client()
    assert client.get("/queues/").status_code == 403
    with client.session_transaction() as session:
        session["is_admin"] = True
    page = client.get("/queues/")
    assert (page.status_code, b"/queues/workers" in page.data) == (200, True)

    async def sign_in(request: Request) -> None:
        request.session["is_admin"] = True

    from tests.support.sites import served_by_uvicorn

    names["api"].add_api_route("/login", sign_in)
    with served_by_uvicorn(names["api"]) as address:

        def get(path: str, cookie: str = "") -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection(address, timeout=20)
            connection.request("GET", path, headers={"Cookie": cookie})
            return connection.getresponse()

        assert get("/queues/").status == 403
        cookie = get("/login").headers["Set-Cookie"].partition(";")[0]
        page = get("/queues/", cookie)
        assert (page.status, b"/queues/workers" in page.read()) == (200, True)

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"])
    for superuser, staff, status in ((True, True, 200), (False, True, 200), (False, False, 403)):
        request = RequestFactory().get("/queues/")
        request.resolver_match = found = resolve("/queues/", urlconf="myapp.urls")
        request.user = SimpleNamespace(is_superuser=superuser, is_staff=staff)
        answer = found.func(request, *found.args, **found.kwargs)
        assert answer.status_code == status
        assert (b"Actions are allowed" in answer.content) is superuser


def check_framework(server: list[str], names: dict[str, Any]) -> None:
    """Follow a page in a new folder, as a reader does, and run the tests that it has written.

    :param server: the arguments of Python that start the page's application, without the port.
    """
    from tests.support.servers.process import accepts, free_port

    names["gator"].run_all()
    folder, port = Path.cwd() / "reader", free_port()
    folder.mkdir()
    path = f"{Path.cwd()}{os.pathsep}{os.environ['PYTHONPATH']}"
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    programs = ([*server, f"--port={port}"], ["-m", "alligator", "--app", "myapp.tasks:gator"])
    log = folder / "log"
    with log.open("wb") as out:
        running = [
            subprocess.Popen([sys.executable, *each], cwd=folder, env=env, stdout=out, stderr=out)
            for each in programs
        ]
    try:
        sent = False
        deadline = time.monotonic() + 30
        while "Welcome, ada!" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
            if not sent and accepts(port):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("POST", "/signup/ada")
                sent = connection.getresponse().status in (200, 202)
                assert sent
    finally:
        for each in running:
            each.terminate()
            each.wait(20)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_signup.py"],
        env={**os.environ, "MYAPP_QUEUE": "locmem://"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def check_flask(names: dict[str, Any]) -> None:
    """Sign up, as a reader of the page does."""
    check_framework(["-m", "flask", "--app", "myapp.web", "run"], names)


def check_fastapi(names: dict[str, Any]) -> None:
    """Sign up, as a reader of the page does; then follow a task over the page's routes."""
    from fastapi.testclient import TestClient

    check_framework(["-m", "uvicorn", "myapp.api:app"], names)
    Worker.run_forever = inspect.unwrap(Worker.run_forever)  # type: ignore[method-assign]
    with TestClient(names["app"]) as client, names["worker_inside"]():
        task_id = client.post("/signup/ada").json()["id"]
        told = client.get(f"/signup/{task_id}/events").text
        assert "event: success" in told, told
        assert client.get(f"/signup/{task_id}").json() == {"letters": 3}
        assert client.get("/signup/unknown").status_code == 404


def check_asyncio(names: dict[str, Any]) -> None:
    """Ask the application, and run the test that the page has written."""
    from starlette.testclient import TestClient

    with TestClient(names["app"]) as client:
        task_id = client.post("/sums/1/2").json()["id"]
    assert names["gator"].result(task_id, 10) == 3
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "alligator.contrib.pytest_plugin", "myapp/test_sums.py"]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=50)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


CHECKS = {
    "asyncio": check_asyncio,
    "django": check_django,
    "django_tasks": check_django_tasks,
    "flask": check_flask,
    "fastapi": check_fastapi,
    "dashboard": check_dashboard,
    "tutorial": check_tutorial,
    "bestpractices": check_bestpractices,
    "extending": check_extending,
    "testing": check_testing,
    "typing": check_typing,
}


class Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(record.getMessage())


def main(page: Path, page_dsn: str) -> int:
    """Run the page and return 0; what goes wrong is raised."""
    os.environ |= {"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_ASYNC": "False"}
    os.environ["ALLIGATOR_PREFIX"] = "test"
    run_forever = Worker.run_forever
    Worker.run_forever = run_until_empty(Worker.run_forever)  # type: ignore[method-assign]
    listener = Listener()
    logging.root.addHandler(listener)
    logging.root.setLevel(logging.INFO)
    names: dict[str, Any] = {"user": SimpleNamespace(pk=7), "post": SimpleNamespace(pk=8)}
    names["logged"] = listener.lines
    if page.stem in ("tutorial", "bestpractices"):
        names |= vars(set_up_django(page_dsn))
    if page.stem == "django":
        names |= set_up_page_of_django(page, page_dsn)
    if page.stem == "django_tasks":
        set_up_page_of_tasks(page, page_dsn)
        names["INSTALLED_APPS"] = []
    if page.stem in ("results", "asyncio"):  # it waits for what a worker does meanwhile
        work = partial(run_forever, Worker(Gator(page_dsn), log_level="ERROR"))
        threading.Thread(target=work, daemon=True).start()
    ran = 0
    for block in blocks(page):
        if block.language != "python" or block.no_run:
            continue
        code = substitute(block.code, page_dsn)
        if match := _FILE.match(code):
            file = Path(match[1] + ".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
            importlib.invalidate_caches()
            module = vars(importlib.import_module(match[1].replace("/", ".")))
            names |= {name: each for name, each in module.items() if not name.startswith("__")}
        else:
            # Line numbers of the page, for readers of the traceback.
            exec(compile("\n" * (block.line - 1) + code, str(page), "exec"), names)
        ran += 1
        if page.stem == "extending" and isinstance(names.get("gator"), Gator):
            names["gator"].run_all()  # with the very classes that the block is about
    if check := CHECKS.get(page.stem):
        check(names)
    print(f"ran {ran} blocks")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
