"""Stands in for the reader's own code."""


class FeedUnavailable(Exception):
    """Try again soon."""


class FeedNotFound(Exception):
    """No use in trying again."""
