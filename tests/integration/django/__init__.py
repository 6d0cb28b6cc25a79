"""Tests of Alligator in a Django project."""
