"""Test the programs in scripts/ that check the tree."""
