"""Time single steps with pytest-benchmark; ``make bench-micro`` runs them, the suite does not."""
