"""Push by the public call until stopped: ``python -m benchmarks.scale.producer DSN``."""

import sys

from alligator import Gator
from benchmarks.scale.environment import QUEUE
from benchmarks.tasks import tick

if __name__ == "__main__":
    gator = Gator(sys.argv[1], QUEUE)
    while True:
        gator.task(tick, 1, "abc", x=2)
