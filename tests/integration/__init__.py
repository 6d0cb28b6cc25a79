"""Test the features of single backends, on a real server or file."""
