"""Group items by a key."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key")


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Return the items by their key; both keys and items keep their order.

    ::

        group_by(deliveries, attrgetter('queue_name'))

    Unlike ``itertools.groupby``, it needs no sorted input.
    """
    groups: dict[Key, list[Item]] = {}
    for each in items:
        groups.setdefault(key(each), []).append(each)
    return groups
