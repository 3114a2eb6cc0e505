"""Voices in the browser: enrolled from a microphone or a file, recognised, deleted."""

import re

import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.pages import PHONE, NewPage, serious_issues, take_both
from tests.client import Account
from tests.voices import RATE_HZ, voice, wav

HOSTILE = "Mallory <img src=x onerror=alert(1)>'\"&amp; ../%2e"
QUIET_SHARE = 0.01


@pytest.fixture(scope="module")
def chromium_arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    speech = tmp_path_factory.mktemp("microphone") / "speech.wav"
    speech.write_bytes(wav(voice(1, seconds=4)))
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={speech}"]


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nobody_yet(client: Account) -> None:
    """Voices that earlier tests enrolled are gone."""
    assert (await client.get("/voiceid/delete-all?org_id=demo&tag_id=agents"))[0] == 200


async def voices(new_page: NewPage, **options: object) -> Page:
    page = await new_page("/screen/voices", **options)  # type: ignore[arg-type]
    await page.context.grant_permissions(["microphone"])
    return page


async def choose(page: Page, pcm: bytes, name: str = "take.wav") -> None:
    """Choose a file as the recording."""
    file = {"name": name, "mimeType": "audio/wav", "buffer": wav(pcm)}
    await page.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    await page.locator("audio[src^=blob]").wait_for()


async def enrol(page: Page, name: str) -> None:
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_role("button", name="Enrol").click()


async def names(page: Page) -> list[str]:
    return await page.locator(".voices-name").all_inner_texts()


async def test_a_voice_is_recorded_enrolled_recognised_and_deleted(new_page: NewPage) -> None:
    page = await voices(new_page)
    await expect(page.get_by_text("Nobody is enrolled here yet.")).to_be_visible()
    await page.get_by_role("button", name="Record", exact=True).click()
    await expect(page.locator(".voices-figure dd").nth(1)).to_have_text(re.compile(r"^([2-9]|\d\d)\.\d s$"))
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator(".voices-readout")).to_contain_text(re.compile("Good|It will do"))
    await enrol(page, HOSTILE)
    await expect(page.get_by_role("region", name="Answer")).to_contain_text("is enrolled")
    await expect(page.locator(".voices-name")).to_have_text([HOSTILE])

    await choose(page, voice(1, take=2, seconds=4))
    await page.get_by_role("button", name="Who is this?").click()
    hit = page.locator(".voices-hit").first
    await expect(hit).to_contain_text(HOSTILE)
    score = float(await hit.locator(".number").inner_text())
    assert score > 80

    await page.get_by_role("button", name=f"Delete {HOSTILE}").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert await names(page) == [HOSTILE]
    await page.get_by_role("button", name=f"Delete {HOSTILE}").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("Nobody is enrolled here yet.")).to_be_visible()


async def test_what_was_enrolled_can_be_heard_and_is_what_was_sent(new_page: NewPage) -> None:
    page = await voices(new_page)
    await choose(page, voice(2, seconds=3))
    await enrol(page, "Ben")
    row = page.get_by_label("Recording of Ben", exact=True)
    length_s = await row.evaluate(
        """async (audio) => {
          audio.load();
          await new Promise((done, failed) => { audio.onloadedmetadata = done; audio.onerror = failed; });
          return audio.duration;
        }"""
    )
    assert length_s == pytest.approx(3, abs=0.1)
    await page.get_by_role("button", name="Add a recording of Ben").click()
    await choose(page, voice(2, take=3, seconds=3))
    await expect(page.get_by_label("What it is")).to_have_value("add")
    await page.get_by_role("button", name="Enrol").click()
    await expect(page.get_by_role("region", name="Answer")).to_contain_text("Ben has one more recording")
    await choose(page, voice(3, seconds=3))
    await enrol(page, "Ben")
    refusal = page.get_by_role("region", name="Answer")
    await expect(refusal).to_contain_text("Code 10107")
    await expect(refusal).to_contain_text("name is taken")
    await page.get_by_role("button", name="Delete Ben").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.locator(".voices-name")).to_have_count(0)


@pytest.mark.parametrize(
    ("pcm", "advice", "refusal"),
    [
        (
            (np.frombuffer(voice(4, seconds=3), "<i2") * QUIET_SHARE / 2).astype("<i2").tobytes(),
            "Too quiet",
            "too quiet",
        ),
        (bytes(3 * RATE_HZ * 2), "nothing to hear", "silent"),
        (
            np.where(np.frombuffer(voice(4, seconds=3), "<i2") > 0, 32767, -32768).astype("<i2").tobytes(),
            "cut off",
            "clipped",
        ),
    ],
    ids=["quiet", "silent", "clipped"],
)
async def test_a_poor_recording_is_told_by_the_page_and_refused_by_the_service_with_what_to_do(
    new_page: NewPage, pcm: bytes, advice: str, refusal: str
) -> None:
    page = await voices(new_page)
    await choose(page, pcm)
    await expect(page.locator(".voices-readout")).to_contain_text(advice)
    await enrol(page, "Nobody")
    answer = page.get_by_role("region", name="Answer")
    await expect(answer).to_contain_text(re.compile(refusal))
    await expect(answer).to_contain_text("Code 10107")
    assert await names(page) == []


async def test_a_file_that_the_browser_cannot_read_is_the_services_to_judge(new_page: NewPage) -> None:
    page = await voices(new_page)
    letter = {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"no sound"}
    await page.locator("input[type=file]").set_input_files(letter)  # type: ignore[arg-type]
    await expect(page.locator(".voices-readout")).to_contain_text("cannot read the file")
    await page.get_by_role("button", name="Who is this?").click()
    await expect(page.get_by_role("region", name="Answer")).to_contain_text("Code 10701")


async def test_another_app_sees_no_voice(new_page: NewPage) -> None:
    page = await voices(new_page)
    await choose(page, voice(5, seconds=3))
    await enrol(page, "Emma")
    await expect(page.locator(".voices-name")).to_have_text(["Emma"])
    other = await voices(new_page, app=("other", "secret"))
    await expect(other.get_by_text("Nobody is enrolled here yet.")).to_be_visible()
    await other.get_by_label("Organisation", exact=True).fill("demo")
    await other.get_by_role("button", name="Show").click()
    await expect(other.get_by_text("Nobody is enrolled here yet.")).to_be_visible()
    await choose(other, voice(5, seconds=3))
    await other.get_by_role("button", name="Who is this?").click()
    await expect(other.get_by_role("region", name="Answer")).to_contain_text("Nobody is enrolled to compare with")


async def test_a_microphone_that_is_refused_is_explained(new_page: NewPage) -> None:
    page = await new_page("/screen/voices")
    await page.get_by_role("button", name="Record", exact=True).click()
    await expect(page.get_by_role("alert").first).to_contain_text("may not use the microphone")


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_it_can_be_used_on_a_phone_by_everybody_in_both_languages(new_page: NewPage, language: str) -> None:
    page = await voices(new_page, size=PHONE, language=language)
    await choose(page, voice(6, seconds=3))
    await page.get_by_role("button", name={"en": "Who is this?", "zh": "识别说话人"}[language]).click()
    await page.locator(".voices-result").wait_for()
    await take_both(page, f"voices-{language}-narrow")
    assert not await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


async def test_the_wide_page_is_fit_to_be_seen(new_page: NewPage) -> None:
    page = await voices(new_page)
    await choose(page, voice(7, seconds=12))
    await enrol(page, "Anna Berger")
    await expect(page.get_by_label("Recording of Anna Berger", exact=True)).to_be_visible()
    await choose(page, voice(7, take=2, seconds=12))
    await page.get_by_role("button", name="Who is this?").click()
    await page.locator(".voices-hit").first.wait_for()
    await take_both(page, "voices")
    await page.get_by_role("button", name="Delete Anna Berger").click()
    assert await serious_issues(page) == []
