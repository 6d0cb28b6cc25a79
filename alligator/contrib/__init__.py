"""Optional extras around Alligator; each uses only what is public."""
