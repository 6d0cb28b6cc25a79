"""Make the calls of a Gator awaitable, over threads of its own.

Nothing here is imported, and no thread started, before the first awaitable call: asyncio takes a
good part of the time of ``import alligator``.
"""
