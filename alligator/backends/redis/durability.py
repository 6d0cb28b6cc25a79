"""What a redis server's configuration says about losing tasks."""

from typing import Any

from redis.exceptions import ResponseError

from alligator.backends.redis.connection import Link


def durability_warning(link: Link) -> str | None:
    """Return one line on how this server may lose tasks; None: it won't, or won't tell."""
    try:
        evicts = _setting(link, "maxmemory-policy")
        saves = _setting(link, "save")
        appends = _setting(link, "appendonly")
    except ResponseError:  # CONFIG is often closed to users, or missing altogether
        return None
    found = [eviction_warning(evicts)] if evicts else []
    if not saves and appends == "no":
        found.append(
            "This redis server keeps tasks in memory only and loses all of them in a restart; "
            "set appendonly to yes."
        )
    return " ".join(filter(None, found)) or None


def eviction_warning(policy: str) -> str | None:
    """Return one line on what this server deletes when its memory is full; None: nothing.

    :param policy: its ``maxmemory-policy``; empty: not known.
    """
    if policy in ("noeviction", ""):
        return None
    # Only what ends by itself has a time to live.
    what = "records and marks" if policy.startswith("volatile-") else "tasks"
    return (
        f"This redis server deletes {what} when its memory is full: maxmemory-policy is "
        f"{policy}; set it to noeviction."
    )


def _setting(link: Link, name: str) -> str:
    answer: Any = None
    if not link.one_server:
        answer = link.command((), "CONFIG GET", name, idempotent=True)
    if answer is None:
        answer = link.command((), "CONFIG", "GET", name, idempotent=True)
    if isinstance(answer, dict):
        value = answer.get(name, answer.get(name.encode(), ""))
    else:
        value = answer[1] if len(answer) > 1 else ""
    return value.decode() if isinstance(value, bytes) else str(value)
