"""Tests of the dashboard in real frameworks and servers."""
