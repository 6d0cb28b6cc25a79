"""Stands in for the reader's own code."""

rebuilt = []


def expensive_cache_rebuild(user_id):
    rebuilt.append(user_id)


def expensive_thing():
    rebuilt.append("thing")
