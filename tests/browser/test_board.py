"""The supervisor's board over real calls: what it shows, in what order, and that it holds still under one's hands."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, expect

from protocol.messages import Pause
from tests.browser.live_calls import (
    AGENT_OFFERS,
    CUSTOMER_WANTS_A_REFUND,
    CUSTOMER_WANTS_THE_MANAGER,
    PAUSE,
    QUIET,
    calling,
    two_channels,
)
from tests.browser.pages import PHONE, Faults, NewPage, take_both
from tests.client import Account
from tests.earshot_process import EarshotProcess

OFFER = two_channels([QUIET, AGENT_OFFERS, PAUSE], [])
REFUND = two_channels([], [QUIET, CUSTOMER_WANTS_A_REFUND, PAUSE])
MANAGER = two_channels([], [QUIET, CUSTOMER_WANTS_THE_MANAGER, PAUSE])
STILL_SPEAKING = two_channels([QUIET, AGENT_OFFERS], [])
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def rules(client: Account) -> None:
    for category, content in (("Refund demand", "refund"), ("Escalation", "manager&&!goodbye"), (HOSTILE, "help")):
        status, answer = await client.send("PUT", f"/v1/rules/{category}", {"contents": [content]})
        assert status == 200, answer


@pytest_asyncio.fixture(loop_scope="module")
async def calls() -> AsyncIterator[AsyncExitStack]:
    """Hung up at the end of the test."""
    async with AsyncExitStack() as stack:
        yield stack


def row(page: Page, agent: str) -> Locator:
    return page.locator(".board-body .board-row", has=page.get_by_role("link", name=agent, exact=True))


async def agents(page: Page) -> list[str]:
    """From the top of the board down."""
    return await page.locator(".board-body .board-agent").all_text_contents()


async def test_a_live_call_appears_grows_and_leaves(page: Page, client: Account) -> None:
    async with calling(client, "Ann Lee", OFFER) as caller:
        ann = row(page, "Ann Lee")
        await expect(ann).to_contain_text("How can I help you?")
        await expect(ann.locator(".board-chip")).to_contain_text("! ")
        await expect(page.locator(".board-counts")).to_contain_text("1 live call")
        await caller.speak(REFUND)
        await expect(ann).to_contain_text("I want a refund.")
        await expect(ann).to_contain_text("Refund demand")
        await expect(ann).to_have_attribute("data-kind", "final")
    await expect(ann).to_have_count(0)
    past = page.locator(".board-past tbody tr", has_text="Ann Lee")
    await expect(past.get_by_role("link")).to_have_attribute("href", f"/screen/calls/{caller.client.call_id}")


async def test_who_speaks_is_seen_and_heard(page: Page, client: Account) -> None:
    async with calling(client, "Sam Ode", STILL_SPEAKING):
        agent = row(page, "Sam Ode").locator(".board-party").first
        await expect(agent).to_have_class("board-party agent speaking")
        await expect(agent).to_contain_text("Agent is speaking")


async def test_meters_move_with_the_sound(page: Page, client: Account) -> None:
    async with calling(client, "Lou Dee") as caller:
        level = row(page, "Lou Dee").locator(".board-level").first
        await expect(level).to_be_attached()
        for _ in range(20):
            await caller.speak(STILL_SPEAKING)
            if "scaleX(0)" not in (await level.get_attribute("style") or "scaleX(0)"):
                break
        await expect(level).not_to_have_attribute("style", "transform: scaleX(0);")


async def test_what_needs_a_look_comes_first(page: Page, client: Account, calls: AsyncExitStack) -> None:
    quiet = await calls.enter_async_context(calling(client, "1 quiet"))
    await calls.enter_async_context(calling(client, "2 provisional", MANAGER))
    lost = await calls.enter_async_context(calling(client, "3 lost"))
    await calls.enter_async_context(calling(client, "4 final", REFUND))
    await expect(row(page, "4 final")).to_have_attribute("data-kind", "final")
    await expect(row(page, "2 provisional")).to_have_attribute("data-kind", "provisional")
    await quiet.client.send(Pause())
    await expect(row(page, "1 quiet").locator(".board-state")).to_have_text("Paused")
    await expect(page.locator(".board-body .board-agent")).to_have_text(
        ["4 final", "2 provisional", "1 quiet", "3 lost"]
    )
    lost.unplug()
    await expect(row(page, "3 lost").locator(".board-state")).to_have_text("Disconnected")
    await expect(page.locator(".board-body .board-agent")).to_have_text(
        ["4 final", "2 provisional", "3 lost", "1 quiet"]
    )
    await expect(page.locator(".board-counts")).to_have_text("4 live calls · 2 with alerts · 1 disconnected")


async def test_rows_hold_still_under_the_pointer(page: Page, client: Account, calls: AsyncExitStack) -> None:
    await calls.enter_async_context(calling(client, "A first"))
    second = await calls.enter_async_context(calling(client, "B second"))
    await expect(page.locator(".board-body .board-agent")).to_have_text(["A first", "B second"])
    await row(page, "A first").hover()
    await second.speak(REFUND)
    await expect(page.get_by_role("button", name="sort now")).to_be_visible()
    assert await agents(page) == ["A first", "B second"]
    await page.get_by_role("button", name="sort now").click()
    await expect(page.locator(".board-body .board-agent")).to_have_text(["B second", "A first"])


async def test_the_filter_is_kept_in_the_address(page: Page, client: Account, calls: AsyncExitStack) -> None:
    await calls.enter_async_context(calling(client, "Zoe", REFUND))
    await calls.enter_async_context(calling(client, "Max"))
    await expect(row(page, "Zoe")).to_have_attribute("data-kind", "final")
    await page.get_by_label("Alerts only").check()
    await expect(page.locator(".board-body .board-agent")).to_have_text(["Zoe"])
    await page.get_by_label("Find in calls").fill("refund")
    await expect(page).to_have_url(re.compile(r"\?q=refund&alerts=1$"))
    await page.reload()
    await expect(page.locator(".board-body .board-agent")).to_have_text(["Zoe"])
    await expect(page.get_by_label("Alerts only")).to_be_checked()
    await page.get_by_label("Find in calls").fill("nobody said this")
    await expect(page.get_by_text("No call matches")).to_be_visible()
    await page.get_by_label("Find in calls").fill("")
    await page.get_by_label("Alerts only").uncheck()
    await page.get_by_label("Agent", exact=True).select_option("Max")
    await expect(page.locator(".board-body .board-agent")).to_have_text(["Max"])


async def test_the_keyboard_walks_the_rows_and_opens_a_call(
    page: Page, client: Account, calls: AsyncExitStack, faults: Faults
) -> None:
    await calls.enter_async_context(calling(client, "A first"))
    second = await calls.enter_async_context(calling(client, "B second"))
    await expect(page.locator(".board-body .board-agent")).to_have_text(["A first", "B second"])
    await page.keyboard.press("/")
    await expect(page.get_by_label("Find in calls")).to_be_focused()
    for _ in range(5):
        await page.keyboard.press("Tab")
        if await page.locator(".board-row:focus").count():
            break
    await expect(row(page, "A first")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(row(page, "B second")).to_be_focused()
    await second.speak(REFUND)
    await expect(row(page, "B second")).to_have_attribute("data-kind", "final")
    await expect(row(page, "B second")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/screen/calls/{second.client.call_id}")


async def test_a_screen_reader_finds_a_table(page: Page, client: Account) -> None:
    async with calling(client, "Ann Lee", REFUND):
        await expect(row(page, "Ann Lee")).to_contain_text("Refund demand")
        grid = page.get_by_role("grid", name="Live calls")
        await expect(grid).to_have_attribute("aria-rowcount", "2")
        await expect(grid.get_by_role("columnheader")).to_have_text(
            ["Agent", "Time", "Who speaks", "Said last", "Alerts"]
        )
        await expect(grid.get_by_role("rowheader")).to_have_text(["Ann Lee"])
        await expect(grid.get_by_role("gridcell").last).to_contain_text("Refund demand final")


async def test_a_new_final_alert_is_told_to_those_who_hear_the_page(page: Page, client: Account) -> None:
    async with calling(client, "Ann Lee") as caller:
        await expect(row(page, "Ann Lee")).to_be_visible()
        await caller.speak(REFUND)
        await expect(page.locator("[role=status].unseen")).to_have_text("Final alert: Ann Lee, Refund demand")


async def test_the_board_comes_back_after_the_network_was_gone(
    new_page: NewPage, client: Account, faults: Faults
) -> None:
    faults.expect("ERR_INTERNET_DISCONNECTED|WebSocket")
    page = await new_page()
    async with calling(client, "Ann Lee"):
        await expect(row(page, "Ann Lee")).to_be_visible()
        await page.context.set_offline(True)
        await expect(page.get_by_text("Connecting …")).to_be_visible()
        async with calling(client, "Bob Ray"):
            await page.context.set_offline(False)
            await expect(row(page, "Bob Ray")).to_be_visible()
            await expect(row(page, "Ann Lee")).to_be_visible()


async def test_another_app_sees_no_call(new_page: NewPage, client: Account) -> None:
    async with calling(client, "Ann Lee", REFUND):
        mine = await new_page()
        await expect(row(mine, "Ann Lee")).to_be_visible()
        theirs = await new_page(app=("other", "secret"))
        await expect(theirs.locator(".shell-state")).to_have_text("Live")
        await expect(theirs.get_by_text("No calls at the moment.")).to_be_visible()
        await expect(theirs.get_by_text("No call has ended yet.")).to_be_visible()


async def test_markup_in_names_and_texts_runs_no_script(page: Page, client: Account) -> None:
    async with calling(client, HOSTILE, OFFER):
        await expect(page.locator(".board-agent", has_text=HOSTILE)).to_be_visible()
        await expect(page.locator(".board-chip-name")).to_have_text(HOSTILE)
        assert await page.locator("main img, main script").count() == 0


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_the_board_can_be_used_by_everybody(
    new_page: NewPage, client: Account, calls: AsyncExitStack, language: str, server: EarshotProcess
) -> None:
    for agent, sound in (("Ann Lee", REFUND), ("Bob Ray", MANAGER), ("Wei Wang", STILL_SPEAKING), ("Eve Sun", OFFER)):
        await calls.enter_async_context(calling(client, agent, sound))
    page = await new_page(language=language)
    await expect(row(page, "Ann Lee")).to_have_attribute("data-kind", "final")
    await expect(row(page, "Eve Sun").locator(".board-text")).not_to_be_empty()
    await take_both(page, f"board-{language}")
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
