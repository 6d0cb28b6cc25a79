"""Keep a public path of Alligator 1.0: the contexts that push tasks with the same options."""

from alligator.producer.options_and_batch import Batch, Options

__all__ = ["Batch", "Options"]
