# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Push from a Django project, whose Gators come from its settings."""

from typing import assert_type

from alligator import Gator, Task
from alligator.contrib.django import gators


def add(one: int, two: int) -> int:
    """Return a sum."""
    return one + two


assert_type(gators["default"], Gator)
assert_type(gators["mail"].task(add, 1, 2), Task[int])
gators["mail"].options(on_commit=True).task(add, 1, 2)
gators["mail"].task(add, 1)  # type: ignore[call-overload]
print(gators[5])  # type: ignore[index]
gators["mail"].options(on_comit=True)  # type: ignore[call-arg]
