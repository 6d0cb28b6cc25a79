"""Run tasks in worker processes: fetch, run in threads, heartbeat, signals, supervisor.

Imports: ``alligator.gator`` and below. Exports :class:`Worker`.
"""

from alligator.workers.worker import Worker

__all__ = ["Worker"]
