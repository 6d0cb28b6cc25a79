"""Queue tasks when their time comes: the rules (``every``, cron), and the scheduler.

Imports: ``alligator.tasks`` and below. Exports nothing; import the modules.
"""
