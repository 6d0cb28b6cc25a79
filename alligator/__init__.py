"""Simple offline task queues. For Python."""
