"""Fixtures of the tests of the backend for Django's tasks framework."""

import uuid
from contextlib import contextmanager

import pytest

from alligator import Gator, Worker
from tests.support import django_settings

BACKEND = "alligator.contrib.django.AlligatorBackend"


@contextmanager
def tasks_settings(**changes):
    """Let ``TASKS`` have one backend, with these options."""
    django_settings.configure()
    from django.test import override_settings

    given = {"BACKEND": BACKEND, "QUEUES": changes.pop("queues", []), "OPTIONS": changes}
    with override_settings(TASKS={"default": given}):
        yield


@pytest.fixture(scope="session")
def jobs():
    """The module of tasks, imported with Alligator as the backend."""
    with tasks_settings(DSN="locmem://for-import"):
        from tests.integration.django_tasks import jobs

    return jobs


@pytest.fixture
def signals():
    """What was sent, as ``(name, status, id)`` of each signal."""
    from alligator.contrib.django import tasks_framework

    sent, receivers = [], {}
    for name in ("task_enqueued", "task_started", "task_finished"):

        def receive(sender, task_result, name=name, **_):
            sent.append((name.removeprefix("task_"), str(task_result.status), task_result.id))

        getattr(tasks_framework.signals, name).connect(receive)
        receivers[name] = receive
    yield sent
    for name, receive in receivers.items():
        getattr(tasks_framework.signals, name).disconnect(receive)


class Site:
    """A backend on a queue of its own."""

    def __init__(self, dsn):
        self.dsn, self.queue = dsn, f"q-{uuid.uuid4().hex[:8]}"

    @property
    def backend(self):
        from alligator.contrib.django.tasks_framework import framework

        return framework.task_backends["default"]

    @property
    def gator(self) -> Gator:
        return self.backend.gator.on_queue(self.queue)

    def enqueue(self, task, *args, **kwargs):
        return task.using(queue_name=self.queue).enqueue(*args, **kwargs)

    def work(self, **options):
        Worker(self.gator, burst=True, log_level=50, **options).run_forever()

    def run(self, task, *args, **kwargs):
        """Enqueue a task, let a worker run it, and return its result."""
        result = self.enqueue(task, *args, **kwargs)
        self.work()
        result.refresh()
        return result

    def dead(self):
        return self.gator.client.dead(self.queue, 10)


@pytest.fixture(params=["locmem", "sqlite", "redis"])
def site(request, tmp_path, jobs):
    """A site on each backend that is its own store."""
    dsn = (
        f"locmem://{tmp_path}"
        if request.param == "locmem"
        else request.getfixturevalue(f"{request.param}_dsn")
    )
    with tasks_settings(DSN=dsn):
        made = Site(dsn)
        yield made
        made.gator.client.drop_all(made.queue)


@pytest.fixture(params=["sqlite", "redis"])
def durable_site(request, jobs):
    """A site on each backend that processes may share."""
    dsn = request.getfixturevalue(f"{request.param}_dsn")
    with tasks_settings(DSN=dsn):
        made = Site(dsn)
        yield made
        made.gator.client.drop_all(made.queue)
