"""Test the page of dead letters, and that of one group of them."""

import html
import re

import pytest

from alligator import Gator
from alligator.backends.base import Reason
from alligator.web import access
from alligator.web.error_groups import pattern_of
from alligator.web.pages import dead
from tests.support.pages import HOSTILE, Pages, links, words


def send(to):
    """Fail."""
    raise ValueError(f"no user {to}")


def resize(name):
    """Fail in another way."""
    raise OSError(f"no file {name}")


@pytest.fixture
def gator(tmp_path):
    return Gator(f"sqlite:///{tmp_path}/queue.db", "mail")


def die(gator, func, arg, queue="mail"):
    """Queue a task that fails, and let it."""
    gator = gator.on_queue(queue)
    task = gator.task(func, arg)
    with pytest.raises(Exception, match="no "):
        gator.get(task.task_id)
    return task


@pytest.mark.parametrize(
    ("error", "pattern"),
    [
        ("ValueError: There is no month 13.", "ValueError: There is no month …."),
        ("Lost: 10.0.0.7:5432 after 1,204.5 s", "Lost: … after … s"),
        ("E: task 01a220dc-5db4-7003-8384-d5902a67d1ca", "E: task …"),
        ("E: <X object at 0x7f12ab>", "E: <X object at …>"),
        ("E: commit 8fa42e0cabe2135712375", "E: commit …"),
        ("E: http2 utf8 x86_64", "E: http2 utf8 x86_64"),
        ("", "(no error)"),
    ],
)
def test_what_differs_each_time_is_left_out(error, pattern):
    """Numbers, addresses and ids."""
    assert pattern_of(error) == pattern
    assert pattern_of("E: " + "7" * 1_000_000) == "E: …"


def test_letters_are_grouped_by_error(gator, pages):
    """Of all queues, with count, functions and queues, the largest group first."""
    for number in range(3):
        die(gator, send, number)
    die(gator, resize, "a.jpg")
    die(gator, send, 9, "images")
    text = words(pages.get("dead"))
    assert "5 tasks that failed and have no retry left" in text
    assert "ValueError: no user … such as: ValueError: no user 9 4 " in text
    assert "4 tests.unit.web.test_dead.send images mail" in text
    assert text.index("ValueError") < text.index("OSError")
    assert "Looked at all 5, the newest first." in text
    assert "at least" not in text
    text = words(pages.get("dead", queue="images"))
    assert "ValueError: no user … such as: ValueError: no user 9 1 " in text
    assert "OSError" not in text
    assert "OSError" not in words(pages.get("dead", function="send"))
    assert "No dead letter matches." in words(pages.get("dead", text="nothing of it"))


def test_a_group_opens_to_its_letters(gator, pages):
    """With the traceback of the newest, and buttons for one, the checked, and all."""
    tasks = [die(gator, send, number) for number in range(3)]
    die(gator, resize, "a.jpg")
    (opens,) = [each for each in links(pages.get("dead")) if "error=ValueError" in each][:1]
    page = pages.get("dead", error="ValueError: no user …")
    assert "%E2%80%A6" in opens
    for each in tasks:
        assert each.task_id in page
    assert "OSError" not in page
    assert "raise ValueError" in page
    for name in ("do/revive", "do/purge"):
        assert any(name in each and "error=" in each for each in links(page))
    (revive,) = [e for e in links(page) if "do/revive" in e and "all=1" in e]
    assert "Revive all 3 tasks?" in words(pages.get("do/revive", **_fields(revive)))
    assert "3 tasks were revived." in words(pages.post("do/revive", **_fields(revive)))
    page = words(pages.get("dead", error="ValueError: no user …"))
    assert "No dead letter has this error any more." in page


def _fields(url):
    from urllib.parse import parse_qs

    return parse_qs(url.partition("?")[2])


@pytest.fixture
def no_time(monkeypatch):
    """Let each look end after one step, of two letters."""
    monkeypatch.setattr(dead, "BRIEFLY", -1.0)
    monkeypatch.setattr(dead, "_THOROUGHLY", -1.0)
    monkeypatch.setattr(dead, "_STEP", 2)


def further(page):
    """Return the fields of the link to the rest."""
    (found,) = re.findall(r'rel="next" href="([^"]*)"', page)
    return _fields(html.unescape(found))


def test_a_look_that_ended_early_says_so_and_the_rest_follows(gator, pages, no_time):
    """Each letter once, on two queues; a count of a part says that it is one."""
    for number in range(3):
        die(gator, send, number)
    for number in range(2):
        die(gator, resize, f"{number}.jpg", "a.b-c_d")
    page = pages.get("dead")
    assert "Looked at 2 of 5, the newest first: a look takes a bounded time." in words(page)
    assert "at least 2" in words(page)
    assert "or before" in words(page)
    assert "Look at more" in words(page)
    page = pages.get("dead", **further(page))
    assert "Looked at 2 of 5" in words(page)
    counts = words(page).count("at least 2")
    for first, last in ((3, 4), (5, 5)):
        page = pages.get("dead", **further(page))
        assert f"These are dead letters {first} to {last} of 5" in words(page)
        counts += words(page).count(f"at least {last - first + 1}")
        assert "First page" in words(page)
    assert counts == 3
    assert 'rel="next"' not in page
    assert "That does not work." in words(pages.get("dead", 400, after="no-cursor"))


def test_the_letters_of_one_error_have_pages(gator, pages, monkeypatch):
    """Each is on one of them."""
    monkeypatch.setattr(dead, "PAGE", 2)
    tasks = {die(gator, send, number).task_id for number in range(5)}
    die(gator, resize, "a.jpg")
    page, found = pages.get("dead", error="ValueError: no user …"), []
    assert "2 are shown. Looked at " in words(page)
    while 'rel="next"' in page:
        found += [each for each in tasks if each in page]
        page = pages.get("dead", **further(page))
    found += [each for each in tasks if each in page]
    assert sorted(found) == sorted(tasks)


def test_the_letters_of_one_error_may_be_older(gator, pages, no_time):
    """A look that found none says how far it came."""
    old = die(gator, send, 1)
    for number in range(2):
        die(gator, resize, f"{number}.jpg")
    page = pages.get("dead", error="ValueError: no user …")
    assert "No dead letter has this error among these." in words(page)
    page = pages.get("dead", **further(pages.get("dead", **further(page))))
    assert old.task_id in page
    assert "1 has this error." in words(page)


def test_all_that_match_are_revived_together(gator, pages):
    """Whatever their errors, within the time and the queue that are chosen."""
    die(gator, send, 1)
    die(gator, resize, "a.jpg")
    die(gator, send, 2, "images")
    page = pages.get("dead", since=3600, queue="mail")
    assert "Revive all that match…" in words(page)
    (revive, *_) = [e for e in links(page) if "do/revive" in e and "error=" not in e]
    assert "Revive all 2 tasks?" in words(pages.get("do/revive", **_fields(revive)))
    assert "2 tasks were revived." in words(pages.post("do/revive", **_fields(revive)))
    assert "Revive all…" in words(pages.get("dead"))
    assert "do/" not in Pages(gator, resolve_access=None).get("dead")


def test_nothing_dead_says_so(pages):
    """And a bad query is one clear line."""
    assert "There is no dead letter." in words(pages.get("dead"))
    assert "That does not work." in words(pages.get("dead", 400, queue=HOSTILE))
    assert "There is no dead letter." in words(pages.get("dead", error=HOSTILE))


def test_hostile_errors_break_nothing(gator, pages):
    """Nor do other values of a letter."""
    clean = HOSTILE.replace("\udcff", "").replace("\x00", "")
    for number, data in enumerate(("no JSON", b"\xff<script>alert(1)</script>")):
        gator.client.push("mail", f"{clean}{number}", data)
        (delivery,) = gator.client.reserve(["mail"]).deliveries
        assert gator.client.bury(delivery, None, Reason(HOSTILE, HOSTILE))
    page = pages.get("dead")
    (opens,) = [each for each in links(page) if "dead?error=" in each]
    page = pages.get("dead", **_fields(opens))
    assert "unreadable message" in page
    assert "evil" in page


def test_who_may_only_look_sees_no_buttons(gator):
    """On both pages."""
    die(gator, send, 1)
    pages = Pages(gator, resolve_access=access.read_only)
    for query in ({}, {"error": "ValueError: no user …"}):
        assert "do/" not in pages.get("dead", **query)
