"""Queues and a store on a Redis or Valkey server, a sentinel set, or a cluster."""
