"""Work on a queue of Django tasks in its own process: ``worker.py DSN QUEUE CONCURRENCY LEASE``."""

import sys

import django
from django.conf import settings

BACKEND = "alligator.contrib.django.AlligatorBackend"


def main(dsn, queue, concurrency, lease):
    settings.configure(
        DATABASES={},
        TASKS={"default": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": {"DSN": dsn}}},
        USE_TZ=True,
    )
    django.setup()
    from alligator import Worker
    from alligator.contrib.django.tasks_framework import framework

    gator = framework.task_backends["default"].gator
    options = {"concurrency": int(concurrency), "lease": float(lease)}
    Worker(gator, to_consume=queue, **options).run_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
