"""The site of the tests."""
