"""The sqlite client, by the path that Alligator 1.0 documented."""

from alligator.backends.sqlite.client import Client

__all__ = ["Client"]
