"""Write down the controls of a task, for the backends that keep them beside its data."""

import json

from alligator.backends.types import ControlledMessage, Controls, Message, controls_of


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


def unique_key(message: Message) -> str:
    """Return the unique key of a message; '': it has none."""
    controls = controls_of(message)
    return "" if controls is None else controls.unique_key


def debounced(message: ControlledMessage, since: float, now: float) -> ControlledMessage:
    """Return a message with the delay that its ``debounce`` gives it; see ``Client.push_many``.

    :param since: when its key was taken, a Unix timestamp in seconds, as ``now`` is.
    """
    controls = message.controls
    if not controls.debounce:
        return message
    until = min(now + controls.debounce, since + controls.debounce_max)
    return message._replace(delay_until=max(message.delay_until or 0.0, until))
