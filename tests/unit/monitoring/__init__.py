"""Tests of ``alligator.monitoring``."""
