"""Put tasks on queues: options, the checks of a call, push, dependencies.

Imports: ``alligator.scheduling`` and ``alligator.results``, and below. Exports nothing; import the
modules (``alligator.Options`` and ``alligator.Batch`` are from here).
"""
