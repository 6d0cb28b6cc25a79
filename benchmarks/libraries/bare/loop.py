"""Run the bare loop of a worker: pop from a list, read the JSON, call. It guarantees nothing."""

import json
import os

import redis

from benchmarks.tasks import chosen

KNOWN = {"chosen": chosen}


def run(batch: int) -> None:
    """Pop ``batch`` at once with BLMPOP; 0: one at a time with BLPOP."""
    conn = redis.Redis.from_url(os.environ["BENCH_DSN"], socket_timeout=None)
    while True:
        if batch:
            found = conn.blmpop(1, 1, "bare", direction="LEFT", count=batch)
            found = found[1] if found else ()
        else:
            found = (conn.blpop(["bare"])[1],)
        for data in found:
            message = json.loads(data)
            KNOWN[message["callable"]](*message["args"], **message["kwargs"])


if __name__ == "__main__":
    run(int(os.environ["BENCH_VARIANT"]))
