"""The beanstalk client, by the path that Alligator 1.0 documented."""

from alligator.backends.beanstalk.client import Client

__all__ = ["Client"]
