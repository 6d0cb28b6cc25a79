"""Test that the dashboard can be used with nothing but keys."""

import pytest

from alligator.web import Dashboard
from alligator.web.pages import PAGES
from tests.browser.test_pages import address

FOCUSED = """() => {
  const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  return {
    text: (at.textContent || at.id).trim(),
    inMain: document.querySelector('main').contains(at),
    isMarked: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    isSeen: box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0,
    isBody: at === document.body,
    place: [...document.querySelectorAll('*')].indexOf(at),
  };
}"""


def focused(page) -> dict:
    """Return what has the focus."""
    return page.evaluate(FOCUSED)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path or "overview")
def test_tab_reaches_all_in_order_and_shows_where_it_is(path, shop, shop_url, opened):
    page = opened(address(shop_url, shop[1], path))
    count = page.evaluate(
        """() => [...document.querySelectorAll('a[href], button, input, select, summary')]
          .filter(each => each.type !== 'hidden' && each.checkVisibility()).length"""
    )
    places = []
    for _ in range(min(count, 40)):
        page.keyboard.press("Tab")
        at = focused(page)
        assert not at["isBody"]
        assert at["isMarked"], at
        assert at["isSeen"], at
        places.append(at["place"])
    assert places == sorted(set(places))


def test_the_first_tab_skips_to_the_content(url, gator, opened):
    gator.task("shop.mail.remind", 1)
    page = opened(f"{url}/")
    page.keyboard.press("Tab")
    assert focused(page)["text"] == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page)["inMain"]


def test_a_slash_begins_a_search_from_anywhere(url, opened):
    page = opened(f"{url}/")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("shop/mail")  # there it is a letter like any other
    assert page.locator("#search").input_value() == "shop/mail"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == ""
    page.keyboard.press("Control+/")
    assert page.evaluate("document.activeElement.id") == ""


def test_enter_acts_and_confirms(url, gator, opened):
    gator.task("shop.mail.remind", 1)
    page = opened(f"{url}/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # to the content
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused(page)["text"] == "Pause":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/do/pause?**")
    assert focused(page)["text"] == "Pause"
    assert gator.paused("mail") is None
    page.keyboard.press("Enter")
    page.get_by_role("status").filter(has_text="Queue mail is paused.").wait_for()
    assert gator.paused("mail") is not None


def test_a_visitor_who_may_only_look_finds_no_button(site, gator, opened):
    gator.task("shop.mail.remind", 1)
    page = opened(f"{site.mount(Dashboard(gator))}/")
    assert page.locator("main a.button").count() == 0
    assert page.get_by_text("Read-only").count() == 1
