"""Test the dashboard in a real browser, as its visitors use it."""
