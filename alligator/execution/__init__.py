"""Run reserved tasks and settle them: attempts, leases, acks, unsettled outcomes, outages.

Imports: ``alligator.producer`` and below. Exports nothing; import the modules.
"""
