"""Test that the metrics of a worker count what its tasks push by the Gators of the settings."""

import operator
from weakref import WeakSet

import pytest
from django.test import override_settings

from alligator.contrib.prometheus.exporter import count_tasks
from alligator.contrib.prometheus.middleware import PrometheusMiddleware
from tests.support import django_settings


def push_more():
    from alligator.contrib.django import gators

    for alias in ("default", "mail"):
        gators[alias].task(operator.add, 1, 1)


@pytest.fixture
def gators(monkeypatch):
    django_settings.configure()
    from alligator.contrib.django import gator_handler, gators

    monkeypatch.setattr(gator_handler, "_everywhere", [])
    monkeypatch.setattr(gator_handler, "_built", WeakSet())
    urls = {"default": {"DSN": "locmem://metrics"}, "mail": {"DSN": "locmem://metrics-of-mail"}}
    with override_settings(ALLIGATOR=urls):
        yield gators


def pushed(gator):
    (middleware,) = [e for e in gator.middleware if isinstance(e, PrometheusMiddleware)]
    samples = [e for metric in middleware._metrics.pushed.collect() for e in metric.samples]
    return sum(each.value for each in samples if each.name.endswith("_total"))


def test_pushes_of_tasks_are_counted_without_a_setting(gators):
    gators["default"].task(push_more)  # it is built before, and "mail" later
    of_worker = gators.for_command_line()
    count_tasks(of_worker)
    assert of_worker.run_all() == 2
    assert pushed(of_worker) == 2
    assert len(gators["mail"].middleware) == len(of_worker.middleware)


def test_middleware_of_the_settings_is_not_added_again(gators):
    import prometheus_client

    made = PrometheusMiddleware(prometheus_client.CollectorRegistry())
    with override_settings(ALLIGATOR={"DSN": "locmem://metrics", "MIDDLEWARE": [made]}):
        of_worker = gators.for_command_line()
        count_tasks(of_worker)
        gators["default"].task(operator.add, 1, 1)
        assert pushed(gators["default"]) == pushed(of_worker) == 1
