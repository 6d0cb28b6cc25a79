"""What is done by the clock."""

from alligator import Gator
from social import tasks


def declare(gator: Gator) -> None:
    """Declare the schedules. Of several workers, one queues each tick."""
    gator.options(catch_up=True, retries=3, retry_delay=60).cron("0 6 * * *", tasks.write_digests)
    gator.every(600, tasks.queue_missed)
