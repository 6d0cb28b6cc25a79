"""What may keep a figure from being measured."""


class NotMeasured(Exception):
    """Says why; it ends up in the table in environment of the figure."""


#: How the reason begins where the answer is that it takes longer than we waited.
TOO_LONG = "not within"
