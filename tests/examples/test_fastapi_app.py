"""Test examples/fastapi_app as its README says: one command, over HTTP on uvicorn."""

import http.client
import json
import re
import time
import urllib.error
import urllib.request

import pytest

from tests.support import ROOT, browser
from tests.support.examples import running, start

pytest.importorskip("fastapi.sse")

FOLDER = ROOT / "examples" / "fastapi_app"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Start all of it; yield where it listens, and stop it in order."""
    announced = r"running on http://(127\.0\.0\.1:\d+)"
    with running(
        FOLDER, announced, PRIMES_FOLDER=str(tmp_path_factory.mktemp("primes"))
    ) as example:
        yield example.address
    assert "Application shutdown complete" in example.said, example.said
    assert "shutting down. Consumed" in example.said, "the worker ended in order"
    assert "Traceback" not in example.said, example.said
    assert "RuntimeWarning" not in example.said, example.said


def ask(address, path, method="GET", body=None):
    """Return the status, the headers and the JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://{address}{path}", data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, answer.headers, json.loads(text or "null")
    except urllib.error.HTTPError as err:
        return err.code, err.headers, json.loads(err.read())


def events(address, path):
    """Yield the events of a stream as they come, as state and data."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", f"{path}/events")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    state = ""
    for line in answer:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            state = value
        elif name == "data":
            yield state, json.loads(value)
    connection.close()


def test_a_result_is_awaited(address):
    status, headers, said = ask(address, "/counts", "POST", {"limit": 1_000_000})
    assert status == 202
    assert headers["Location"] == f"/counts/{said['id']}"
    assert ask(address, f"{headers['Location']}/result")[::2] == (200, {"primes": 78_498})


def test_progress_comes_while_the_task_runs(address):
    _, headers, _ = ask(address, "/counts", "POST", {"limit": 300_000_000})
    seen = list(events(address, headers["Location"]))
    assert seen[-1] == ("success", {"fraction": None, "text": "", "primes": 16_252_325})
    fractions = [data["fraction"] for state, data in seen if state == "running"]
    told = [each for each in fractions if each]
    assert told, "it said how far it was"
    assert told == sorted(told)


def test_the_server_answers_others_meanwhile_and_cancels(address):
    _, headers, _ = ask(address, "/counts", "POST", {"limit": 1_000_000_000})
    path = headers["Location"]
    stream = events(address, path)
    while next(stream)[0] != "running":
        pass
    assert ask(address, f"{path}/result?wait=0")[::2] == (202, {"primes": None})
    began = time.monotonic()
    assert ask(address, "/counts", "POST", {"limit": "all"})[0] == 422
    assert ask(address, "/counts/unknown/result?wait=60")[0] == 404
    assert time.monotonic() - began < 30, "one that is unknown is not waited for"
    assert ask(address, path, "DELETE")[0] == 204
    assert list(stream)[-1][0] == "canceled"
    assert ask(address, f"{path}/result")[0] == 410


def test_a_browser_follows_a_count(address):
    with browser.start() as chromium:
        page = chromium.new_page()
        watched = browser.Watched(page, f"http://{address}")
        page.goto(f"http://{address}/")
        page.get_by_label("below").fill("2000000")
        page.get_by_role("button", name="Count").click()
        page.get_by_text("148,933 primes").wait_for()
        assert page.get_by_role("button", name="Count").is_enabled()
        page.get_by_role("link", name="Queues").click()
        assert page.get_by_role("link", name="Workers").count()
        assert watched.faults == []


def test_its_own_tests_pass():
    process = start(FOLDER, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert re.search(r"[1-9]\d* passed", said), said
