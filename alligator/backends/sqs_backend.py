"""The sqs client, by the path that Alligator 1.0 documented."""

from alligator.backends.sqs.client import Client

__all__ = ["Client"]
