"""What may keep a figure from being measured."""


class NotMeasured(Exception):
    """Says why; it ends up in the table in place of the figure."""
