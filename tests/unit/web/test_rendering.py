"""Test how pages write numbers, names and commands."""

import pytest

from alligator import Gator
from alligator.web.rendering import ago, breakable, duration, percent
from tests.support import jobs
from tests.support.pages import HOSTILE, Pages, spaced, words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.012, "12 ms"),
        (0.0009999, "1 ms"),
        (0.0004, "< 1 ms"),
        (0.0, "0 ms"),
        (3.4, "3.4 s"),
        (65, "1 min 5 s"),
        (7800, "2 h 10 min"),
        (None, "–"),  # noqa: RUF001
    ],
)
def test_no_line_is_broken_inside_a_duration(seconds, text):
    assert spaced(duration(seconds)) == text
    assert " " not in duration(seconds)


def test_no_line_is_broken_inside_a_percentage_or_an_age():
    assert spaced(percent(0.013)) == "1.3 %"
    assert " " not in percent(0.013) + percent(0.0001)
    assert ">1\u00a0min\u00a05\u00a0s ago<" in ago(1000.0, 1065.0)
    assert ">8\u00a0s ago<" in ago(1000.0, 1008.0)


def test_names_may_be_broken_after_dots_and_underscores():
    assert breakable("shop.mail.send_receipt") == "shop.<wbr>mail.<wbr>send_<wbr>receipt"
    assert "<script" not in breakable(f"a.{HOSTILE}")
    assert len(words(breakable("a." * 200, 60))) == 60


def test_a_command_is_broken_between_its_words_alone(tmp_path):
    """An option and its value stay together."""
    gator = Gator(f"locmem://{tmp_path}", "mail")
    gator.task(jobs.note, 1)
    page = Pages(gator).get("workers")
    assert "<span>latergator.py</span> <span>DSN</span> <span>--queue mail</span></code>" in page
    page = Pages(gator).get("workers", queue=f"a b --{HOSTILE}")
    assert page.count("<span") == page.count("</span>")


def test_a_long_id_shows_its_end(tmp_path):
    """Of generated ids of one time the start is the same."""
    gator = Gator(f"locmem://{tmp_path}", "mail")
    task = gator.task(jobs.note, 1)
    assert f">…{task.task_id[-12:]}</a>" in Pages(gator).get("queue", name="mail")
