"""Keep queues and a store in this process's memory.

``client`` and ``store`` keep the contracts on a ``memory``: its ``queue`` objects, ``records`` and
``dependencies``.

Imports: ``alligator.backends.{base,store,types}`` and below. Exports: nothing here;
``alligator.backends.locmem_backend`` exports ``Client``.
"""
