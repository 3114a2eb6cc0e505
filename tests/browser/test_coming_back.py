"""Connections that break in ways that nobody is told of, and what pages show meanwhile."""

import asyncio
import json
import re

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, WebSocketRoute, expect

from tests.browser.calls import ANSWER, GREETING, people_and_rules, talking, together
from tests.browser.live_calls import CUSTOMER_WANTS_A_REFUND, PAUSE, QUIET, calling, two_channels
from tests.browser.pages import Faults, NewPage, serious_issues
from tests.client import Account, account
from tests.earshot_process import EarshotProcess
from tests.integration.hummed import humming

WATCH = re.compile("/v1/watch")
SECOND = together(humming((0, 1000)), b"")


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def rules(server: EarshotProcess) -> None:
    async with account(server.http, server.ws, "demo", "secret") as app:
        await people_and_rules(app)


@pytest.fixture
def swallowed() -> list[bool]:
    """Whether the network swallows what the server says, by socket."""
    return []


async def with_a_bad_network(page: Page, swallowed: list[bool]) -> None:
    def connect(socket: WebSocketRoute) -> None:
        number = len(swallowed)
        swallowed.append(False)
        server = socket.connect_to_server()
        server.on_message(lambda message: None if swallowed[number] else socket.send(message))

    await page.route_web_socket(WATCH, connect)


async def test_a_watch_that_is_asked_for_while_it_begins_is_one_socket(new_page: NewPage) -> None:
    page = await new_page("/screen/rules")
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    held: list[asyncio.Event] = []
    asked = asyncio.Queue[int]()

    async def late(route: Route) -> None:
        held.append(asyncio.Event())
        asked.put_nowait(len(held))
        await held[-1].wait()
        await route.continue_()

    await page.route("**/v1/tickets", late)
    await page.get_by_role("link", name="Board").click()
    assert await asked.get() == 1
    await page.evaluate("dispatchEvent(new Event('online'))")
    assert await asked.get() == 2
    for one in held:
        async with page.expect_response("**/v1/tickets"):
            one.set()
    await expect(page.locator(".shell-state")).to_have_text("Live")
    assert len(sockets) == 1


async def test_a_server_that_never_answers_is_given_up(new_page: NewPage, client: Account) -> None:
    page = await new_page("/screen/rules")
    await page.clock.install()
    connected: list[WebSocketRoute] = []

    def connect(socket: WebSocketRoute) -> None:
        connected.append(socket)
        if len(connected) > 1:
            socket.connect_to_server()

    await page.route_web_socket(WATCH, connect)
    async with page.expect_response("**/v1/tickets"):
        await page.get_by_role("link", name="Board").click()
    await expect(page.locator(".shell-state")).to_have_text("Connecting …")
    await page.clock.fast_forward(16_000)
    await expect(page.locator(".shell-state")).to_have_text("Live")
    assert len(connected) == 2


async def test_a_watch_that_the_network_has_swallowed_goes_on(
    new_page: NewPage, client: Account, swallowed: list[bool]
) -> None:
    async with talking(client) as talk:
        page = await new_page("/screen/rules")
        await page.clock.install()
        await with_a_bad_network(page, swallowed)
        await page.goto(f"/screen/calls/{talk.call_id}")
        await expect(page.locator("[data-watch=live]")).to_be_visible()
        await talk.say(GREETING)
        await expect(page.locator(".call-line", has_text="I want a refund.")).to_be_visible()
        swallowed[0] = True
        await talk.say(ANSWER)
        for _ in range(10):
            await talk.say(SECOND)
            async with page.expect_response("**?segments=0"):
                await page.clock.fast_forward(4_000)
            if len(swallowed) > 1:
                break
        await expect(page.locator(".call-line", has_text="Give me your manager.")).to_be_visible()
        await expect(page.locator("[data-watch=live]")).to_be_visible()


async def test_a_server_that_is_gone_is_not_said_to_be_watched(
    new_page: NewPage, client: Account, swallowed: list[bool], faults: Faults
) -> None:
    faults.expect("ERR_FAILED")
    async with talking(client) as talk:
        page = await new_page("/screen/rules")
        await page.clock.install()
        await with_a_bad_network(page, swallowed)
        await page.goto(f"/screen/calls/{talk.call_id}")
        await expect(page.locator("[data-watch=live]")).to_be_visible()
        await page.route(re.compile("/v1/(calls|tickets)"), lambda route: route.abort())
        swallowed[0] = True
        await page.clock.fast_forward(4_000)
        await expect(page.locator("[data-watch=connecting]")).to_be_visible()
        await page.unroute_all()
        await page.clock.fast_forward(15_000)
        await expect(page.locator("[data-watch=live]")).to_be_visible()


async def test_a_call_that_could_not_be_shown_is_asked_for_again(
    new_page: NewPage, client: Account, faults: Faults
) -> None:
    faults.expect("ERR_FAILED")
    async with talking(client) as talk:
        page = await new_page("/screen/rules")
        await page.route("**/v1/calls/*", lambda route: route.abort())
        await page.goto(f"/screen/calls/{talk.call_id}")
        await expect(page.get_by_role("heading", name="The call cannot be shown now")).to_be_visible()
        await page.unroute_all()
        await page.get_by_role("button", name="Load again").click()
        await expect(page.locator("[data-watch=live]")).to_be_visible()


async def test_levels_that_could_not_be_had_are_asked_for_again(
    new_page: NewPage, client: Account, faults: Faults
) -> None:
    faults.expect("ERR_FAILED|status of 409")
    async with talking(client) as talk:
        await talk.say(GREETING)
        await talk.hang_up()
        page = await new_page("/screen/rules")
        await page.clock.install()
        await page.route("**/levels?*", lambda route: route.abort())
        async with page.expect_event("requestfailed"):
            await page.goto(f"/screen/calls/{talk.call_id}")
        await expect(page.locator("[data-call-state=judged]")).to_be_visible()
        await page.unroute_all()
        await page.clock.fast_forward(6_000)
        await expect(page.get_by_role("slider")).to_have_attribute("data-measured-ms", re.compile(r"\d{4,}"))


async def test_the_verdict_is_told_to_those_who_hear_the_page(
    new_page: NewPage, client: Account, faults: Faults
) -> None:
    faults.expect("status of 409")
    async with talking(client) as talk:
        page = await new_page(f"/screen/calls/{talk.call_id}")
        await talk.say(GREETING)
        await expect(page.locator(".call-line", has_text="I want a refund.")).to_be_visible()
        await talk.hang_up()
        await expect(page.locator("[role=status].unseen")).to_have_text("Voice QC: ✕ not passed: a rule was hit")


async def test_a_board_without_a_connection_can_be_read(new_page: NewPage, client: Account, faults: Faults) -> None:
    faults.expect("ERR_INTERNET_DISCONNECTED|WebSocket")
    page = await new_page()
    async with calling(client, "Ann Lee", two_channels([], [QUIET, CUSTOMER_WANTS_A_REFUND, PAUSE])):
        await expect(page.locator(".board-row[data-kind=final]", has_text="Ann Lee")).to_be_visible()
        await page.context.set_offline(True)
        await expect(page.locator(".board-grid.stale")).to_be_visible()
        for theme in ("light", "dark"):
            await page.emulate_media(color_scheme="light" if theme == "light" else "dark", reduced_motion="reduce")
            await expect(page.locator(f"html[data-theme={theme}]")).to_be_attached()
            assert await serious_issues(page) == []
        await page.context.set_offline(False)
        await expect(page.locator(".shell-state")).to_have_text("Live")


async def test_a_board_that_stands_for_long_keeps_no_more_past_calls_than_were_asked_for(
    new_page: NewPage, client: Account
) -> None:
    page = await new_page("/screen/rules")
    rounds = 0

    async def more(route: Route) -> None:
        nonlocal rounds
        rounds += 1
        numbers = range(rounds * 50, (rounds - 1) * 50, -1)
        past = {"state": "judged", "metadata": {}, "duration_ms": 1000, "alerts": 0}
        calls = [{"call_id": f"past-{n}", "began_at_ms": 1_700_000_000_000 + n * 60_000, **past} for n in numbers]
        await route.fulfill(json={"calls": calls})

    await page.route("**/v1/calls?*", more)
    await page.get_by_role("link", name="Board").click()
    rows = page.locator(".board-past tbody tr")
    await expect(rows).to_have_count(50)
    for latest in (100, 150):
        async with calling(client, "Ann Lee"):
            await expect(page.locator(".board-body .board-row", has_text="Ann Lee")).to_have_count(1)
        await expect(rows.first.get_by_role("link")).to_have_attribute("href", f"/screen/calls/past-{latest}")
        await expect(rows).to_have_count(50)
    async with page.expect_request("**/v1/calls?*before=past-101") as asked:
        await page.get_by_role("button", name="Earlier calls").click()
    assert "before=past-101" in (await asked.value).url


async def test_a_board_that_is_not_all_there_is_says_so(new_page: NewPage) -> None:
    page = await new_page("/screen/rules")
    await page.clock.install()
    others_are_gone = True
    unavailable = {"type": "error", "id": "", "code": "cluster_unavailable", "message": "gone", "retryable": True}

    def answer(socket: WebSocketRoute) -> None:
        def hear(_: str | bytes) -> None:
            socket.send('{"type": "watching", "id": ""}')
            if others_are_gone:
                socket.send(json.dumps(unavailable))

        socket.on_message(hear)

    await page.route_web_socket(WATCH, answer)
    await page.get_by_role("link", name="Board").click()
    note = page.get_by_text("calls that they hold are missing")
    await expect(note).to_be_visible()
    await expect(page.locator(".board-grid.stale")).to_have_count(0)
    await page.clock.fast_forward(5_000)  # it has asked again
    await expect(note).to_be_visible()
    others_are_gone = False
    await page.clock.run_for(21_000)
    await expect(note).to_have_count(0)
