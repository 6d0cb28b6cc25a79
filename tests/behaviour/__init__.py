"""What a user sees, from the call to the outcome, on all backends and in every way of running."""
