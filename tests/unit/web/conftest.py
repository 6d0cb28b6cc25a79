"""What tests of pages begin with: a Gator in memory, and its pages."""

import uuid

import pytest

from alligator import Gator
from alligator.web.charts import recorded
from tests.support.pages import Pages


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Let a page wait until the past has been read, however slow this machine is."""
    monkeypatch.setattr(recorded, "PATIENCE", 30.0)


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}", "mail")


@pytest.fixture
def pages(gator):
    return Pages(gator)
