"""Keep the public path of Alligator 1.0: the client of beanstalk."""

from alligator.backends.beanstalk.client import Client

__all__ = ["Client"]
