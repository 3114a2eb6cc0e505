"""Pictures of a day's work, some of which `docs/` shows: calls between known people, rules that have done something."""

from contextlib import AsyncExitStack

import pytest_asyncio
from playwright.async_api import expect

from tests.browser.calls import ANSWER, GREETING, people_and_rules, talking
from tests.browser.live_calls import (
    AGENT_OFFERS,
    CUSTOMER_WANTS_THE_MANAGER,
    PAUSE,
    QUIET,
    calling,
    two_channels,
)
from tests.browser.pages import NewPage, take_both
from tests.client import Account, account
from tests.earshot_process import EarshotProcess

SIZE = (1280, 680)
OFFER = two_channels([QUIET, AGENT_OFFERS, PAUSE], [])
STILL_SPEAKING = two_channels([QUIET, AGENT_OFFERS], [])
MANAGER = two_channels([], [QUIET, CUSTOMER_WANTS_THE_MANAGER, PAUSE])
SOME_SOUND = 40


@pytest_asyncio.fixture(autouse=True, scope="module", loop_scope="module")
async def two_calls_ago(server: EarshotProcess) -> None:
    async with account(server.http, server.ws, "demo", "secret") as app:
        await people_and_rules(app)
        for sounds in ((GREETING, ANSWER), (GREETING,)):
            async with talking(app) as talk:
                for sound in sounds:
                    await talk.say(sound)


async def test_a_board_with_calls_of_every_kind(new_page: NewPage, client: Account) -> None:
    async with AsyncExitStack() as calls:
        await calls.enter_async_context(calling(client, "Bob Ray", OFFER, OFFER))
        await calls.enter_async_context(calling(client, "Wei Wang", MANAGER))
        lost = await calls.enter_async_context(calling(client, "Eve Sun", OFFER))
        anna = await calls.enter_async_context(talking(client))
        speaking = await calls.enter_async_context(calling(client, "Dan Cole"))
        page = await new_page(size=SIZE)
        await anna.say(GREETING)
        lost.unplug()
        row = page.locator(".board-body .board-row", has_text="Anna Bell")
        await expect(row).to_have_attribute("data-kind", "final")
        await expect(page.get_by_text("Disconnected", exact=True).last).to_be_visible()
        levels = page.locator(".board-body .board-row", has_text="Dan Cole").locator(".board-level")
        for _ in range(SOME_SOUND):
            await speaking.speak(STILL_SPEAKING)
            if "scaleX(0)" not in (await levels.first.get_attribute("style") or "scaleX(0)"):
                break
        await take_both(page, "board-calls")


async def test_rules_with_a_record_and_a_trial(new_page: NewPage) -> None:
    page = await new_page("/screen/rules?category=Escalation", size=SIZE)
    await expect(page.locator(".rule-record")).to_contain_text("alert")
    await expect(page.locator(".rule-record")).not_to_contain_text("ahead")  # these calls came faster than one speaks
    await page.get_by_label("Sentences, one a line").fill("Give me your manager.\nThe manager is sorry.")
    await page.get_by_label("Stored calls").select_option("20")
    await page.get_by_role("button", name="Try", exact=True).click()
    await expect(page.locator(".trial-summary")).to_contain_text("2 sentences")
    await page.locator(".trial-results").scroll_into_view_if_needed()
    await take_both(page, "rules-calls")
