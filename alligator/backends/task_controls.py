"""Write down the controls of a task, and count starts against a rate.

Backends that keep controls beside the data of a task share this.
"""

import json

from alligator.backends.types import ControlledMessage, Controls, Message, controls_of

#: Seconds for which a suspect, put aside unrun, finds its place free: no other is promoted to it.
#: Else tasks of its key that are no suspects would always be there first.
PUT_ASIDE = 15.0


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


def next_start(arrival: float, now: float, controls: Controls) -> float:
    """Return when the next task of a rate key may start: now, or later.

    A bucket holds ``rate`` tokens; one more comes every ``rate_seconds / rate``. (GCRA: the bucket
    is one number, when it will be full again.)

    :param arrival: when the bucket will be full again; 0: it is full.
    """
    interval = controls.rate_seconds / controls.rate
    arrival = min(arrival, now + controls.rate_seconds)  # a clock set back must not stop it
    at = arrival - controls.rate_seconds + interval
    # Floating point may be off by microseconds.
    return at if at > now + min(interval / 2, 0.001) else now


def after_start(arrival: float, now: float, controls: Controls) -> float:
    """Return when the bucket of a rate key will be full again, after one more task has started."""
    arrival = min(arrival, now + controls.rate_seconds)
    return max(arrival, now) + controls.rate_seconds / controls.rate
