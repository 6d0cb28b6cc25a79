"""The social network."""
