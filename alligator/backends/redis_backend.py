"""The redis client, by the path that Alligator 1.0 documented."""

from alligator.backends.redis.client import Client

__all__ = ["Client"]
