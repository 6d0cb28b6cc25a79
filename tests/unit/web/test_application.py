"""Test what the application around the dashboard adds to it: a link, fields of forms, a log."""

import pytest

from alligator import Gator
from alligator.exceptions import ConnectionLost
from alligator.web import ActionRecord, Dashboard, Request
from alligator.web.access import allow_actions

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def gator(tmp_path):
    gator = Gator(f"locmem://{tmp_path}", "mail")
    gator.options(task_id="one", delay_by=3600).task("operator.add", 1, 2)
    gator.options(task_id="two").task("operator.add", 1, 2)
    return gator


@pytest.fixture
def records():
    return []


@pytest.fixture
def dashboard(gator, records):
    return Dashboard(
        gator,
        resolve_access=allow_actions,
        home=lambda request: (f"{request.root}/up?a=1&b=2", "Shop <1>"),
        form_fields=lambda request: {"token": f"<of {request.original}>"},
        on_action=lambda request, record: records.append((request.original, record)),
    )


def ask(dashboard, path, query="", *, body=None, **headers):
    """Return the status and the page."""
    method = "GET" if body is None else "POST"
    data = (body or "").encode()
    found = dashboard.handle(
        Request(method, path, query, {**FORM, **headers}, data, original="ada")
    )
    return found.status, found.body.decode()


def test_the_header_links_to_the_application(dashboard, gator):
    link = '<a class="home" href="/up?a=1&amp;b=2">Shop &lt;1&gt;</a>'
    assert link in ask(dashboard, "/")[1]
    assert link not in ask(dashboard, "/", **{"x-alligator-fragment": "1"})[1]
    assert 'class="home"' not in ask(Dashboard(gator), "/")[1]


def test_a_form_has_the_fields_of_the_application_once(dashboard):
    field = '<input type="hidden" name="token" value="&lt;of ada&gt;">'
    for query in ("queue=mail", "queue=mail&token=stale"):
        _, page = ask(dashboard, "/do/pause", query)
        assert page.count('name="token"') == page.count(field) == 1


def test_the_form_that_goes_on_has_fresh_fields(dashboard, monkeypatch):
    monkeypatch.setattr("alligator.web.actions._LONGEST", -1.0)
    fields = "all=1&state=waiting&queue=mail&token=stale"
    _, page = ask(dashboard, "/do/cancel", body=fields)
    assert "Go on" in page
    assert page.count('name="token"') == page.count("&lt;of ada&gt;") == 1


def test_what_was_done_is_recorded(dashboard, records):
    assert ask(dashboard, "/do/pause", body="queue=mail")[0] == 200
    assert ask(dashboard, "/do/cancel", body="task=mail/one&task=mail/two&task=mail/no")[0] == 200
    (user, pause), (_, cancel) = records
    assert user == "ada"
    assert pause == ActionRecord(
        "pause", "Pause", "Queue mail is paused. What runs is finished.", "", ("mail",), (), False
    )
    assert (cancel.name, cancel.queue_names, cancel.is_destructive) == ("cancel", ("mail",), True)
    assert cancel.tasks == (("mail", "one"), ("mail", "two"))
    assert "2 tasks were canceled" in cancel.text


def test_what_was_not_done_is_not(dashboard, records):
    assert ask(dashboard, "/do/pause", "queue=mail")[0] == 200
    for path, body, status in (
        ("/do/resume", "queue=mail", 200),
        ("/do/cancel", "task=mail/no", 200),
        ("/do/pause", "queue=", 400),
        ("/do/nothing", "queue=mail", 404),
    ):
        assert ask(dashboard, path, body=body)[0] == status, path
    assert (
        ask(dashboard, "/do/pause", body="queue=mail", **{"sec-fetch-site": "cross-site"})[0] == 403
    )
    assert records == []


def test_what_may_have_been_done_is_recorded(dashboard, gator, records, monkeypatch):
    def lose(*_given):
        raise ConnectionLost("the server is gone")

    monkeypatch.setattr(gator.client, "drop_all", lose)
    assert ask(dashboard, "/do/drop", body="queue=mail")[0] == 503
    ((_, record),) = records
    assert (record.name, record.queue_names) == ("drop", ("mail",))
    assert record.text == "It broke off, and may be done in part: the server is gone"


def test_a_log_that_fails_changes_no_answer(gator, caplog):
    def fail(*_given):
        raise OSError("the disk is full")

    dashboard = Dashboard(gator, resolve_access=allow_actions, on_action=fail)
    status, page = ask(dashboard, "/do/pause", body="queue=mail")
    assert (status, "is paused" in page) == (200, True)
    assert "did 'pause', and could not record it" in caplog.text
