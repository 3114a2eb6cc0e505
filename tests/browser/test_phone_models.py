"""The softphone with the real models: the demo's agent is enrolled, calls in, and is known."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.async_api import expect

from gateway.demo.material import demo_call
from gateway.ports import StoredCategory
from tests.browser.pages import NewPage, take_both
from tests.client import Account
from tests.earshot_process import EarshotProcess
from tests.models_here import models_folder
from tests.quality_world import wav

pytestmark = [pytest.mark.models, pytest.mark.timeout(400)]

RATE_HZ = 16000
UNTIL_S = 34
"""Money back has been asked for by then."""
PATIENCE_MS = 150_000
"""For engines that share a machine."""
CALL = demo_call("en")


@pytest.fixture(scope="module")
def chromium_arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Agent and customer in one microphone."""
    with av.open(str(CALL.audio)) as container:
        stream = container.streams.audio[0]
        parts = [frame.to_ndarray().reshape(-1, stream.codec_context.channels) for frame in container.decode(stream)]
    mixed = np.concatenate(parts)[: UNTIL_S * RATE_HZ].astype(np.int32).sum(axis=1)
    speech = tmp_path_factory.mktemp("microphone") / "speech.wav"
    speech.write_bytes(wav(np.clip(mixed, -32768, 32767).astype(np.int16), rate_hz=RATE_HZ))
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={speech}"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EarshotProcess]:
    environment = {"EARSHOT_APPS": "demo:secret", "EARSHOT_MODELS_DIR": str(models_folder())}
    with EarshotProcess(tmp_path_factory.mktemp("screen") / "data", environment) as one:
        yield one


async def test_a_voice_is_enrolled_on_one_page_and_known_on_the_other(new_page: NewPage, client: Account) -> None:
    await client.quality.add_rule("demo", StoredCategory("Money back", "", ("refund",)))
    page = await new_page("/screen/voices")
    await page.context.grant_permissions(["microphone"])
    await page.locator("input[type=file]").set_input_files(Path(CALL.enrolment))
    await expect(page.locator(".voices-readout")).to_contain_text("Good")
    await page.get_by_label("Name", exact=True).fill(CALL.agent.name)
    await page.get_by_role("button", name="Enrol").click()
    await expect(page.locator(".voices-name")).to_have_text([CALL.agent.name], timeout=PATIENCE_MS)

    await page.locator("input[type=file]").set_input_files(Path(CALL.enrolment))
    await page.get_by_role("button", name="Who is this?").click()
    await expect(page.locator(".voices-hit").first).to_contain_text(CALL.agent.name, timeout=PATIENCE_MS)
    await take_both(page, "voices-demo")

    await page.get_by_role("link", name="Phone").click()
    await page.get_by_label("Spoken language").select_option("en")
    await page.get_by_label("Agent's name").fill(CALL.agent.name)
    await page.get_by_role("button", name="Call", exact=True).click()
    await expect(page.locator(".phone-alert").first).to_contain_text("Money back", timeout=PATIENCE_MS)
    lines = page.locator(".phone-line")
    await expect(lines.filter(has_text="thank you for calling").first).to_contain_text(CALL.agent.name)
    await expect(page.locator(".phone-line mark").first).to_have_text("refund")
    await take_both(page, "phone-demo")
    await page.locator(".phone-hangup").click()
    await page.locator(".phone-live[data-state=over]").wait_for(timeout=PATIENCE_MS)
    verdict = page.get_by_role("region", name="Verdict of voice QC")
    await expect(verdict).to_contain_text("Money back")
    await expect(page.locator(".phone-alert .chip").first).to_have_text("Confirmed")
