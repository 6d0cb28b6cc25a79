"""Keep the public path of Alligator 1.0: the client of redis."""

from alligator.backends.redis.client import Client

__all__ = ["Client"]
