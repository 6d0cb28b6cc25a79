"""What only one backend does, on a real server or file."""
