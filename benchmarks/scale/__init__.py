"""Measure costs on one small machine, and model the throughput on larger ones."""
