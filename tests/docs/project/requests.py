"""Stands in for the package: the first answer of a site is 'busy', the next is fine."""

from types import SimpleNamespace

asked = []


def get(url):
    asked.append(url)
    return SimpleNamespace(status_code=503 if len(asked) == 1 else 200)
