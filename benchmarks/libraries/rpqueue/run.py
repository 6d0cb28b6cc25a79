"""Start an rpqueue worker: ``python -m rpqueue.run`` takes no module inside a package."""

import sys

import rpqueue

from benchmarks.libraries.rpqueue import adapter

if __name__ == "__main__":
    rpqueue.LOG_LEVEL = "ERROR"
    rpqueue.execute_tasks(processes=int(sys.argv[1]), module=adapter.__name__)
