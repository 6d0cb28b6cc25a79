#!/usr/bin/env python3
"""Run an Alligator worker: ``latergator.py redis://localhost:6379/0``."""

import signal
import sys

if __name__ == "__main__":
    # A stop signal that arrives this early waits until the supervisor or worker handles it.
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT))
    from alligator.cli import main

    sys.exit(main())
