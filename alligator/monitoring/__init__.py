"""Say what a running installation does: queues, workers, running tasks, activity, history.

``rows`` has what these questions return. Imports: ``alligator.results`` and below.
"""
