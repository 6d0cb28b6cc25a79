"""The worker: fetch, prefetch, run, heartbeat, signals; and the supervisor of several.

Imports: ``alligator.gator`` and below. Exports :class:`Worker`.
"""

from alligator.workers.worker import Worker

__all__ = ["Worker"]
