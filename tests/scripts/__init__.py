"""The programs in scripts/ that check the tree."""
