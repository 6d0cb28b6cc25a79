"""Keep the public path of Alligator 1.0: the client of locmem."""

from alligator.backends.locmem.client import Client

__all__ = ["Client"]
