"""Run code within limits: timeouts, the watchdog, the event loop of ``async def`` tasks.

Imports: ``alligator.common`` and below. Exports nothing; import the modules.
"""
