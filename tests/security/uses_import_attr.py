"""Import attributes by name, as plugins do."""

from alligator.utils import import_attr

separator = import_attr("os", "sep")


def fine():
    return separator
