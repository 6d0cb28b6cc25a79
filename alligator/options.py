"""The contexts that push tasks with the same options, by the path of Alligator 1.0."""

from alligator.producer.options import Batch, Options

__all__ = ["Batch", "Options"]
