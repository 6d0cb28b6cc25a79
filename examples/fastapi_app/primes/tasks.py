"""The slow work: to count prime numbers."""

import os
from math import isqrt
from pathlib import Path

from alligator import Gator, current_task

FOLDER = Path(os.environ.get("PRIMES_FOLDER") or Path(__file__).resolve().parent.parent / "data")
FOLDER.mkdir(parents=True, exist_ok=True)

gator = Gator(os.environ.get("PRIMES_QUEUE") or f"sqlite://{FOLDER}/queue.db")

#: Numbers that are looked at between two reports of progress.
STEP = 1 << 18


def count_primes(limit: int) -> int:
    """Return how many prime numbers there are below a limit, by the sieve of Eratosthenes."""
    task, found = current_task(), 0
    roots = primes_to(isqrt(limit))
    for start in range(2, limit, STEP):
        task.progress(start / limit, f"{found:,} below {start:,}")
        size = min(STEP, limit - start)
        are_prime = bytearray(b"\1") * size
        for each in roots:
            first = max(each * each, -(-start // each) * each) - start
            are_prime[first::each] = bytes(len(range(first, size, each)))
        found += are_prime.count(1)
    return found


def primes_to(most: int) -> list[int]:
    """Return the prime numbers up to one."""
    found = list[int]()
    for each in range(2, most + 1):
        if all(each % low for low in found if low * low <= each):
            found.append(each)
    return found
