"""Test the site with the worker inside."""

import json

import pytest
from fastapi.testclient import TestClient
from primes.api import app
from primes.tasks import count_primes, gator


@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(("limit", "primes"), [(2, 0), (3, 1), (10, 4), (1_000_000, 78_498)])
def test_count_primes(limit, primes):
    assert gator.options(is_async=False).task(count_primes, limit).result == primes


def test_a_count_is_followed_to_its_result(client):
    answer = client.post("/counts", json={"limit": 3_000_000})
    assert answer.status_code == 202
    path = answer.headers["Location"]
    lines = client.get(f"{path}/events").text.splitlines()
    states = [line.partition(": ")[2] for line in lines if line.startswith("event: ")]
    last = [json.loads(line.partition(": ")[2]) for line in lines if line.startswith("data: ")][-1]
    assert states[-1] == "success"
    assert last["primes"] == 216_816
    assert client.get(f"{path}/result").json() == {"primes": 216_816}
    assert client.get(path).json()["ended"]


def test_bad_requests(client):
    assert client.post("/counts", json={"limit": "all"}).status_code == 422
    for path in ("/counts/unknown", "/counts/unknown/result"):
        assert client.get(path).status_code == 404
    assert client.delete("/counts/unknown").status_code == 404
    assert "event: unknown" in client.get("/counts/unknown/events").text
