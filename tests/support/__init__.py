"""What several tests use: servers on loopback, functions that serve as tasks, bad messages."""

from pathlib import Path

#: The repository.
ROOT = Path(__file__).resolve().parent.parent.parent
