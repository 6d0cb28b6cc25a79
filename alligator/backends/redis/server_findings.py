"""Find out how a redis server is set up, and what of that may lose tasks."""

import time
from typing import Any

from redis.exceptions import ResponseError

from alligator.backends.base import Finding
from alligator.backends.redis.connection import Connections
from alligator.backends.types import clock_finding

#: The oldest version that the tests run on.
_OLDEST = (7, 0)

#: Where the used memory, as a part of the limit, becomes worth a line.
_MUCH_MEMORY = 0.9

#: What a worker needs; docs/security.rst gives it these rights.
_COMMANDS = (
    *("time", "exists", "hget", "hset", "hsetnx", "hdel", "zadd", "zrem", "zscore", "incr"),
    *("llen", "lpush", "pexpire", "mget", "set", "subscribe", "zrank", "hexists", "get"),
    *("publish", "zrangebylex", "hmget", "incrby", "hlen", "hgetall", "zrange", "zrangebyscore"),
    *("zrevrange", "zremrangebyrank", "zpopmin", "zcard", "pttl", "blpop", "unlink", "hkeys"),
    *("zscan", "hscan", "lrange", "ltrim", "pexpireat", "zcount", "zremrangebyscore"),
)

#: Asks for the rights of this user without using them. KEYS: 1 any key of a queue's.
_RIGHTS = """
local refused = {}
for _, name in ipairs(ARGV) do
  local known, allowed = pcall(redis.acl_check_cmd, name, KEYS[1], '0', '1', 'x')
  if known and not allowed then refused[#refused + 1] = name end
end
return refused
"""

_PROBED = b"alligator:{doctor}:data"


def all_findings(connections: Connections) -> list[Finding]:
    """Return all that :meth:`Client.examine` has to say."""
    found = [*_version(connections), *durability(connections)]
    subjects = {each.subject for each in found}
    if not {"persistence", "eviction"} & subjects:
        found.append(
            Finding(
                "persistence",
                "this user may not ask how the server is set up (CONFIG), so persistence and "
                "eviction are not known",
                "see that appendonly is yes and maxmemory-policy is noeviction",
            )
        )
    return [*found, *_memory(connections), _clock(connections), *_rights(connections)]


def durability(connections: Connections) -> list[Finding]:
    """Return what the server does with tasks when it restarts, and when its memory is full.

    :returns: nothing, where the user may not ask for that.
    """
    try:
        policy = _setting(connections, "maxmemory-policy")
        saves, append_only = _setting(connections, "save"), _setting(connections, "appendonly")
    except ResponseError:  # CONFIG is often closed to users, or missing altogether
        return []
    found = [_persistence(saves, append_only)] if append_only else []
    if policy:
        text = "the server deletes nothing when its memory is full (noeviction)"
        found.insert(0, eviction(policy) or Finding("eviction", text))
    return found


def _persistence(saves: str, append_only: str) -> Finding:
    if not saves and append_only == "no":
        return Finding(
            "persistence",
            "This redis server keeps tasks in memory only and loses all of them in a restart",
            "set appendonly to yes",
            must_change=True,
        )
    if append_only == "no":
        return Finding(
            "persistence",
            "the server writes snapshots only: a crash loses what was queued since the last one",
            "set appendonly to yes",
        )
    return Finding("persistence", "the server writes an append-only file")


def eviction(policy: str) -> Finding | None:
    """Return what this server deletes when its memory is full; None: nothing.

    :param policy: its ``maxmemory-policy``; empty: not known.
    """
    if policy in ("noeviction", ""):
        return None
    # Only records and marks have a time to live.
    what = "records and marks" if policy.startswith("volatile-") else "tasks"
    return Finding(
        "eviction",
        f"This redis server deletes {what} when its memory is full: maxmemory-policy is {policy}",
        "set it to noeviction",
        must_change=True,
    )


def _version(connections: Connections) -> list[Finding]:
    about = _info(connections, "server")
    if not about:
        return [Finding("version", "this user may not ask for the version of the server (INFO)")]
    kind = "valkey" if "valkey_version" in about else "redis"
    version = about.get("valkey_version") or about.get("redis_version", "?")
    mode = about.get("server_mode") or about.get("redis_mode", "standalone")
    text = f"{kind} {version}, {mode}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        return [Finding("version", text, f"use version {oldest} or newer", must_change=True)]
    return [Finding("version", text)]


def _memory(connections: Connections) -> list[Finding]:
    about = _info(connections, "memory") | _info(connections, "persistence")
    found = []
    used, limit = int(about.get("used_memory", 0)), int(about.get("maxmemory", 0))
    if limit and used > _MUCH_MEMORY * limit:
        found.append(
            Finding(
                "memory",
                f"{used / limit:.0%} of the server's memory is used (maxmemory)",
                "raise maxmemory, or run more workers: a full server takes no task",
            )
        )
    for name, what in (
        ("aof_last_write_status", "append to its file"),
        ("rdb_last_bgsave_status", "write its snapshot"),
    ):
        if about.get(name, "ok") != "ok":
            text = f"the server could not {what} ({name})"
            advice = "see its log, and the free space of its disk"
            found.append(Finding("persistence", text, advice, must_change=True))
    return found


def _clock(connections: Connections) -> Finding:
    before = time.time()
    seconds, micros = connections.command([], "TIME", idempotent=True)
    return clock_finding(int(seconds) + int(micros) / 1e6, before, time.time())


def _rights(connections: Connections) -> list[Finding]:
    try:
        refused = connections.command(
            [_PROBED], "EVAL", _RIGHTS, 1, _PROBED, *_COMMANDS, idempotent=True
        )
    except ResponseError as err:
        return [
            Finding(
                "permissions",
                f"this user may not run scripts: {err}",
                "give it the rights of a worker; the docs on security list them",
                must_change=True,
            )
        ]
    names = " ".join(
        sorted(each.decode() if isinstance(each, bytes) else str(each) for each in refused)
    )
    if not names:
        return [Finding("permissions", "this user may do all that a worker needs")]
    return [
        Finding(
            "permissions",
            f"this user may not run these commands, which a worker needs: {names}",
            "a producer needs fewer; else grant them (ACL SETUSER): the docs on security list them",
        )
    ]


def place_of(connections: Connections, key: bytes) -> str | None:
    """Return a name of the server, or node, that has a key, and of its database."""
    found = _info(connections, "server", key)
    database = connections.target.options.get("db", 0) or 0
    return f"redis {found['run_id']} {database}" if "run_id" in found else None


def _info(connections: Connections, section: str, *keys: bytes) -> dict[str, str]:
    """Return a section of INFO; nothing, where the user may not ask for it."""
    try:
        answer: Any = connections.command(keys, "INFO", section, idempotent=True)
    except ResponseError:
        return {}
    if isinstance(answer, dict):
        return {str(name): str(value) for name, value in answer.items()}
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _setting(connections: Connections, name: str) -> str:
    command, answer = connections.command, None
    if not connections.one_server:
        answer = command((), "CONFIG GET", name, idempotent=True)
    if answer is None:
        answer = command((), "CONFIG", "GET", name, idempotent=True)
    if isinstance(answer, dict):
        value = answer.get(name, answer.get(name.encode(), ""))
    else:
        value = answer[1] if len(answer) > 1 else ""
    return value.decode() if isinstance(value, bytes) else str(value)
