"""``python -m alligator`` is ``latergator.py``."""

import sys

from alligator.cli import main

if __name__ == "__main__":
    sys.exit(main())
