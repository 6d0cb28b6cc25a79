"""Test what a user sees, from the call to the outcome, on all backends, in every way of running."""
