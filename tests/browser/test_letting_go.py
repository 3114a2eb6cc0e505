"""What a view has opened goes with it: questions, timers, microphones, sound contexts, and its hold on the address."""

import asyncio
import re

import numpy as np
import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.pages import NewPage
from tests.client import Account
from tests.quality_world import wav
from tests.voices import RATE_HZ, voice

KEEP_TRACKS = """
window.tracks = [];
window.asked = 0;
window.allow = () => {};
const allowed = new Promise((resolve) => (window.allow = resolve));
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wish) => {
  window.asked += 1;
  await allowed;
  const stream = await open(wish);
  window.tracks.push(...stream.getTracks());
  return stream;
};
"""
"""The browser asks whether the page may use the microphone, until `allow()`."""
ALL_ENDED = "tracks.length > 0 && tracks.every((track) => track.readyState === 'ended')"
WITHOUT_WORKLETS = """
AudioWorklet.prototype.addModule = () => Promise.reject(new DOMException("not now", "AbortError"));
const Real = AudioContext;
window.contexts = [];
window.AudioContext = class extends Real {
  constructor(options) { super(options); contexts.push(this); }
};
"""


@pytest.fixture(scope="module")
def chromium_arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    speech = tmp_path_factory.mktemp("microphone") / "speech.wav"
    speech.write_bytes(wav(np.frombuffer(voice(1, seconds=2), np.int16), rate_hz=RATE_HZ))
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={speech}"]


async def with_microphone(new_page: NewPage, view: str, script: str) -> Page:
    page = await new_page("/screen/rules")
    await page.context.grant_permissions(["microphone"])
    await page.add_init_script(script)
    await page.goto(f"/screen/{view}")
    return page


async def twice(page: Page, name: str) -> None:
    """Press a button twice before anything can come of it."""
    button = page.get_by_role("button", name=name, exact=True)
    await button.evaluate("(one) => { one.click(); one.click(); }")


async def test_a_question_goes_with_its_view(new_page: NewPage, client: Account) -> None:
    await client.send("PUT", "/v1/rules/asked", {"contents": ["word"]})
    page = await new_page("/screen/phone")
    await page.get_by_role("link", name="Rules").click()
    await page.get_by_role("link", name="asked", exact=True).click()
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.go_back()
    await expect(page.locator(".phone-setup")).to_be_visible()
    await expect(page.locator("dialog")).to_have_count(0)
    assert b'"asked"' in (await client.get("/v1/rules"))[1]


async def test_what_is_saved_after_one_has_left_does_not_change_the_address_of_another_view(
    new_page: NewPage, client: Account
) -> None:
    await client.send("PUT", "/v1/rules/left", {"contents": ["word"]})
    page = await new_page("/screen/rules?category=left")
    await page.get_by_label("Expression of rule 1").fill("another")
    sent, go_on = asyncio.Event(), asyncio.Event()

    async def late(route: Route) -> None:
        if route.request.method == "PUT":
            sent.set()
            await go_on.wait()
        await route.continue_()

    await page.route("**/v1/rules/left", late)
    await page.get_by_role("button", name="Save").click()
    await sent.wait()
    await page.get_by_role("link", name="Board").click()
    await expect(page.locator(".shell-state")).to_have_text("Live")
    async with page.expect_response("**/v1/rules/left"):
        go_on.set()
    await expect(page.locator("[role=status].unseen")).to_contain_text("saved")
    await page.evaluate("fetch('/v1/session')")  # and whatever the answer has brought about
    await expect(page).to_have_url(re.compile(r"/screen/$"))


async def test_alerts_that_wait_to_be_announced_are_forgotten_with_the_board(page: Page) -> None:
    left = await page.evaluate(
        """async () => {
          const { Announcements } = await import("/screen/views/board/announcements.js");
          const [set, clear, timers] = [setTimeout, clearTimeout, new Set()];
          globalThis.setTimeout = () => (timers.add(1), 1);
          globalThis.clearTimeout = (timer) => timers.delete(timer);
          try {
            const alerts = new Announcements({ t: String, announce() {} });
            alerts.look({ call_id: "one", agent: "Ann", alerts: [] });
            alerts.look({ call_id: "one", agent: "Ann", alerts: [{ alert_id: "a", status: "final", category: "c" }] });
            const waiting = timers.size;
            alerts.close();
            return [waiting, timers.size];
          } finally {
            Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
          }
        }"""
    )
    assert left == [1, 0]


async def test_a_recording_that_is_asked_for_twice_opens_one_microphone(new_page: NewPage) -> None:
    page = await with_microphone(new_page, "voices", KEEP_TRACKS)
    await twice(page, "Record")
    await page.evaluate("allow()")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("audio[src^=blob]")).to_be_visible()
    assert await page.evaluate(ALL_ENDED)


async def test_a_call_that_is_asked_for_again_while_it_begins_is_one_call(new_page: NewPage) -> None:
    page = await with_microphone(new_page, "phone", KEEP_TRACKS)
    await page.get_by_role("button", name="Call", exact=True).click()
    await page.wait_for_function("asked === 1")
    await page.get_by_role("link", name="Rules").click()
    await page.get_by_role("link", name="Phone").click()
    await page.get_by_role("button", name="Call", exact=True).click()
    await page.evaluate("allow()")
    await page.locator(".phone-hangup").click()
    await page.locator(".phone-live[data-state=over]").wait_for()
    assert await page.evaluate(ALL_ENDED)


async def test_a_microphone_that_cannot_be_listened_to_holds_nothing(new_page: NewPage) -> None:
    page = await with_microphone(new_page, "voices", KEEP_TRACKS + WITHOUT_WORKLETS)
    await page.evaluate("allow()")
    await page.get_by_role("button", name="Record", exact=True).click()
    await expect(page.locator(".voices-recorder [role=alert]")).not_to_be_empty()
    assert await page.evaluate(ALL_ENDED)
    assert await page.evaluate("contexts.map((one) => one.state)") == ["closed"]
