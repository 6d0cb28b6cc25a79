"""Keep the public path of Alligator 1.0: the client of sqlite."""

from alligator.backends.sqlite.client import Client

__all__ = ["Client"]
