"""earshot.js in a page of somebody else's, on an origin of its own: the call outlives whatever the network does."""

import asyncio
import base64
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page

from tests.browser.pages import Faults
from tests.browser.relays import Network
from tests.client import Account
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import humming
from tests.quality_world import wav

ROOT = Path(__file__).parents[2]
RATE_HZ = 16000
TALK = humming((0, 300), (130, 1500), (0, 900), (100, 1200), (0, 700), rate_hz=RATE_HZ)
"""The customer asks for money back, the agent offers help."""
CHUNK_BYTES = RATE_HZ * 2 // 25
PRELUDE = """
window.heard = []; window.states = []; window.others = [];
window.bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
window.ticket = () => fetch("/my-ticket").then((answer) => answer.text());
window.watch = (call) => {
  window.call = call;
  call.addEventListener("message", ({ detail }) => heard.push(detail));
  call.addEventListener("connection", ({ detail }) => states.push(detail));
  for (const type of ["audiolost", "failed", "device", "played"]) {
    call.addEventListener(type, ({ detail }) => others.push({ type, code: detail?.code, ...detail }));
  }
};
"""


@dataclass
class Shop:
    """A page of somebody else that calls in, what it sent and what it heard."""

    page: Page
    earshot: str
    network: Network
    ws: str
    site: "Site"

    @property
    def client(self) -> Account:
        return self.site.earshot

    async def start(self, start: dict[str, Any] | None = None, **options: Any) -> str:
        """Start a call and answer its id."""
        given = {"url": self.ws, "start": {"language": "en", **(start or {})}, **options}
        return str(
            await self.page.evaluate(
                """async ([module, options]) => {
                  const { EarshotCall } = await import(module);
                  watch(await EarshotCall.start({ ...options, ticket: window.ticket }));
                  return call.callId;
                }""",
                [f"{self.earshot}/earshot.js", given],
            )
        )

    async def say(self, pcm: bytes, between: Callable[[int], Awaitable[None]] | None = None) -> None:
        """Send audio in chunks of 40 ms; `between` is called before each."""
        for begin in range(0, len(pcm), CHUNK_BYTES):
            if between is not None:
                await between(begin // CHUNK_BYTES)
            chunk = base64.b64encode(pcm[begin : begin + CHUNK_BYTES]).decode()
            await self.page.evaluate("(chunk) => call.sendAudio(bytes(chunk))", chunk)

    async def hang_up(self) -> dict[str, Any]:
        ended: dict[str, Any] = await self.page.evaluate("call.hangUp()")
        return ended

    async def until(self, expression: str) -> None:
        await self.page.wait_for_function(expression)

    async def heard(self, kind: str = "") -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = await self.page.evaluate("heard")
        return [one for one in messages if not kind or one["type"] == kind]

    async def recording(self, call_id: str) -> bytes:
        """The PCM of the call's recording."""
        status, wav = await self.client.get(f"/v1/calls/{call_id}/recording")
        assert status == 200
        return wav[44:]

    async def document(self, call_id: str) -> dict[str, Any]:
        status, body = await self.client.get(f"/v1/calls/{call_id}")
        assert status == 200
        return dict(msgspec.json.decode(body))


@pytest.fixture(scope="module")
def chromium_arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Somebody asks for money back into the microphone, again and again."""
    speech = tmp_path_factory.mktemp("microphone") / "speech.wav"
    speech.write_bytes(wav(np.frombuffer(TALK, np.int16), rate_hz=RATE_HZ))
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={speech}"]


@pytest.fixture(scope="module")
def origin() -> str:
    """Where the shop's own site is."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture(scope="module")
def server_environment(origin: str) -> dict[str, str]:
    return {"EARSHOT_ORIGINS": origin}


@dataclass
class Site:
    """The shop's own site, whose back end gets tickets with the app's secret."""

    earshot: Account
    tickets: list[str] = field(default_factory=list)
    """Those that it gave."""


@asynccontextmanager
async def site_at(origin: str, earshot: Account) -> AsyncIterator[Site]:
    one = Site(earshot)

    async def home(_: web.Request) -> web.Response:
        page = "<!doctype html><title>Shop</title><link rel=icon href=data:,>"
        return web.Response(text=page, content_type="text/html")

    async def ticket(_: web.Request) -> web.Response:
        try:
            status, body = await one.earshot.send("POST", "/v1/tickets", {"purpose": "call"})
        except aiohttp.ClientError:
            return web.Response(status=503)
        assert status == 201
        one.tickets.append(msgspec.json.decode(body)["ticket"])
        return web.Response(text=one.tickets[-1])

    app = web.Application()
    app.add_routes([web.get("/", home), web.get("/my-ticket", ticket)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    address = urlsplit(origin)
    await web.TCPSite(runner, address.hostname, address.port).start()
    try:
        yield one
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="module")
async def shop(
    server: EarshotProcess, browser: Browser, client: Account, faults: Faults, origin: str
) -> AsyncIterator[Shop]:
    address = urlsplit(server.ws)
    network = Network(str(address.hostname), int(address.port or 0))
    async with site_at(origin, client) as site, network.open() as relayed:
        context = await browser.new_context(permissions=["microphone"])
        await context.add_init_script(PRELUDE)
        page = await context.new_page()
        faults.listen(page)
        await page.goto(origin)
        yield Shop(page, server.http, network, f"ws://{relayed}/v1/calls", site)
        await context.close()


async def test_a_call_from_a_page_arrives_byte_for_byte_and_every_message_comes_once_and_in_order(shop: Shop) -> None:
    call_id = await shop.start()
    await shop.say(TALK)
    ended = await shop.hang_up()
    assert (ended["reason"], ended["samples"]) == ("hangup", len(TALK) // 2)
    assert await shop.recording(call_id) == TALK
    assert [one["text"] for one in await shop.heard("transcript") if one["final"]] == [
        "I want a refund.",
        "How can I help you?",
    ]
    numbers = [one["seq"] for one in await shop.heard() if one["seq"]]
    assert numbers == sorted(set(numbers))
    assert await shop.page.evaluate("[call.state, call.keptMs]") == ["over", 0]


async def test_nothing_is_lost_or_said_twice_when_the_network_breaks_again_and_again(
    shop: Shop, faults: Faults
) -> None:
    faults.expect("WebSocket connection")
    call_id = await shop.start()

    async def disturb(chunk: int) -> None:
        if chunk % 20 == 7:
            shop.network.blink()
        if chunk % 20 == 9:  # into the break, or just behind it
            await shop.page.evaluate("(name) => call.mark(name)", f"m{chunk}")

    await shop.say(TALK, disturb)
    ended = await shop.hang_up()
    assert shop.network.cuts > 3
    assert len(shop.site.tickets) == len(set(shop.site.tickets)) >= shop.network.passed > 3
    assert ended["samples"] == len(TALK) // 2
    assert await shop.recording(call_id) == TALK
    numbers = [one["seq"] for one in await shop.heard() if one["seq"]]
    assert numbers == sorted(set(numbers))
    document = await shop.document(call_id)
    marks = [(note["value"], note["at_ms"]) for note in document["notes"]]
    assert marks == [(f"m{chunk}", chunk * 40) for chunk in range(len(TALK) // CHUNK_BYTES + 1) if chunk % 20 == 9]
    assert document["gaps"] == []


@pytest.mark.parametrize("framing", ["raw", "framed"])
async def test_while_there_is_no_network_audio_is_kept_and_the_page_is_told_how_much(
    shop: Shop, faults: Faults, framing: str
) -> None:
    faults.expect("WebSocket connection")
    call_id = await shop.start({"framing": framing})
    await shop.say(TALK[: 50 * CHUNK_BYTES])
    shop.network.fail()
    await shop.until("call.state === 'lost'")
    await shop.say(TALK[50 * CHUNK_BYTES :])
    await shop.until("states.some(({ state, keptMs, attempt }) => state === 'lost' && keptMs > 2000 && attempt > 3)")
    assert shop.network.refused > 2
    shop.network.mend()
    await shop.until("call.state === 'live'")
    await shop.hang_up()
    assert await shop.recording(call_id) == TALK


async def test_what_there_is_no_room_to_keep_is_told_and_is_a_gap_of_its_length(shop: Shop, faults: Faults) -> None:
    faults.expect("WebSocket connection")
    call_id = await shop.start(keepSeconds=1)
    loud = np.full(RATE_HZ * 4, 1000, "<i2").tobytes()
    await shop.say(loud[: 25 * CHUNK_BYTES])
    await shop.until("call.keptMs === 0")
    shop.network.fail()
    await shop.until("call.state === 'lost'")
    await shop.say(loud[25 * CHUNK_BYTES : 75 * CHUNK_BYTES])
    lost = await shop.page.evaluate("others.filter(({ type }) => type === 'audiolost')")
    assert (lost[0]["fromMs"], lost[-1]["toMs"]) == (2000, 3000)
    shop.network.mend()
    await shop.until("call.keptMs === 0")
    await shop.say(loud[75 * CHUNK_BYTES :])
    await shop.hang_up()
    gap = slice(2 * RATE_HZ * 2, 3 * RATE_HZ * 2)
    assert await shop.recording(call_id) == loud[: gap.start] + bytes(2 * RATE_HZ) + loud[gap.stop :]
    assert [(one["from_sample"], one["to_sample"], one["cause"]) for one in await shop.heard("gap")] == [
        (2 * RATE_HZ, 3 * RATE_HZ, "network")
    ]


async def test_audio_that_the_server_does_not_take_yet_is_held_back_and_arrives_all_the_same(
    shop: Shop, tmp_path: Path, origin: str
) -> None:
    slow = {"EARSHOT_APPS": "demo:secret", "EARSHOT_ORIGINS": origin, "EARSHOT_CATCH_UP_SPEED": "0.4"}
    with EarshotProcess(tmp_path / "data", slow, module=HUMMED) as server:
        await serve_by(shop, server)
        call_id = await shop.start()
        audio = np.random.default_rng(1).integers(-200, 200, 32 * RATE_HZ, np.int16).tobytes()
        await shop.page.evaluate("(audio) => call.sendAudio(bytes(audio))", base64.b64encode(audio).decode())
        await shop.until("states.some(({ state, keptMs }) => state === 'held' && keptMs > 500)")
        await shop.page.evaluate("call.mark('behind it all')")
        await shop.until("call.keptMs === 0 && call.state === 'live'")
        await shop.hang_up()
        assert await shop.recording(call_id) == audio
        assert [note["at_ms"] for note in (await shop.document(call_id))["notes"]] == [32_000]


async def test_a_call_goes_on_when_the_server_is_replaced(
    shop: Shop, faults: Faults, origin: str, tmp_path: Path
) -> None:
    faults.expect("WebSocket connection|status of 503")
    environment = {"EARSHOT_APPS": "demo:secret", "EARSHOT_ORIGINS": origin, "EARSHOT_QC_POLL_S": "0.1"}
    with EarshotProcess(tmp_path / "data", environment, module=HUMMED) as first:
        await serve_by(shop, first)
        call_id = await shop.start()
        await shop.say(TALK[: 50 * CHUNK_BYTES])
        await shop.until("call.keptMs === 0")
        await shop.page.evaluate("call.mark('half')")
        first.process.terminate()
        await shop.until("heard.some(({ type }) => type === 'going_away')")
        await shop.say(TALK[50 * CHUNK_BYTES : 60 * CHUNK_BYTES])
        await asyncio.to_thread(first.process.wait, 30)
    with EarshotProcess(tmp_path / "data", environment, module=HUMMED) as second:
        await serve_by(shop, second)
        await shop.say(TALK[60 * CHUNK_BYTES :])
        await shop.until("call.state === 'live'")
        await shop.hang_up()
        assert await shop.recording(call_id) == TALK
        assert [note["value"] for note in (await shop.document(call_id))["notes"]] == ["half"]
        numbers = [one["seq"] for one in await shop.heard() if one["seq"]]
        assert numbers == sorted(set(numbers))


async def serve_by(shop: Shop, server: EarshotProcess) -> None:
    """From now on this server is behind the network, and gives the tickets."""
    address = urlsplit(server.ws)
    shop.network.host, shop.network.port = str(address.hostname), int(address.port or 0)
    shop.site.earshot = replace(shop.client, http=server.http, ws=server.ws)


async def test_in_a_pause_nothing_that_is_said_leaves_the_page_and_time_goes_on(shop: Shop) -> None:
    await shop.page.evaluate(
        """() => {
          const send = WebSocket.prototype.send;
          window.sent = [];
          WebSocket.prototype.send = function (data) { sent.push(data); return send.call(this, data); };
        }"""
    )
    call_id = await shop.start()
    loud = np.full(RATE_HZ, 1000, "<i2").tobytes()
    await shop.say(loud)
    await shop.page.evaluate("call.pause()")
    await shop.say(loud)
    await shop.page.evaluate("call.continue()")
    await shop.say(loud)
    await shop.hang_up()
    assert await shop.recording(call_id) == loud + bytes(len(loud)) + loud
    silent = await shop.page.evaluate(
        "sent.filter((one) => one instanceof Uint8Array && one.subarray(16).every((byte) => byte === 0)).length"
    )
    assert silent >= len(loud) // CHUNK_BYTES - 1
    assert [one["cause"] for one in await shop.heard("gap")] == ["pause"]


async def test_a_call_that_another_page_takes_over_stays_with_that_page(shop: Shop) -> None:
    call_id = await shop.start()
    await shop.say(TALK[: 40 * CHUNK_BYTES])
    await shop.until("call.keptMs === 0")
    await shop.page.evaluate(
        """async ([module, url]) => {
          const { EarshotCall } = await import(module);
          window.first = call;
          heard.length = 0;
          watch(await EarshotCall.resume({ url, ticket: window.ticket, saved: first.saved, positionMs: 2000 }));
        }""",
        [f"{shop.earshot}/earshot.js", shop.ws],
    )
    await shop.until("first.state === 'over' && others.some(({ code }) => code === 'replaced')")
    await shop.say(TALK[50 * CHUNK_BYTES :])
    await shop.hang_up()
    missing = bytes(10 * CHUNK_BYTES)
    assert await shop.recording(call_id) == TALK[: 40 * CHUNK_BYTES] + missing + TALK[50 * CHUNK_BYTES :]
    assert [one["type"] for one in await shop.heard()][:2] == ["replaced", "started"]  # the first page, then this one
    assert [(one["from_sample"], one["cause"]) for one in await shop.heard("gap")] == [(40 * 640, "network")]


async def test_a_message_that_the_server_refuses_is_not_sent_again_and_the_call_goes_on(shop: Shop) -> None:
    call_id = await shop.start()
    await shop.say(TALK[: 20 * CHUNK_BYTES])
    await shop.page.evaluate("call.mark('before')")
    await shop.page.evaluate("call.update({ colour: 'green' })")
    await shop.page.evaluate("call.mark('after')")
    await shop.until("heard.some(({ type, code }) => type === 'error' && code === 'bad_message')")
    await shop.say(TALK[20 * CHUNK_BYTES :])
    await shop.hang_up()
    assert await shop.recording(call_id) == TALK
    assert [note["value"] for note in (await shop.document(call_id))["notes"]] == ["before", "after"]


async def test_a_microphone_is_heard(shop: Shop) -> None:
    call_id = await shop.start()
    await shop.page.evaluate("call.microphone()")
    await shop.until("heard.some(({ type, final, text }) => type === 'transcript' && final && text)")
    ended = await shop.hang_up()
    recording = await shop.recording(call_id)
    assert len(recording) == ended["samples"] * 2
    assert (await shop.heard("transcript"))[-1]["text"] in ("I want a refund.", "How can I help you?")


async def test_the_example_of_its_header_and_of_the_docs_works(shop: Shop) -> None:
    module = (ROOT / "gateway/screen/static/earshot.js").read_text()
    example = re.findall(r"^ \*     (.+)$", module, re.MULTILINE)
    assert len(example) == 3
    assert "```js\n" + "\n".join(example) + "\n```" in (ROOT / "docs/screen.md").read_text()
    script = "\n".join([*example, "window.call = call;"])
    script = script.replace("https://earshot.example.com", shop.earshot)
    script = script.replace("wss://earshot.example.com:8081/v1/calls", shop.ws)
    async with shop.page.expect_console_message(lambda said: said.text.startswith("mixed ") and len(said.text) > 6):
        await shop.page.add_script_tag(content=script, type="module")
    assert (await shop.hang_up())["reason"] == "hangup"


async def test_a_microphone_that_is_not_allowed_is_told_as_such(shop: Shop) -> None:
    await shop.page.context.clear_permissions()
    await shop.start()
    told = await shop.page.evaluate("call.microphone().catch(({ name, code }) => [name, code])")
    assert told == ["EarshotError", "microphone_refused"]
    await shop.hang_up()


@pytest.mark.parametrize("channels", [1, 2])
async def test_a_file_arrives_byte_for_byte_at_the_speed_of_speech(shop: Shop, channels: int) -> None:
    tracks = [
        np.frombuffer(humming((0, 200), (pitch, 900), (0, 700), rate_hz=RATE_HZ), np.int16) for pitch in (100, 130)
    ]
    file = base64.b64encode(wav(*tracks[:channels], rate_hz=RATE_HZ)).decode()
    call_id = await shop.start({"channels": channels})
    await shop.page.evaluate("(file) => call.play(new Blob([bytes(file)]))", file)
    await shop.until("others.some(({ type }) => type === 'played')")
    await shop.hang_up()
    played = np.stack(tracks[:channels], axis=1).tobytes()
    recording = await shop.recording(call_id)
    begin = recording.find(played)
    assert begin >= 0, "the recording holds the file as it is"
    assert not any(recording[:begin]), "before it is silence"
    assert not any(recording[begin + len(played) :]), "and behind it"
    assert (await shop.document(call_id))["duration_ms"] >= 1800


async def test_two_devices_are_two_channels(shop: Shop) -> None:
    call_id = await shop.start({"channels": 2})
    await shop.page.evaluate(
        """async () => {
          const context = new AudioContext();
          const [low, high] = [400, 1000].map((hz) => {
            const tone = new OscillatorNode(context, { frequency: hz });
            const stream = context.createMediaStreamDestination();
            tone.connect(stream);
            tone.start();
            return stream.stream;
          });
          await call.listen([low, high]);
        }"""
    )
    await shop.until("call.positionMs > 1500")
    await shop.hang_up()
    recording = np.frombuffer(await shop.recording(call_id), "<i2").reshape(-1, 2)[-RATE_HZ:]
    strongest = np.abs(np.fft.rfft(recording, axis=0)).argmax(axis=0) * RATE_HZ / len(recording)
    assert np.allclose(strongest, (400, 1000), atol=3)


async def test_where_the_browser_does_not_resample_the_worklets_filter_does(shop: Shop) -> None:
    made = await shop.page.evaluate(
        """async ([module, rates]) => {
          const { Resampler } = await import(module);
          return rates.map((rate) => {
            const resampler = new Resampler(rate, 16000);
            const tones = Float32Array.from({ length: rate * 2 }, (_, i) =>
              0.25 * Math.sin((2 * Math.PI * 1000 * i) / rate) + 0.25 * Math.sin((2 * Math.PI * 8200 * i) / rate));
            const out = [];
            for (let at = 0; at < tones.length; at += 128) out.push(...resampler.push(tones.subarray(at, at + 128)));
            return out;
          });
        }""",
        [f"{shop.earshot}/earshot/resampler.js", [44100, 48000]],
    )
    for samples in made:
        assert 2 * 16000 - 60 <= len(samples) <= 2 * 16000
        middle = np.array(samples[4000:20000]) * np.hanning(16000)
        spectrum_db = 20 * np.log10(np.abs(np.fft.rfft(middle)) / (0.25 * 16000 / 4) + 1e-12)
        assert abs(spectrum_db[1000]) < 0.05
        assert spectrum_db[7800] < -75, "what 8.2 kHz would fold to"
        assert np.delete(spectrum_db, range(990, 1011)).max() < -75


async def test_a_ticket_opens_one_connection(shop: Shop, faults: Faults) -> None:
    faults.expect("WebSocket connection")
    used = """async ([module, url]) => {
      const { EarshotCall } = await import(module);
      const ticket = await window.ticket();
      const again = () => EarshotCall.start({ url, ticket: async () => ticket });
      const first = await again();
      const second = await again().catch(({ code }) => code);
      await first.leave();
      return [first.state, second];
    }"""
    assert await shop.page.evaluate(used, [f"{shop.earshot}/earshot.js", shop.ws]) == ["over", "no_connection"]


async def test_a_site_that_says_no_to_a_ticket_is_believed_and_one_that_fails_is_asked_again(shop: Shop) -> None:
    told = """async ([module, url]) => {
      const { EarshotCall } = await import(module);
      const told = async (fault) => {
        const ticket = async () => { throw Object.assign(new Error("no"), fault); };
        const { code, retryable } = await EarshotCall.start({ url, ticket }).catch((refused) => refused);
        return [code, retryable];
      };
      return [await told({ status: 401 }), await told({})];
    }"""
    assert await shop.page.evaluate(told, [f"{shop.earshot}/earshot.js", shop.ws]) == [
        ["no_ticket", False],
        ["no_ticket", True],
    ]


async def test_a_server_that_is_not_there_is_told_as_such(shop: Shop, faults: Faults) -> None:
    faults.expect("WebSocket connection")
    shop.network.fail()
    told = await shop.page.evaluate(
        """async ([module, url]) => {
          const { EarshotCall } = await import(module);
          const call = EarshotCall.start({ url, ticket: window.ticket });
          return call.catch(({ name, code, retryable }) => [name, code, retryable]);
        }""",
        [f"{shop.earshot}/earshot.js", shop.ws],
    )
    assert told == ["EarshotError", "no_connection", True]
    assert shop.network.refused == 1
