"""The slow work, as plain functions."""

import time


def resize(name: str, seconds: float = 1.0) -> str:
    """Stand for work that takes a while."""
    time.sleep(seconds)
    return f"{name} has a thumbnail"
