"""Test single modules; the folders are those of the packages of alligator."""
