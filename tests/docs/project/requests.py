"""Stands in for the package: the first answer is 'busy', later ones are fine."""

from types import SimpleNamespace

asked = []


def get(url):
    asked.append(url)
    if url.endswith("/missing"):
        return SimpleNamespace(status_code=404)
    return SimpleNamespace(status_code=503 if len(asked) == 1 else 200)
