"""The locmem client, by the path that Alligator 1.0 documented."""

from alligator.backends.locmem.client import Client

__all__ = ["Client"]
