"""The page of one call: as it happens, after a reload, when it is over, and for whom it is not."""

import re

import pytest
import pytest_asyncio
from playwright.async_api import Locator, Page, WebSocketRoute, expect

from gateway.ports import StoredCategory
from protocol.messages import ClientTranscript, Continue, Dtmf, Mark, Pause
from tests.browser.calls import AGENT, ANSWER, CUSTOMER, GREETING, Talk, people_and_rules, talking, together
from tests.browser.conftest import PATIENCE_MS
from tests.browser.pages import PHONE, Faults, NewPage, settled, take_both
from tests.client import Account
from tests.earshot_process import EarshotProcess
from tests.integration.hummed import humming

SCRIPT = "<img src=x onerror=alert(1)><script>alert(2)</script>"
NOT_SEALED = r"status of 409 .*/recording$"
"""What a browser logs while a recording is being sealed."""
TOO_WIDE = """
[...document.querySelectorAll("main *")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1
  && !one.closest(".call-scroll, .call-scroll-x, .unseen")).map((one) => `${one.tagName}.${one.className}`)
"""
CERTAINTY = re.compile("final|provisional")
RECORDING = re.compile("/recording$")
UNKNOWN = r"status of 404 .*/v1/calls/[^/]+(/recording|/levels.*)?$"


@pytest.fixture(scope="module")
def chromium_arguments() -> list[str]:
    return ["--autoplay-policy=no-user-gesture-required"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rules(server: EarshotProcess) -> None:
    from tests.client import account

    async with account(server.http, server.ws, "demo", "secret") as app:
        await people_and_rules(app)


@pytest_asyncio.fixture(loop_scope="module")
async def app(client: Account, rules: None, faults: Faults) -> Account:
    faults.expect(NOT_SEALED)
    return client


TRANSCRIPT = ".call-transcript .call-scroll"


def line(page: Page, text: str) -> Locator:
    return page.locator(".call-line").filter(has_text=text)


def alert(page: Page, category: str) -> Locator:
    return page.locator(".call-alerts > li").filter(has=page.get_by_role("heading", name=category, exact=True))


def state(page: Page, name: str) -> Locator:
    return page.locator(f"[data-call-state={name}]")


async def ended_call(app: Account, *more: bytes) -> str:
    async with talking(app) as talk:
        for pcm in (GREETING, *more):
            await talk.say(pcm)
        await talk.hang_up()
        return talk.call_id


async def shown(page: Page) -> dict[str, list[str]]:
    """Everything that the page says of the call, by part."""
    parts = (
        ".call-line", "section > .call-alerts > li", ".call-shadow", ".call-verdict", ".call-legend",
        ".call-head .call-facts",
    )  # fmt: skip
    texts = {part: await page.locator(part).all_text_contents() for part in parts}
    return {part: [" ".join(text.split()) for text in found] for part, found in texts.items()}


# --- as it happens -----------------------------------------------------------------------------------------------


async def test_a_call_is_seen_as_it_happens_and_later_at_the_same_address(app: Account, new_page: NewPage) -> None:
    async with talking(app) as talk:
        page = await new_page(f"/screen/calls/{talk.call_id}")
        await expect(state(page, "live")).to_be_visible()
        await expect(page.locator("[data-watch=live]")).to_be_visible()
        await expect(page.get_by_text("Nothing has been said.")).to_be_visible()
        await expect(page.get_by_text("can be played when the call has hung up")).to_be_visible()
        await talk.say(GREETING)
        await expect(line(page, "I want a refund.")).to_contain_text("Customer")
        await expect(line(page, "Goodbye.")).to_contain_text(AGENT)
        await expect(page.locator(".call-legend")).to_contain_text(AGENT)
        await expect(alert(page, "Money back").locator(".chip[data-status]")).to_have_text(CERTAINTY)
        await expect(line(page, "refund").locator("mark.is-keyword")).to_have_text("refund")
        await expect(page.get_by_text("It judges the recording after the hangup.")).to_be_visible()
        await expect(page.get_by_text("1 rule in shadow was hit")).to_be_visible(timeout=PATIENCE_MS)
        address = page.url
        await talk.hang_up()
    await expect(state(page, "judged")).to_be_visible()
    await expect(alert(page, "Money back").locator("[data-status=confirmed]")).to_be_visible()
    await expect(page.locator("[data-verdict=failed]")).to_contain_text("not passed")
    await expect(page.get_by_role("button", name="Play")).to_be_enabled()
    await expect(page.get_by_role("link", name="Download the recording")).to_be_visible()
    live = await shown(page)
    await page.reload()
    await expect(state(page, "judged")).to_be_visible()
    assert page.url == address
    await expect(page.get_by_role("button", name="Play")).to_be_enabled()
    assert await shown(page) == live


async def test_who_reloads_in_the_middle_of_a_call_misses_nothing(app: Account, new_page: NewPage) -> None:
    async with talking(app) as talk:
        path = f"/screen/calls/{talk.call_id}"
        faithful, restless = await new_page(path), await new_page(path)
        await talk.say(GREETING)
        await expect(alert(restless, "Money back")).to_be_visible()
        await restless.reload()
        await settled(restless)
        await expect(line(restless, "I want a refund.")).to_be_visible()
        await talk.say(ANSWER)
        for page in (faithful, restless):
            await expect(line(page, "Give me your manager.")).to_be_visible()
            await expect(line(page, "Goodbye.").filter(has_text=CUSTOMER)).to_be_visible()
            await expect(alert(page, "Escalation")).to_be_visible()
        # Not yet healed by the document that is read again at the end.
        told, told_again = await shown(faithful), await shown(restless)
        for part in (".call-line", "section > .call-alerts > li"):
            assert told_again[part] == told[part]
        await restless.reload()
        await talk.hang_up()
    for page in (faithful, restless):
        await expect(state(page, "judged")).to_be_visible()
        await expect(page.locator("[data-verdict=failed]")).to_be_visible()
        await expect(line(page, CUSTOMER)).not_to_have_count(0)
    assert await shown(restless) == await shown(faithful)


async def test_a_watch_that_is_cut_goes_on_where_it_was(app: Account, new_page: NewPage, faults: Faults) -> None:
    faults.expect("WebSocket")
    sockets: list[WebSocketRoute] = []

    def pass_on(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    async with talking(app) as talk:
        page = await new_page("/screen/rules")
        await page.route_web_socket(re.compile("/v1/watch"), pass_on)
        await page.goto(f"/screen/calls/{talk.call_id}")
        await expect(page.locator("[data-watch=live]")).to_be_visible()
        for pcm, told in ((GREETING, "I want a refund."), (ANSWER, "Give me your manager.")):
            await sockets[-1].close(code=1011)
            await expect(page.locator("[data-watch=connecting]")).to_be_visible()
            await talk.say(pcm)
            await expect(line(page, told)).to_be_visible()
        await expect(alert(page, "Escalation")).to_be_visible()
        assert len(sockets) >= 3
        live = await shown(page)
        await page.reload()
        await expect(alert(page, "Escalation")).to_be_visible()
        await expect(line(page, CUSTOMER)).to_be_visible()
        assert (await shown(page))[".call-line"] == live[".call-line"]


async def test_a_call_that_goes_while_it_is_looked_at_says_so(app: Account, new_page: NewPage, faults: Faults) -> None:
    faults.expect("status of 404")
    async with talking(app) as talk:
        page = await new_page(f"/screen/calls/{talk.call_id}")
        await expect(state(page, "live")).to_be_visible()
        gone = {"code": "unknown_call", "message": "no call"}
        await page.route("**/v1/calls/*?segments=0", lambda route: route.fulfill(status=404, json=gone))
        await expect(page.get_by_role("heading", name="This call has been deleted")).to_be_visible(timeout=PATIENCE_MS)


async def test_pauses_keys_and_marks_stand_on_the_timeline(app: Account, new_page: NewPage) -> None:
    async with talking(app) as talk:
        await talk.client.send(Dtmf(digit="5"))
        await talk.client.send(Mark(name="consent"))
        await talk.say(GREETING)
        await talk.client.send(Pause())
        page = await new_page(f"/screen/calls/{talk.call_id}")
        await expect(state(page, "paused")).to_be_visible()
        await talk.say(together(humming((0, 3000)), b""))
        await talk.client.send(Continue())
        await talk.say(ANSWER)
        await expect(page.locator(".call-legend")).to_contain_text("no audio")
    await expect(state(page, "judged")).to_be_visible()
    await expect(page.locator(".call-legend")).to_contain_text("both speak")


# --- afterwards --------------------------------------------------------------------------------------------------


async def test_evidence_leads_to_where_it_was_heard_and_plays_it(app: Account, new_page: NewPage) -> None:
    page = await new_page(f"/screen/calls/{await ended_call(app, ANSWER)}")
    await expect(page.get_by_role("button", name="Play")).to_be_enabled()
    evidence = alert(page, "Money back").locator(".call-jump").first
    await expect(evidence).to_contain_text("refund")
    await evidence.click()
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await expect(line(page, "I want a refund.").first).to_have_attribute("aria-current", "true")
    await page.wait_for_function("document.querySelector('audio').currentTime > 3")
    await expect(page.locator(".is-word.is-now")).not_to_have_count(0)
    slider = page.get_by_role("slider")
    assert int(await slider.get_attribute("aria-valuenow") or 0) >= 3
    assert await page.evaluate("document.querySelector('audio').currentTime < 9")
    # On with the sentence that is heard then.
    await expect(line(page, CUSTOMER)).to_have_attribute("aria-current", "true")


async def test_the_recording_is_fetched_in_pieces_and_played_by_keys(app: Account, new_page: NewPage) -> None:
    page = await new_page(f"/screen/calls/{await ended_call(app, ANSWER)}")
    fetched: list[str] = []
    page.on(
        "request",
        lambda request: fetched.append(request.headers.get("range", "all")) if RECORDING.search(request.url) else None,
    )
    await page.reload()
    await expect(page.get_by_role("button", name="Play")).to_be_enabled()
    await page.locator("body").press("ArrowRight")
    await page.wait_for_function("document.querySelector('audio').currentTime === 5")
    assert "bytes=0-0" in fetched  # what came before the reload may be told after it
    assert len(fetched) > 1
    assert "all" not in fetched
    await page.locator("body").press("Shift+ArrowLeft")
    await page.wait_for_function("document.querySelector('audio').currentTime === 4")
    await page.locator("body").press("Space")
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await page.locator("body").press("Space")
    await expect(page.get_by_role("button", name="Play")).to_be_visible()
    await page.get_by_role("slider").press("Space")
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await page.get_by_label("Speed").select_option("2×")
    assert await page.evaluate("document.querySelector('audio').playbackRate") == 2


async def test_silence_can_be_skipped(app: Account, new_page: NewPage) -> None:
    quiet = together(humming((0, 30_000)), b"")
    page = await new_page(f"/screen/calls/{await ended_call(app, quiet, GREETING)}")
    await expect(page.get_by_role("button", name="Play")).to_be_enabled()
    await page.get_by_label("Skip silence").check()
    slider = page.get_by_role("slider")
    await slider.press("Home")
    await slider.press("ArrowRight")
    await slider.press("ArrowRight")
    await page.get_by_role("button", name="Play").click()
    # At its own speed this would take half a minute.
    await page.wait_for_function("document.querySelector('audio').currentTime > 36", timeout=20_000)


async def test_a_recording_that_is_gone_is_said_to_be(
    app: Account, new_page: NewPage, server: EarshotProcess, faults: Faults
) -> None:
    faults.expect(r"status of 404 .*/(recording|levels\?.*)$")
    call_id = await ended_call(app)
    (server.data / "recordings" / f"{call_id}.wav").unlink()
    page = await new_page(f"/screen/calls/{call_id}")
    await expect(page.get_by_text("There is no recording")).to_be_visible()
    await expect(page.get_by_role("button", name="Play")).to_be_disabled()
    await expect(line(page, "I want a refund.")).to_be_visible()


async def test_the_timeline_is_zoomed_moved_and_read_by_keys_and_wheel(app: Account, new_page: NewPage) -> None:
    page = await new_page(f"/screen/calls/{await ended_call(app, ANSWER)}")
    await expect(state(page, "judged")).to_be_visible()
    await expect(page.get_by_role("button", name="Play")).to_be_enabled()
    slider, canvas = page.get_by_role("slider"), page.locator(".call-canvas")

    async def drawn() -> str:
        await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return str(await canvas.evaluate("(element) => element.toDataURL()"))

    await expect(slider).to_have_attribute("data-measured-ms", re.compile(r"\d{4,}"))

    whole = await drawn()
    await slider.press("ArrowUp")
    zoomed = await drawn()
    await slider.press("PageDown")
    moved = await drawn()
    await slider.press("0")
    assert await drawn() == whole
    assert len({whole, zoomed, moved}) == 3
    await canvas.hover(position={"x": 100, "y": 60})
    await page.mouse.wheel(0, -400)
    await page.mouse.move(5, 5)
    assert await drawn() != whole
    async with page.expect_response(lambda answer: "step_ms=10&" in answer.url) as finer:
        for _ in range(6):
            await page.get_by_role("button", name="Zoom in").click()
    assert (await finer.value).status == 200
    await page.get_by_role("button", name="Show the whole call").click()
    await canvas.click(position={"x": 300, "y": 60})
    position = int(await slider.get_attribute("aria-valuenow") or 0)
    assert position > 0
    await slider.press("ArrowRight")
    await expect(slider).to_have_attribute("aria-valuenow", str(position + 5))
    await canvas.hover(position={"x": 120, "y": 60})
    await expect(page.locator(".call-readout")).to_contain_text("Goodbye.")
    await page.get_by_text("Segments as a table").click()
    await expect(page.get_by_role("row").filter(has_text="I want a refund.")).to_contain_text("Customer")


async def test_words_are_found_in_the_transcript(app: Account, new_page: NewPage) -> None:
    page = await new_page(f"/screen/calls/{await ended_call(app, GREETING)}")
    find = page.get_by_role("searchbox")
    await find.fill("REFUND")
    await expect(page.get_by_text("2 places")).to_be_visible()
    await find.press("Enter")
    await expect(page.locator("mark.is-chosen")).to_have_count(1)
    await find.fill("nothing like it")
    await expect(page.get_by_text("0 places")).to_be_visible()


async def scrolled(page: Page, where: str) -> None:
    """Return once the transcript stands at its `end` or its `begin`."""
    left = {"end": "one.scrollHeight - one.scrollTop - one.clientHeight", "begin": "one.scrollTop"}[where]
    await page.wait_for_function(f"() => {{ const one = document.querySelector('{TRANSCRIPT}'); return {left} < 5; }}")


async def say_thirty(page: Page, talk: Talk) -> None:
    for number in range(30):
        said = ClientTranscript(text=f"sentence {number}", begin_ms=number * 10, end_ms=number * 10 + 9, channel=1)
        await talk.client.send(said)
    await expect(line(page, "sentence 29")).to_be_attached()
    await scrolled(page, "end")


async def test_a_reader_who_scrolls_up_is_left_in_peace_and_can_come_back(app: Account, new_page: NewPage) -> None:
    async with talking(app) as talk:
        page = await new_page(f"/screen/calls/{talk.call_id}", size=(1280, 500))
        await say_thirty(page, talk)
        await page.locator(TRANSCRIPT).hover()
        await page.mouse.wheel(0, -5000)
        now = page.get_by_role("button", name="Jump to now")
        await expect(now).to_be_visible()
        await talk.client.send(ClientTranscript(text="one more", begin_ms=4000, end_ms=4100, channel=1))
        await expect(line(page, "one more")).to_be_attached()
        await scrolled(page, "begin")
        await now.click()
        await scrolled(page, "end")
        await expect(now).to_be_hidden()


async def test_what_moves_by_itself_does_not_end_following(app: Account, new_page: NewPage) -> None:
    async with talking(app) as talk:
        page = await new_page(f"/screen/calls/{talk.call_id}", size=(1280, 500))
        await say_thirty(page, talk)
        # As where rows take their heights late, or a panel above grows.
        await page.locator(".call-scroll-frame").evaluate("(frame) => { frame.style.height = '120px'; }")
        await scrolled(page, "end")
        await page.locator(TRANSCRIPT).evaluate("(one) => { one.scrollTop -= 150; }")
        await talk.client.send(ClientTranscript(text="one more", begin_ms=4000, end_ms=4100, channel=1))
        await expect(line(page, "one more")).to_be_attached()
        await scrolled(page, "end")
        await expect(page.get_by_role("button", name="Jump to now")).to_be_hidden()


# --- whom it is for ----------------------------------------------------------------------------------------------


async def test_hostile_names_and_transcripts_are_text(app: Account, new_page: NewPage) -> None:
    await app.quality.add_rule("demo", StoredCategory(f"Bad {SCRIPT}", "", ("onerror",)))
    try:
        async with talking(app, roles=[SCRIPT, "customer"], metadata={"agent": SCRIPT, SCRIPT: SCRIPT}) as talk:
            page = await new_page(f"/screen/calls/{talk.call_id}")
            await talk.client.send(Mark(name=SCRIPT))
            await talk.client.send(ClientTranscript(text=f"{SCRIPT} \u202e {{}}", begin_ms=0, end_ms=900, channel=0))
            await talk.say(GREETING)
            await expect(line(page, SCRIPT).first).to_be_visible()
            await expect(alert(page, f"Bad {SCRIPT}")).to_be_visible()
            await page.get_by_text("Segments as a table").click()
            await page.get_by_text("1 more detail").click()
        await expect(state(page, "judged")).to_be_visible()
        await alert(page, f"Bad {SCRIPT}").locator(".call-jump").first.click()
        await page.reload()
        await expect(line(page, SCRIPT).first).to_be_visible()
        assert await page.locator("main img, main script").count() == 0
    finally:
        await app.quality.delete_rule("demo", f"Bad {SCRIPT}")


async def test_another_apps_call_is_no_call(app: Account, new_page: NewPage, faults: Faults) -> None:
    faults.expect(UNKNOWN)
    async with talking(app) as talk:
        page = await new_page(f"/screen/calls/{talk.call_id}", app=("other", "secret"))
        await expect(page.locator("[data-gone=unknown]")).to_be_visible()
        await talk.say(GREETING)
        await expect(page.get_by_role("link", name="Back to the board")).to_be_visible()
        assert await page.get_by_text("refund").count() == 0


async def test_a_deleted_call_and_one_that_never_was_say_so(app: Account, new_page: NewPage, faults: Faults) -> None:
    faults.expect(UNKNOWN)
    call_id = await ended_call(app)
    page = await new_page(f"/screen/calls/{call_id}")
    await expect(state(page, "judged")).to_be_visible()
    assert (await app.send("DELETE", f"/v1/calls/{call_id}"))[0] in (200, 202, 204)
    await page.reload()
    await expect(page.get_by_role("heading", name="No such call")).to_be_visible()
    other = await new_page("/screen/calls/never-was")
    await expect(other.get_by_role("heading", name="No such call")).to_be_visible()
    assert "No such call" in await other.title()


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_everybody_can_use_it_live_and_afterwards(app: Account, new_page: NewPage, language: str) -> None:
    async with talking(app) as talk:
        page = await new_page(f"/screen/calls/{talk.call_id}", language=language)
        await talk.say(GREETING)
        await expect(line(page, AGENT)).to_be_visible()
        await expect(alert(page, "Money back")).to_be_visible()
        await take_both(page, f"call-live-{language}")
        await talk.say(ANSWER)
        await expect(alert(page, "Escalation")).to_be_visible()
    await expect(state(page, "judged")).to_be_visible()
    await expect(page.locator("[data-play=play]")).to_be_enabled()
    await alert(page, "Money back").locator(".call-jump").first.click()
    await page.locator("[data-play=play]").click()
    await page.locator("summary").first.click()
    await page.evaluate("scrollTo(0, 0)")
    await take_both(page, f"call-{language}")
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert await page.evaluate(TOO_WIDE) == []
    await take_both(page, f"call-phone-{language}")


async def test_the_page_can_be_walked_through_by_keyboard(app: Account, new_page: NewPage) -> None:
    page = await new_page(f"/screen/calls/{await ended_call(app)}")
    await expect(page.get_by_role("button", name="Play")).to_be_enabled()
    reached = set()
    for _ in range(60):
        await page.keyboard.press("Tab")
        reached.add(
            await page.evaluate(
                "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.slice(0, 40)"
            )
        )
    wanted = {"Copy the call's id", "Position in the call", "Play", "Find in the transcript", "Report to print"}
    assert wanted <= reached
    assert any(name.startswith("Go to 0:0") for name in reached)
