"""Name the queues that the worker of an alias serves."""

from django.conf import settings

from alligator.contrib.django import gators


def served_queues(alias: str) -> list[str]:
    """Return the queues of an alias, and those of Django's tasks framework that go there.

    :param alias: of ``settings.ALLIGATOR``.
    :raises AlligatorException: one of the two settings is wrong.
    """
    names = dict.fromkeys(gators.settings(alias).served)
    if getattr(settings, "TASKS", None):  # else the framework may not be installed
        from alligator.contrib.django.tasks_backend import queue_names

        names |= dict.fromkeys(queue_names(alias))
    return list(names)
