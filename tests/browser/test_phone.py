"""The browser softphone: somebody opens a page and talks."""

import base64
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from gateway.ports import StoredCategory
from tests.browser.pages import PHONE, Faults, NewPage, serious_issues, take_both
from tests.browser.relays import Network
from tests.client import Account, account
from tests.earshot_process import EarshotProcess
from tests.integration.hummed import eventually, humming
from tests.quality_world import wav
from tests.voices import RATE_HZ

TALK = humming((0, 300), (130, 1500), (0, 900), (100, 1200), (0, 700), rate_hz=RATE_HZ)
"""The customer asks for money back, the agent offers help."""
SAID = {"I want a refund.", "How can I help you?"}
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'"
KEEP_WHAT_IS_SENT = """
const send = WebSocket.prototype.send;
window.audioSent = new Map();
WebSocket.prototype.send = function (data) {
  if (data instanceof Uint8Array) {
    const header = new DataView(data.buffer, data.byteOffset, 16);
    audioSent.set(Number(header.getBigUint64(8)), data.slice(16));
  }
  return send.call(this, data);
};
"""
"""By first sample; what is sent twice counts once."""


@pytest.fixture(scope="module")
def chromium_arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    speech = tmp_path_factory.mktemp("microphone") / "speech.wav"
    speech.write_bytes(wav(np.frombuffer(TALK, np.int16), rate_hz=RATE_HZ))
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={speech}"]


@pytest_asyncio.fixture(autouse=True, scope="module", loop_scope="module")
async def rules(server: EarshotProcess) -> None:
    """Refunds raise an alert; its category is what a stranger might have named it."""
    async with account(server.http, server.ws, "demo", "secret") as one:
        await one.quality.add_rule("demo", StoredCategory(f"complaints {HOSTILE}", "", ("refund",)))
        await one.quality.add_rule("demo", StoredCategory("never", "", ("unheard of",)))


async def phone(new_page: NewPage, **options: Any) -> Page:
    """The softphone's page, which may use the microphone."""
    page = await new_page("/screen/phone", **options)
    await page.context.grant_permissions(["microphone"])
    return page


async def call(page: Page) -> str:
    """Press the button, and answer the call's id once it is there."""
    await page.get_by_role("button", name=re.compile("^(Call|呼叫)$")).click()
    link = page.locator("a.phone-link")
    await link.wait_for()
    return str(await link.get_attribute("href")).rsplit("/", 1)[-1]


async def heard_something(page: Page) -> None:
    await page.locator(".phone-line .phone-text", has_text=re.compile("refund|help")).first.wait_for()


async def hang_up(page: Page) -> None:
    await page.locator(".phone-hangup").click()
    await page.locator(".phone-live[data-state=over]").wait_for()


async def sent(page: Page) -> bytes:
    """The audio that the page has sent, each instant once."""
    parts: Mapping[str, str] = await page.evaluate(
        """() => Object.fromEntries([...audioSent].map(([at, bytes]) => [at, btoa(String.fromCharCode(...bytes))]))"""
    )
    whole = bytearray()
    for at, part in sorted((int(at) * 2, base64.b64decode(part)) for at, part in parts.items()):
        whole[at : at + len(part)] = part
    return bytes(whole)


async def recording(client: Account, call_id: str) -> bytes:
    status, wave = await client.get(f"/v1/calls/{call_id}/recording")
    assert status == 200
    return wave[44:]


async def document(client: Account, call_id: str) -> dict[str, Any]:
    status, body = await client.get(f"/v1/calls/{call_id}")
    assert status == 200
    return dict(msgspec.json.decode(body))


@asynccontextmanager
async def network_between(page: Page, server: EarshotProcess) -> AsyncIterator[Network]:
    """From now on the page's calls go through it."""
    address = urlsplit(server.ws)
    network = Network(str(address.hostname), int(address.port or 0))
    async with network.open() as relayed:

        async def told(route: Route) -> None:
            answer = await route.fetch()
            session = await answer.json()
            await route.fulfill(response=answer, json={**session, "call_url": f"ws://{relayed}/v1/calls"})

        await page.context.route("**/v1/session", told)
        await page.reload()
        await page.locator(".phone-setup").wait_for()
        yield network


DROP = """
(types) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([Uint8Array.from(atob(WAV), (c) => c.charCodeAt(0))], "talk.wav"));
  const drag = (type) => new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true });
  return types.map((type) => !document.querySelector("h1").dispatchEvent(drag(type)));
}
"""
"""Answers whether the page has taken each, or the browser would open the file in its place."""


async def test_a_file_may_be_dropped_anywhere_on_the_page(new_page: NewPage) -> None:
    page = await phone(new_page)
    await expect(page.get_by_label("Microphone", exact=True)).to_be_checked()
    sound = base64.b64encode(wav(np.frombuffer(TALK, np.int16), rate_hz=RATE_HZ)).decode()
    await page.evaluate(f"globalThis.WAV = '{sound}'")
    assert await page.evaluate(DROP, ["dragover", "drop"]) == [True, True]
    await expect(page.get_by_label("A file", exact=True)).to_be_checked()
    await expect(page.locator(".phone-drop-name")).to_have_text("talk.wav")
    await expect(page.locator(".phone-drop .hint")).to_contain_text("one channel")
    await page.get_by_role("link", name="Rules").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Rules")
    assert await page.evaluate(DROP, ["dragover"]) == [True]  # and refused, so that nothing is dropped


async def test_somebody_calls_and_sees_words_speaker_alert_and_verdict(new_page: NewPage, client: Account) -> None:
    page = await phone(new_page)
    await page.get_by_label("Who speaks").select_option("customer")
    await page.get_by_label("Agent's name").fill(HOSTILE)
    call_id = await call(page)
    await heard_something(page)
    await expect(page.get_by_role("status").filter(has_text="You are being heard")).to_be_visible()
    await expect(page.locator(".phone-alert").first).to_contain_text("complaints <img src=x")
    await expect(page.locator(".phone-line mark").first).to_have_text("refund")
    await expect(page.locator(".phone-line .phone-who").first).to_contain_text("Customer")
    await expect(page.get_by_role("meter")).to_have_attribute("aria-valuenow", re.compile("^-[0-3]?[0-9]$"))
    await hang_up(page)
    verdict = page.get_by_role("region", name="Verdict of voice QC")
    await expect(verdict).to_contain_text("One finding")
    await expect(verdict).to_contain_text("complaints <img")
    await expect(page.locator(".phone-alert .chip").first).to_have_text("Confirmed")
    stored = await document(client, call_id)
    assert stored["state"] == "judged"
    assert {one["text"] for one in stored["segments"] if one["text"]} <= SAID
    shown = await page.locator(".phone-text").all_inner_texts()
    assert [text for text in shown if text] == [one["text"] for one in stored["segments"] if one["text"]]
    await verdict.get_by_role("link").click()
    await page.wait_for_url(f"**/screen/calls/{call_id}")
    await expect(page.locator("main")).to_contain_text(shown[0])


async def test_a_call_loses_nothing_when_the_network_is_cut(
    new_page: NewPage, server: EarshotProcess, client: Account, faults: Faults
) -> None:
    faults.expect("WebSocket connection")
    page = await phone(new_page, bypass_csp=True)
    await page.add_init_script(KEEP_WHAT_IS_SENT)
    async with network_between(page, server) as network:
        call_id = await call(page)
        await heard_something(page)
        network.fail()
        await expect(page.locator(".phone-state")).to_contain_text("Connection lost")
        await expect(page.locator(".phone-state")).to_contain_text(re.compile("[2-9] s of sound kept"))
        network.mend()
        await expect(page.locator(".phone-state")).to_contain_text("You are being heard")
        network.blink()
        await page.locator(".phone-line").nth(2).wait_for()
        await hang_up(page)
        assert await recording(client, call_id) == await sent(page)
    stored = await document(client, call_id)
    assert stored["gaps"] == []
    assert network.passed >= 3


async def test_a_page_that_is_loaded_anew_offers_to_go_on_and_shows_all_that_was_said(
    new_page: NewPage, client: Account
) -> None:
    page = await phone(new_page)
    call_id = await call(page)
    await heard_something(page)
    before = await page.locator(".phone-line .phone-text").first.inner_text()
    await page.reload()
    offer = page.get_by_role("region", name="A call was going on here")
    await offer.get_by_role("button", name="Go on with it").click()
    await expect(page.locator(".phone-line .phone-text").first).to_have_text(before)
    assert (await page.locator("a.phone-link").get_attribute("href")) == f"/screen/calls/{call_id}"
    lines = await page.locator(".phone-line").count()
    await page.locator(".phone-line").nth(lines).wait_for()
    await hang_up(page)
    stored = await document(client, call_id)
    assert stored["state"] == "judged"
    assert {gap["cause"] for gap in stored["gaps"]} == {"network"}
    await page.reload()
    await page.locator(".phone-setup").wait_for()
    await expect(offer).to_have_count(0)


async def test_a_page_that_is_loaded_anew_can_hang_up_instead(new_page: NewPage, client: Account) -> None:
    page = await phone(new_page)
    call_id = await call(page)
    await heard_something(page)
    await page.reload()
    await page.get_by_role("button", name="Hang up and get the verdict").click()
    await page.locator(".phone-live[data-state=over]").wait_for()
    assert (await document(client, call_id))["state"] == "judged"


async def test_the_call_goes_on_while_another_view_is_shown(new_page: NewPage) -> None:
    page = await phone(new_page)
    await call(page)
    await heard_something(page)
    lines = await page.locator(".phone-line").count()
    await page.get_by_role("link", name="Rules").click()
    await page.locator(".phone-live").wait_for(state="detached")
    await page.get_by_role("link", name="Phone").click()
    await page.locator(".phone-line").nth(lines).wait_for()
    await hang_up(page)


async def test_who_signs_out_hangs_up_and_the_next_one_sees_nothing_of_the_call(
    new_page: NewPage, client: Account
) -> None:
    page = await phone(new_page)
    call_id = await call(page)
    await heard_something(page)
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Secret").wait_for()

    async def ended() -> bool:
        return bool((await document(client, call_id))["reason"] == "signed_out")

    await eventually(ended)
    await page.get_by_label("App id").fill("other")
    await page.get_by_label("Secret").fill("secret")
    await page.keyboard.press("Enter")
    await page.locator(".phone-setup").wait_for()
    await expect(page.locator(".phone-line, .phone-left")).to_have_count(0)


async def test_a_stereo_file_becomes_a_call_of_two_channels_that_hangs_up_at_its_end(
    new_page: NewPage, client: Account
) -> None:
    agent = humming((100, 1200), (0, 2200), rate_hz=RATE_HZ)
    customer = humming((0, 1600), (130, 1200), (0, 600), rate_hz=RATE_HZ)
    tracks = [np.frombuffer(track, np.int16) for track in (agent, customer)]
    page = await phone(new_page)
    await page.get_by_role("radio", name="A file").focus()
    await page.keyboard.press("Space")
    await page.locator("input[type=file]").set_input_files(
        {"name": f"{HOSTILE}.wav", "mimeType": "audio/wav", "buffer": wav(*tracks, rate_hz=RATE_HZ)}
    )
    await expect(page.locator(".phone-drop")).to_contain_text("0:03, 2 channels")
    await expect(page.get_by_label("Who speaks")).to_have_value("agent,customer")
    call_id = await call(page)
    await page.locator(".phone-live[data-state=over]").wait_for()
    stored = await document(client, call_id)
    said = {(one["role"], one["text"]) for one in stored["segments"] if one["text"]}
    assert said == {("agent", "How can I help you?"), ("customer", "I want a refund.")}
    assert np.stack(tracks, axis=1).tobytes() in await recording(client, call_id)


async def test_a_file_can_be_dropped_on_the_page_and_one_that_is_no_sound_is_refused(new_page: NewPage) -> None:
    page = await phone(new_page)
    await page.get_by_text("A file").click()
    await page.locator(".phone-drop").evaluate(
        """(zone) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["no sound"], "letter.txt"));
          zone.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }"""
    )
    await expect(page.get_by_role("alert")).to_contain_text("cannot read this file as sound")
    await page.get_by_role("button", name="Call", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("Choose a file first")


async def test_a_microphone_that_is_refused_costs_no_call_and_is_explained(new_page: NewPage, client: Account) -> None:
    page = await new_page("/screen/phone")
    before = await client.get("/v1/calls?limit=1")
    await page.get_by_role("button", name="Call", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("may not use the microphone")
    await expect(page.get_by_role("button", name="Call", exact=True)).to_be_enabled()
    assert await client.get("/v1/calls?limit=1") == before


async def test_a_pause_is_shown_and_declared(new_page: NewPage, client: Account) -> None:
    page = await phone(new_page)
    call_id = await call(page)
    await heard_something(page)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator(".phone-state")).to_contain_text("Nothing that is said leaves this page")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator(".phone-state")).to_contain_text("You are being heard")
    await hang_up(page)
    assert {gap["cause"] for gap in (await document(client, call_id))["gaps"]} <= {"pause"}


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_it_can_be_used_on_a_phone_by_everybody_in_both_languages(new_page: NewPage, language: str) -> None:
    page = await phone(new_page, size=PHONE, language=language)
    await take_both(page, f"phone-{language}-narrow")
    await page.get_by_text({"en": "A file", "zh": "文件"}[language], exact=True).click()
    assert await serious_issues(page) == []
    await page.locator("input[value=microphone]").check()
    await call(page)
    await heard_something(page)
    await take_both(page, f"phone-call-{language}-narrow")
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not await page.evaluate(wide)
    await hang_up(page)
    await take_both(page, f"phone-over-{language}-narrow")
    assert not await page.evaluate(wide)


async def test_the_wide_page_is_fit_to_be_seen(new_page: NewPage) -> None:
    page = await phone(new_page)
    await take_both(page, "phone")
    await call(page)
    await page.locator(".phone-alert").first.wait_for()
    await take_both(page, "phone-call")
    await hang_up(page)
    await take_both(page, "phone-over")
