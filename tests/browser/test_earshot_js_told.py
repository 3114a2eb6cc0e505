"""earshot.js and what a server may tell it: said by a stand-in that says it when the test wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest_asyncio
from playwright.async_api import Browser, Page
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.codec import SUBPROTOCOL
from tests.browser.pages import Faults
from tests.earshot_process import EarshotProcess

STARTED = {"type": "started", "seq": 1, "resume_token": "t", "resume_window_s": 60.0, "rate": 16000, "channels": 1}


@dataclass
class Socket:
    """One connection of the page."""

    connection: ServerConnection
    first: dict[str, Any]
    audio: bytearray = field(default_factory=bytearray)
    controls: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell(self, message: dict[str, Any]) -> None:
        told = {"call_id": "c", "seq": 0, "at_ms": 0, **message}
        await self.connection.send(msgspec.json.encode(told), text=True)

    async def until_audio(self, total_bytes: int) -> None:
        while len(self.audio) < total_bytes:
            self.changed.clear()
            await self.changed.wait()

    async def synced(self, page: Page) -> None:
        """Whatever the page has been told so far has been dealt with."""
        await self.tell({"type": "sync"})
        await page.wait_for_function("heard.some(({ type }) => type === 'sync')")


class Server:
    """Takes the page's connections, and answers nothing by itself."""

    def __init__(self) -> None:
        self._sockets: asyncio.Queue[Socket] = asyncio.Queue()
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Server"]:
        async with serve(self._serve, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
            host, port = next(iter(server.sockets)).getsockname()
            self.url = f"ws://{host}:{port}/v1/calls"
            yield self

    async def socket(self) -> Socket:
        """The next connection."""
        async with asyncio.timeout(20):
            return await self._sockets.get()

    async def _serve(self, connection: ServerConnection) -> None:
        one = Socket(connection, msgspec.json.decode(await connection.recv()))
        self._sockets.put_nowait(one)
        try:
            async for payload in connection:
                if isinstance(payload, bytes):
                    one.audio += payload[16:]
                elif (message := msgspec.json.decode(payload))["type"] != "ping":
                    one.controls.append(message)
                one.changed.set()
        except ConnectionClosed:
            pass  # the test closes it


@pytest_asyncio.fixture(loop_scope="module")
async def stand_in() -> AsyncIterator[Server]:
    async with Server().open() as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def page(server: EarshotProcess, browser: Browser, faults: Faults) -> AsyncIterator[Page]:
    """Any page that may import the module."""
    faults.expect("favicon|WebSocket connection")  # the stand-in is gone before the page
    context = await browser.new_context()
    page = await context.new_page()
    faults.listen(page)
    await page.goto(f"{server.http}/healthz")
    await page.evaluate(
        """() => {
          window.heard = []; window.failed = null;
          window.begin = async (url, options = {}) => {
            const { EarshotCall } = await import("/earshot.js");
            window.call = await EarshotCall.start({ url, ...options });
            call.addEventListener("message", ({ detail }) => heard.push(detail));
            call.addEventListener("failed", ({ detail }) => (window.failed = detail.code));
          };
          window.say = (ms) => call.sendAudio(new Int16Array(ms * 16).fill(7));
        }"""
    )
    yield page
    await context.close()


async def started(page: Page, stand_in: Server) -> Socket:
    beginning = asyncio.ensure_future(page.evaluate("(url) => begin(url)", stand_in.url))
    socket = await stand_in.socket()
    assert socket.first["type"] == "start"
    await socket.tell(STARTED)
    await beginning
    return socket


async def test_what_was_told_before_is_not_told_again(page: Page, stand_in: Server) -> None:
    first = await started(page, stand_in)
    for seq in (2, 3):
        await first.tell({"type": "gap", "seq": seq})
    await first.synced(page)
    await first.connection.close(1012)
    second = await stand_in.socket()
    assert (second.first["type"], second.first["last_seq"]) == ("resume", 3)
    await second.tell({"type": "resumed", "samples": 0, "controls": 0, "next_seq": 5})
    for seq in (2, 3, 4):
        await second.tell({"type": "gap", "seq": seq})
    await page.wait_for_function("heard.some(({ seq }) => seq === 4)")
    assert await page.evaluate("heard.filter(({ type }) => type === 'gap').map(({ seq }) => seq)") == [2, 3, 4]


async def test_between_xoff_and_xon_nothing_is_sent_and_then_all_of_it_in_order(page: Page, stand_in: Server) -> None:
    socket = await started(page, stand_in)
    await page.evaluate("say(100)")
    await socket.until_audio(3200)
    await socket.tell({"type": "flow", "state": "xoff", "window_samples": 1600})
    await socket.synced(page)
    await page.evaluate("() => { say(400); call.mark('m'); say(100); }")
    assert await page.evaluate("[call.state, call.keptMs]") == ["held", 600]
    assert (len(socket.audio), socket.controls) == (3200, [])
    await socket.tell({"type": "flow", "state": "xon", "window_samples": 160000})
    await socket.until_audio(19200)
    assert socket.controls == [{"type": "mark", "name": "m"}]
    await socket.tell({"type": "ack", "seq": 2, "samples": 9600})
    await page.wait_for_function("call.keptMs === 0")


async def test_a_server_that_asks_for_time_gets_it_and_what_it_has_is_not_sent_again(
    page: Page, stand_in: Server
) -> None:
    first = await started(page, stand_in)
    await page.evaluate("() => { say(100); call.mark('one'); say(100); call.mark('two'); say(100); }")
    await first.until_audio(9600)
    await first.tell({"type": "ack", "seq": 2, "samples": 800})
    await first.synced(page)
    await first.connection.close(1011)
    busy = await stand_in.socket()
    assert busy.first["from_sample"] == 800
    await busy.tell({"type": "error", "code": "recovering", "message": "", "retryable": True, "retry_after_ms": 20})
    again = await stand_in.socket()
    await again.tell({"type": "resumed", "samples": 2400, "controls": 1, "next_seq": 3})
    await again.until_audio(4800)
    assert [one["name"] for one in again.controls] == ["two"]


async def test_audio_that_the_server_had_acknowledged_and_lost_ends_the_call(page: Page, stand_in: Server) -> None:
    first = await started(page, stand_in)
    await page.evaluate("say(200)")
    await first.tell({"type": "ack", "seq": 2, "samples": 3200})
    await first.synced(page)
    await first.connection.close(1011)
    second = await stand_in.socket()
    await second.tell({"type": "resumed", "samples": 1600, "controls": 0, "next_seq": 3})
    await page.wait_for_function("failed === 'audio_gone' && call.state === 'over'")


async def test_a_fault_of_ours_that_would_come_again_ends_the_call(page: Page, stand_in: Server) -> None:
    first = await started(page, stand_in)
    await first.tell({"type": "error", "code": "bad_audio", "message": "", "retryable": False, "retry_after_ms": 0})
    await first.connection.close(1007)
    await page.wait_for_function("failed === 'bad_audio' && call.state === 'over'")


async def test_one_that_does_not_know_the_call_any_more_ends_it(page: Page, stand_in: Server) -> None:
    first = await started(page, stand_in)
    await first.connection.close(1012)
    second = await stand_in.socket()
    await second.tell({"type": "error", "code": "unknown_call", "message": "", "retryable": False, "retry_after_ms": 0})
    await page.wait_for_function("failed === 'unknown_call'")


async def test_of_several_servers_the_next_is_asked_when_one_goes_away(page: Page) -> None:
    async with Server().open() as one, Server().open() as other:
        beginning = asyncio.ensure_future(page.evaluate("(urls) => begin(urls)", [one.url, other.url]))
        first = await one.socket()
        await first.tell(STARTED)
        await beginning
        await first.tell({"type": "going_away", "deadline_ms": 100})
        await first.connection.close(1012)
        second = await other.socket()
        assert second.first["call_id"] == "c"
