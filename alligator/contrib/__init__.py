"""Provide optional extras: Django, metrics, traces, the names of rpqueue, and a pytest plugin.

Imports: everything but ``alligator.cli``, which ``django.management`` alone imports. Exports
nothing; import the modules.
"""
