"""Push tasks at their times: the rules (``every``, cron), and the scheduler that fires them.

Imports: ``alligator.tasks`` and below.
"""
