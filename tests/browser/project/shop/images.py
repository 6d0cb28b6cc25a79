"""Make pictures of products."""

import time
from pathlib import Path

WIDTHS = {"small": 320, "medium": 800, "large": 1600}


def fetch(product):
    """Fetch the photograph of a product from its supplier."""
    time.sleep(0.9 + product % 5 / 4)
    return f"photos/{product}.jpg"


def resize(path, size="medium"):
    """Make a smaller copy of a picture."""
    time.sleep(0.35)
    width = WIDTHS[size]
    if path.endswith(".tif"):
        raise OSError(f"cannot identify image file '{path}'")
    time.sleep(width / 2000)
    return f"{Path(path).with_suffix('')}-{width}.jpg"


def publish(product):
    """Show the pictures of a product in the shop."""
    time.sleep(0.08)
