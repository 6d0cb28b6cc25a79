"""Keep the public path of Alligator 1.0: the client of sqs."""

from alligator.backends.sqs.client import Client

__all__ = ["Client"]
