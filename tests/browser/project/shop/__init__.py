"""The tasks of a small shop, which the dashboard shows in tests and in pictures."""
