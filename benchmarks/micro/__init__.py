"""Micro-benchmarks for pytest-benchmark; ``make bench-micro`` runs them, the suite does not."""
