"""Test that a page shows what changes by itself, at no cost when nothing does."""

import pytest

from alligator import Gator
from alligator.web import Dashboard
from tests.support.helpers import eventually
from tests.support.servers.process import free_port

#: Lets a test hide the page, as another tab in front of it does.
CAN_HIDE = """
window.isHidden = false;
Object.defineProperty(document, 'hidden', {get: () => window.isHidden});
window.hide = (hidden) => {
  window.isHidden = hidden;
  document.dispatchEvent(new Event('visibilitychange'));
};
"""


@pytest.fixture
def page(opened, url):
    """A tab for the overview of the Gator of this test, which is not opened yet."""
    return opened()


def looks(page) -> int:
    """Return how often a page has looked for news."""
    return page.evaluate("Number(document.querySelector('main').dataset.looks || 0)")


def look_again(page, times=1) -> None:
    """Wait until a page has looked for news so many times more."""
    page.wait_for_function(
        "at => Number(document.querySelector('main').dataset.looks || 0) >= at",
        arg=looks(page) + times,
        polling=20,
    )


def said(page) -> str:
    return page.locator("[data-live-state]").inner_text()


def test_a_task_that_is_pushed_appears(page, url, gator):
    page.goto(f"{url}/")
    assert page.locator(".empty").count() == 1
    page.evaluate("window.isSamePage = true")
    gator.task("shop.mail.remind", 1)
    row = page.get_by_role("row").filter(has_text="mail")
    row.wait_for()
    gator.task("shop.mail.remind", 2)
    row.filter(has=page.get_by_role("cell", name="2", exact=True)).first.wait_for()
    assert page.evaluate("window.isSamePage")
    assert said(page) == "Live"


def test_nothing_is_sent_or_changed_where_nothing_is_new(page, url, gator):
    gator.pause("mail")
    page.goto(f"{url}/")
    look_again(page, 2)
    page.evaluate("document.querySelector('main').firstElementChild.isSameElement = true")
    page.watched.answers.clear()
    look_again(page, 3)
    assert {status for _, status in page.watched.answers} == {304}
    assert page.evaluate("document.querySelector('main').firstElementChild.isSameElement")


def test_ages_grow_where_nothing_is_new(page, url, gator):
    page.goto(f"{url}/")
    page.evaluate(
        """() => {
          const made = document.createElement('time');
          made.dateTime = new Date(Date.now() - 58_000).toISOString();
          made.dataset.kind = 'ago';
          document.querySelector('footer').append(made);
        }"""
    )
    page.locator("footer time").filter(has_text="1 min").wait_for()


def test_it_rests_while_the_tab_is_hidden(page, url, gator):
    page.goto(f"{url}/")
    look_again(page)
    page.evaluate(CAN_HIDE)
    page.evaluate("hide(true)")
    assert said(page) == "Paused"
    page.wait_for_timeout(600)
    before = looks(page)
    gator.task("shop.mail.remind", 1)
    page.wait_for_timeout(800)  # four looks
    assert looks(page) - before <= 1, "one may have been under way"
    assert page.locator(".empty").count() == 1
    page.evaluate("hide(false)")
    page.get_by_role("row").filter(has_text="mail").wait_for()
    assert said(page) == "Live"


def test_what_is_focused_stays_so(page, url, gator):
    gator.task("shop.mail.remind", 1)
    page.goto(f"{url}/")
    link = page.locator("main").get_by_role("link", name="mail", exact=True).first
    link.focus()
    href = link.get_attribute("href")
    look_again(page)
    gator.task("shop.mail.remind", 2)
    page.get_by_role("cell", name="2", exact=True).first.wait_for()
    assert page.evaluate("document.activeElement.getAttribute('href')") == href


def test_a_dashboard_that_is_gone_for_a_while_is_told_and_found_again(page, url, gator):
    page.watched.allows = ["Failed to load resource", "failed: net::ERR_FAILED"]
    page.goto(f"{url}/")
    look_again(page)
    page.route(f"{url}/", lambda route: route.abort())
    state = page.locator("[data-live-state]")
    state.filter(has_text="No answer from the dashboard; trying again").wait_for()
    page.unroute(f"{url}/")
    state.filter(has_text="Live").wait_for()


def test_a_server_that_cannot_be_reached_is_told(opened, site):
    gator = Gator(f"redis://127.0.0.1:{free_port()}/0")
    page = opened()
    page.watched.allows = ["503"]
    page.goto(f"{site.mount(Dashboard(gator))}/")
    assert page.locator("h1").inner_text() == "The queue cannot be reached."
    eventually(lambda: page.watched.answers[0][1] == 503)
