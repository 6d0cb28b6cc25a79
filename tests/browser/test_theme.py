"""Test light and dark: the system's, until the visitor chooses."""

LIGHT, DARK = "rgb(245, 247, 244)", "rgb(16, 23, 19)"


def ground(page) -> str:
    """Return the colour of the ground of a page."""
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_it_is_that_of_the_system(shop_url, opened):
    page = opened(f"{shop_url}/")
    assert ground(page) == LIGHT
    page.emulate_media(color_scheme="dark")
    assert ground(page) == DARK


def test_the_system_s_needs_no_script(shop_url, opened):
    page = opened(f"{shop_url}/", java_script_enabled=False, color_scheme="dark")
    shown = page.locator("main")
    assert shown.evaluate("each => getComputedStyle(each.parentNode).backgroundColor") == DARK
    assert page.locator("[data-theme-toggle]").is_hidden()  # it could do nothing


def test_a_choice_is_kept(shop_url, opened):
    for system, first, then in (("light", LIGHT, DARK), ("dark", DARK, LIGHT)):
        page = opened(f"{shop_url}/", color_scheme=system, locale="en-GB")  # a storage of its own
        assert ground(page) == first
        toggle = page.locator("[data-theme-toggle]")
        assert toggle.get_attribute("aria-label") == (
            f"Switch to the {'dark' if system == 'light' else 'light'} theme"
        )
        toggle.click()
        assert ground(page) == then
        page.reload()
        assert ground(page) == then
        page.goto(f"{shop_url}/do/pause?queue=mail")
        assert ground(page) == then
        page.locator("[data-theme-toggle]").click()
        page.reload()
        assert ground(page) == first
