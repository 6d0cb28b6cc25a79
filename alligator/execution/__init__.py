"""Run reserved tasks and settle them: attempts, leases, acks, pending outcomes, outages.

Imports: ``alligator.producer`` and below. Exports nothing; import the modules.
"""
