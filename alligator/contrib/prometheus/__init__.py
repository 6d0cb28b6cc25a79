"""Count tasks, and measure queues and workers, for Prometheus.

::

    from alligator.contrib.prometheus import GatorCollector, PrometheusMiddleware

    gator = Gator('redis://localhost:6379/0', middleware=[PrometheusMiddleware()])
    REGISTRY.register(GatorCollector(gator))

A worker needs neither: ``latergator.py DSN --metrics-port 9191``. All of it needs the extra
``prometheus``, ``pip install 'alligator[prometheus]'``.
"""

from alligator.exceptions import MissingDriver

try:
    import prometheus_client
except ImportError as err:
    raise MissingDriver(
        "Metrics need prometheus_client; install it: pip install 'alligator[prometheus]'"
    ) from err

from alligator.contrib.prometheus.collector import GatorCollector
from alligator.contrib.prometheus.middleware import PrometheusMiddleware

del prometheus_client

__all__ = ["GatorCollector", "PrometheusMiddleware"]
