"""Write down the controls of a task, for the backends that keep them beside its data."""

import json

from alligator.backends.types import Controls


def write_controls(controls: Controls | None) -> str | None:
    """Return controls as JSON text: a list in the order of the fields; None: there are none."""
    return None if controls is None else json.dumps(list(controls), separators=(",", ":"))


def read_controls(text: str | bytes | None) -> Controls | None:
    """Return the controls of such a text; None: there are none, or another program wrote it."""
    if not text:
        return None
    try:
        return Controls(*json.loads(text))
    except (ValueError, TypeError):
        return None
