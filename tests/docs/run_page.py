"""Run the Python of one page from top to bottom: ``run_page.py PAGE REDIS_DSN``.

The current directory is a copy of ``project/``. A block that begins with a comment such as
``# myapp/tasks.py`` becomes that file, and is imported; the others share one namespace.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alligator import Gator, Worker
from tests.docs.snippets import blocks

_FILE = re.compile(r"# ([\w/]+)\.py\n")


def substitutions(redis_dsn: str) -> dict[str, str]:
    """Return what a DSN in a page is at run time: the server or the folder of this test."""
    return {
        "redis://localhost:6379/0": redis_dsn,
        "'redis://localhost:'": repr(redis_dsn),
        "sqlite:///tmp/": f"sqlite://{Path.cwd()}/",
    }


def run_until_empty(run_forever: Callable[[Worker], int]) -> Callable[[Worker], int]:
    """Let ``run_forever`` of a page end: it stops once the queue is empty."""

    def run(worker: Worker) -> int:
        worker.burst = True
        return run_forever(worker)

    return run


def set_up_django() -> SimpleNamespace:
    """Make the tutorial's application real, and return a user with two followers."""
    import django
    from django.conf import settings

    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "sosocial"],
        ROOT_URLCONF="sosocial.urls",
        ALLIGATOR_CONN="locmem://",
    )
    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from sosocial.models import Follow, Post

    call_command("migrate", run_syncdb=True, verbosity=0)
    user = User.objects.create(username="ada")
    for name in ("bob", "eve"):
        Follow.objects.create(user=user, email=f"{name}@example.com")
    return SimpleNamespace(user=user, post=Post.objects.create(message="hello"))


def check_tutorial(names: dict[str, Any]) -> None:
    """Post through the finished view, run the worker, and look at the mail."""
    from django.core import mail
    from django.test import RequestFactory
    from sosocial import slow_views, views

    worker = Worker(names["gator"])
    worker.run_forever()
    mail.outbox = []
    for view in (slow_views.new_post, views.new_post):
        request = RequestFactory().post("/new", {"message": "see you later"})
        request.user = names["user"]
        response = view(request)
        assert (response.status_code, response.url) == (302, "/feed/")
    assert len(mail.outbox) == 1, "the second view only queued its mail"
    worker.run_forever()
    assert [sorted(each.to) for each in mail.outbox] == [["bob@example.com", "eve@example.com"]] * 2
    assert names["gator"].stats()["delayed"] == 2
    assert names["gator"].dead() == []


def check_bestpractices(names: dict[str, Any]) -> None:
    """Call the views, and see what they did."""
    from myapp import cache, mail
    from myapp.gator import gator

    request = SimpleNamespace(user=names["user"])
    names["previously_slow_view"](request)
    assert gator.run_all() == 105
    assert mail.sent[0] == ("mass", 44), "the urgent one went first"
    assert mail.sent[-1] == ("mass", 99), "the batch went last"
    names["some_view"](request)
    assert cache.rebuilt == [request.user.pk, "thing"]
    assert gator.dead() == []


def check_extending(names: dict[str, Any]) -> None:
    """See that the hooks ran, and that the naive client delivers."""
    import requests
    from myapp import mail, photos, utils

    assert utils.counts["feeds_imported"] == 2
    assert len(requests.asked) == 3, "a busy site was asked again"
    assert photos.made == ["photo.jpg"]
    assert mail.sent.count(("welcome", names["user"].pk)) == 2, "also by the naive client"


CHECKS = {
    "tutorial": check_tutorial,
    "bestpractices": check_bestpractices,
    "extending": check_extending,
}


def main(page: Path, redis_dsn: str) -> int:
    """Run the page and return how many blocks there were."""
    os.environ |= {"ALLIGATOR_CONN": "locmem://", "ALLIGATOR_ASYNC": "False"}
    os.environ["ALLIGATOR_PREFIX"] = "test"
    Worker.run_forever = run_until_empty(Worker.run_forever)  # type: ignore[method-assign]
    names: dict[str, Any] = {"user": SimpleNamespace(pk=7), "post": SimpleNamespace(pk=8)}
    if page.stem in ("tutorial", "bestpractices"):
        names |= vars(set_up_django())
    ran = 0
    for block in blocks(page):
        if block.language != "python":
            continue
        code = block.code
        for written, meant in substitutions(redis_dsn).items():
            code = code.replace(written, meant)
        if match := _FILE.match(code):
            file = Path(match[1] + ".py")
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
            importlib.invalidate_caches()
            names |= vars(importlib.import_module(match[1].replace("/", ".")))
        else:
            # Line numbers of the page, for whoever reads the traceback.
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
