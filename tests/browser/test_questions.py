"""Test that a newcomer finds the answers to four questions: in few clicks, from the first page.

Why is the mail queue growing? Which function got slow today? What failed in the last hour, and
why? And how do these tasks run again?
"""

import re
from contextlib import suppress

from alligator.exceptions import AlligatorException


def test_why_a_queue_grows_is_told_on_the_first_page(shop_url, opened):
    page = opened(f"{shop_url}/")
    # Where the past takes long to read, it comes with one of the next updates of the page.
    page.locator("main", has_text="mail grows").wait_for(timeout=30_000)
    main = page.locator("main").inner_text().replace("\u00a0", " ")
    (sentence,) = [line for line in main.splitlines() if line.startswith("mail grows: ")]
    assert " out a minute; its 1 worker runs 4 of at most 4 tasks, mostly shop.mail." in sentence
    assert "longer than before" in sentence


def test_which_function_got_slow_is_told_there_and_one_click_shows_since_when(shop_url, opened):
    page = opened(f"{shop_url}/")
    name = "shop.mail.send_receipt"
    page.get_by_role("link", name=re.compile(rf"Show the function ?: {name}")).click()
    assert "range=24h" in page.url  # in the last hours alone, it may have been slow all the time
    assert page.locator("h1").inner_text() == name
    assert "slower than in the 24 hours before" in page.locator("main").inner_text()
    assert page.get_by_role("img", name="Duration, ").count() == 1


def test_what_failed_in_the_last_hour_and_why_takes_one_click(shop_url, opened):
    page = opened(f"{shop_url}/")
    page.locator(".figure", has_text="Failed in the last hour").get_by_role("link").first.click()
    assert "state=failing&since=3600" in page.url
    why = page.locator("section", has_text="Why runs failed").inner_text()
    assert "SMTPServerDisconnected: smtp.shop.example: please run connect() first" in why
    assert "Declined: order" in why


def test_what_failed_runs_again_after_three_clicks(url, gator, opened):
    for number in range(3):
        gator.task("shop.mail.remind", number, "too", "many", "arguments")
        with suppress(TypeError, AlligatorException):
            gator.pop()
    page = opened(f"{url}/")
    page.get_by_role("link", name="3 dead letters").click()
    page.get_by_role("link", name="Revive all that match").click()
    assert "Revive all 3 tasks?" in page.locator("main").inner_text()
    page.get_by_role("button", name="Revive").click()
    assert "3 tasks were revived." in page.locator("main [role=status]").inner_text()
    assert (gator.len(), len(gator.dead())) == (3, 0)
    page.locator("main a.id").first.click()
    assert "waiting" in page.locator("main").inner_text()
