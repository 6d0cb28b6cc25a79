"""Run reserved tasks and settle them: attempt, leases, acks, outages, the inline runner.

Imports: ``alligator.producer`` and below.
"""
