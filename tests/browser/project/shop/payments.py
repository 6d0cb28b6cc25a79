"""Talk to the payment provider."""

import time


class Declined(Exception):
    """The bank said no."""


def capture(order, amount, api_key=None):
    """Take the money of an order."""
    time.sleep(0.6)
    if order % 10 == 4:
        raise Declined(f"order {order}: insufficient funds")


def settle_day(day):
    """Compare the payments of a day with those of the provider."""
    time.sleep(120.0)
