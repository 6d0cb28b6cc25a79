"""Speak HTTP for the dashboard: requests and responses, and an adaptor for each kind of server."""
