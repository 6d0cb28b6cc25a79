"""Queues and a store in this process's memory."""
