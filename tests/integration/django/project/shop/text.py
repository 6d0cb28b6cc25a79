"""A module that no other imports until a task runs."""

VERSION = 1
