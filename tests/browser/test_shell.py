"""The screen's shell: how it is served, who may come in, where one can go."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.pages import PHONE, Faults, NewPage, settled, take_both
from tests.client import Account
from tests.earshot_process import EarshotProcess


async def test_the_root_leads_to_the_screen(server: EarshotProcess, client: Account) -> None:
    async with client.session.get(server.http + "/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/screen/")


async def test_the_page_may_run_nothing_but_its_own_files_and_connect_to_nothing_but_its_own_sockets(
    server: EarshotProcess, client: Account
) -> None:
    async with client.session.get(server.http + "/screen/") as answer:
        policy = dict([*part.split(" ", 1), ""][:2] for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["style-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert policy["frame-ancestors"] == "'none'"
        assert server.ws.removesuffix("/v1/calls") in policy["connect-src"].split()
        assert "*" not in policy["connect-src"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-cache"
        page = await answer.text()
    assert "<script>" not in page
    assert "style=" not in page


@pytest.mark.parametrize("host", ["evil.example; script-src *", "a b", "x'unsafe-inline'"])
async def test_a_host_that_no_browser_sends_adds_nothing_to_the_policy(
    server: EarshotProcess, client: Account, host: str
) -> None:
    async with client.session.get(server.http + "/screen/", headers={"Host": host}) as answer:
        if answer.status == 200:
            assert "evil" not in answer.headers["Content-Security-Policy"]
            assert "unsafe" not in answer.headers["Content-Security-Policy"]


async def test_files_of_this_version_are_kept_for_good_and_others_asked_for_again(
    server: EarshotProcess, client: Account
) -> None:
    async with client.session.get(server.http + "/screen/") as answer:
        found = re.search(r"/screen/v-[0-9a-f]+/app\.js", await answer.text())
    assert found is not None
    async with client.session.get(server.http + found[0]) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Content-Type"].startswith("text/javascript")
    async with client.session.get(server.http + "/screen/app.js") as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
        tag = answer.headers["ETag"]
    async with client.session.get(server.http + "/screen/app.js", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304
    async with client.session.get(server.http + "/screen/v-0123456789abcdef/app.js") as answer:
        assert answer.status == 404


async def test_nothing_but_the_screens_own_files_is_served(server: EarshotProcess, client: Account) -> None:
    for path in ("..%2f..%2fapp.py", "%2e%2e/pages.py", "../assets.py", "views/%00", "nowhere"):
        async with client.session.get(f"{server.http}/screen/{path}") as answer:
            assert answer.status == 404
            assert "import" not in await answer.text()


async def test_one_signs_in_with_an_app_and_its_secret_and_out_again(new_page: NewPage, faults: Faults) -> None:
    page = await new_page(app=None)
    await page.get_by_label("App id").fill("demo")
    await page.get_by_label("Secret").fill("wrong")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("no such app")
    await page.get_by_label("Secret").fill("secret")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("navigation")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Secret")).to_have_value("")
    await page.reload()
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()


async def test_a_link_with_a_ticket_signs_in_once_and_leaves_the_address(
    new_page: NewPage, client: Account, server: EarshotProcess
) -> None:
    async with client.session.post(
        server.http + "/v1/tickets", json={"purpose": "screen"}, headers=client.headers
    ) as answer:
        assert answer.status == 201
        ticket = (await answer.json())["ticket"]
    page = await new_page(f"/screen/#ticket={ticket}", app=None)
    await expect(page.get_by_role("navigation")).to_be_visible()
    assert "ticket" not in page.url
    other = await new_page(f"/screen/#ticket={ticket}", app=None)
    await expect(other.get_by_role("alert")).to_contain_text("has been used")


async def test_a_session_that_is_over_asks_to_sign_in_again(page: Page, faults: Faults) -> None:
    faults.expect("status of 401")
    await page.context.clear_cookies()
    await page.get_by_role("link", name="Rules").click()
    await expect(page.get_by_role("alert")).to_contain_text("session is over")


async def test_views_come_by_their_addresses_and_the_way_back_works(page: Page) -> None:
    await page.get_by_role("link", name="Rules").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Rules")
    await expect(page.get_by_role("link", name="Rules")).to_have_attribute("aria-current", "page")
    await page.go_back()
    await expect(page.get_by_role("link", name="Board")).to_have_attribute("aria-current", "page")
    assert await page.title() == "Live calls · Earshot"


async def test_a_view_that_does_not_load_says_so(page: Page, faults: Faults) -> None:
    faults.expect("rules.js|dynamically imported|status of 404|ERR_FAILED")
    await page.route("**/views/rules.js", lambda route: route.abort())
    await page.get_by_role("link", name="Rules").click()
    await expect(page.get_by_role("alert")).to_contain_text("did not load")
    await page.get_by_role("link", name="Board").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Live calls")


async def test_an_unknown_address_leads_back_to_the_board(new_page: NewPage, faults: Faults) -> None:
    faults.expect("status of 404")
    page = await new_page("/screen/nowhere")
    await page.get_by_role("link", name="Back to the board").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Live calls")


async def test_the_language_follows_the_browser_and_the_switch(new_page: NewPage) -> None:
    page = await new_page(language="zh")
    await expect(page.get_by_role("heading", level=1)).to_have_text("实时通话")
    await page.get_by_label("语言").select_option("en")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Live calls")
    await page.reload()
    await settled(page)
    await expect(page.locator("html")).to_have_attribute("lang", "en")


async def test_days_are_written_as_the_reader_writes_them(new_page: NewPage) -> None:
    asked = "import('/screen/format.js').then(({ stamp }) => stamp(Date.UTC(2026, 10, 22, 15), '%s').split(/[,年]/)[0])"
    british = await new_page()
    assert await british.evaluate(asked % "en") == "22 Nov 2026"
    assert await british.evaluate(asked % "zh") == "2026"


async def test_colours_follow_the_system_and_the_switch(page: Page) -> None:
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    await page.emulate_media(color_scheme="dark")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.get_by_label("Colours").select_option("light")
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")


async def test_the_keyboard_skips_to_the_content(page: Page) -> None:
    await page.locator("body").press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_way_in_can_be_used_by_everybody(new_page: NewPage, language: str) -> None:
    page = await new_page(app=None, language=language)
    await take_both(page, f"sign-in-{language}")
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
