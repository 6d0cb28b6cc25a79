#!/usr/bin/env python3
"""Run an Alligator worker: ``latergator.py redis://localhost:6379/0``."""

import sys

from alligator.cli import main

if __name__ == "__main__":
    sys.exit(main())
