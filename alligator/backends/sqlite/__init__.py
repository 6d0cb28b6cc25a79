"""Queues and a store in one SQLite file."""
