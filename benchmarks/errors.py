"""Define the error of a figure that could not be measured."""


class NotMeasured(Exception):
    """A figure could not be measured; the table shows the reason instead."""


#: How the reason begins if the figure took longer than the wait.
TOO_LONG = "not within"
