"""How much of a browser the board takes: `python -m tests.browser.bench_board` prints the figures of many live calls.

A real server (around engines that need no models) holds real calls that are sent in real time. A machine too small to
make so many shows copies of fewer: a watch server between the two tells the page each call several times, under other
names and a little later each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, CDPSession, Page, async_playwright
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.client import CallClient
from protocol.watching import SUBPROTOCOL
from tests.browser.live_calls import start_of, two_channels
from tests.client import Account, account
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import RATE_HZ

PACKET_MS = 200
SETTLE_S = 5
"""After all calls are shown; from then on it is the steady state."""
OBSERVE = """
window.slow = [];
for (const type of ["longtask", "long-animation-frame"]) {
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) window.slow.push({ type, at: one.startTime, ms: one.duration });
  }).observe({ type, buffered: true });
}
"""
MOVING = """
[...document.querySelectorAll(".board-body .board-row")]
  .filter((row) => [...row.querySelectorAll(".board-level")].some(({ style }) => /scaleX.0?[.1]/.test(style.transform)))
  .length
"""
OF_THE_TIME = ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")
SOUND = two_channels(
    [(0, 300), (100, 2400), (0, 3500), (200, 1800), (0, 4000)],
    [(0, 3200), (130, 1900), (0, 3100), (160, 2200), (0, 1600)],
)
"""Twelve seconds in which both speak twice; calls begin it at different places and repeat it."""


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--calls", type=int, default=300, help="calls on the board (default 300)")
    arguments.add_argument("--real", type=int, help="how many of them are real (default: all)")
    arguments.add_argument("--seconds", type=float, default=30, help="how long to measure (default 30)")
    arguments.add_argument("--screenshot", type=Path, help="where to keep a picture of the board")
    asked = arguments.parse_args()
    real = asked.calls if asked.real is None else min(asked.real, asked.calls)
    files, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, min(most_files, 4 * real + 1024)), most_files))
    with tempfile.TemporaryDirectory() as folder:
        environment = {"EARSHOT_APPS": "demo:secret", "EARSHOT_LOG_LEVEL": "error"}
        with EarshotProcess(Path(folder) / "data", environment, module=HUMMED) as server:
            async with account(server.http, server.ws, "demo", "secret") as client:
                await measure(server, client, asked, real)


async def measure(server: EarshotProcess, client: Account, asked: argparse.Namespace, real: int) -> None:
    for category, content in (("Refund demand", "refund"), ("Escalation", "manager&&!goodbye")):
        await client.send("PUT", f"/v1/rules/{category}", {"contents": [content]})
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(speaking(client, real))
        copies = -(-asked.calls // real)
        watch_url = await stack.enter_async_context(copying(client, copies)) if copies > 1 else None
        page = await stack.enter_async_context(board(server, watch_url))
        shown = real * copies
        await page.locator(".board-body .board-row").nth(shown - 1).wait_for(state="attached", timeout=120_000)
        await asyncio.sleep(SETTLE_S)
        figures = await taken(page, asked.seconds)
        if asked.screenshot:
            await page.screenshot(path=asked.screenshot)
    print(f"{shown} calls on the board, {real} of them real, {asked.seconds:g} s")
    for name, value in figures.items():
        print(f"  {name:44} {value}")


@asynccontextmanager
async def speaking(client: Account, calls: int) -> AsyncIterator[None]:
    """Real calls that go on, each packet sent when it is due."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        tasks = []
        for number in range(calls):
            start = start_of(f"Agent {number:03}")
            call = CallClient(client.ws, start, app_id=client.app_id, secret=client.secret)
            await stack.enter_async_context(call)
            tasks += [group.create_task(speak(call, number / calls)), group.create_task(hear(call))]
        yield
        for task in tasks:
            task.cancel()


async def speak(call: CallClient, phase: float) -> None:
    step = 2 * RATE_HZ * PACKET_MS // 1000
    at = int(phase * len(SOUND)) // step * step
    due_s = time.monotonic() + phase * PACKET_MS / 1000
    while True:
        await call.send_audio(SOUND[at : at + step])
        at = (at + step) % (len(SOUND) // step * step)
        due_s += PACKET_MS / 1000
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def hear(call: CallClient) -> None:
    async for _ in call:
        pass


@asynccontextmanager
async def copying(client: Account, copies: int) -> AsyncIterator[str]:
    """The URL of a watch server that tells all that the real one tells `copies` times."""

    async def told(page: ServerConnection) -> None:
        _, answer = await client.send("POST", "/v1/tickets", {"purpose": "watch"})
        url = client.ws.replace("/v1/calls", "/v1/watch") + f"?ticket={json.loads(answer)['ticket']}"
        async with connect(url, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None) as real:
            await real.send(await page.recv())
            passing = asyncio.create_task(pass_on(page, real))
            await page.wait_closed()
            passing.cancel()

    async def pass_on(page: ServerConnection, real: ClientConnection) -> None:
        async with asyncio.TaskGroup() as late:
            async for text in real:
                message = json.loads(text)
                for copy in range(copies if message["type"] in ("call", "call_gone") else 1):
                    late.create_task(tell(page, copied(message, copy), copy and random.random()))

    async def tell(page: ServerConnection, message: dict[str, Any], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if message["type"] == "levels":
            message["calls"] = {
                f"{name}-{copy}": peaks for name, peaks in message["calls"].items() for copy in range(copies)
            }
        with suppress(ConnectionClosed):  # the page has left
            await page.send(json.dumps(message))

    async with serve(told, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/watch"


def copied(message: dict[str, Any], copy: int) -> dict[str, Any]:
    if "call_id" not in message:
        return message
    other = {**message, "call_id": f"{message['call_id']}-{copy}"}
    return other if "agent" not in message else {**other, "agent": f"{message['agent']}-{copy}"}


@asynccontextmanager
async def board(server: EarshotProcess, watch_url: str | None) -> AsyncIterator[Page]:
    """The board, signed in, in a Chromium of its own; it watches at `watch_url` if that is given."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no chromium on this machine")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = await browser.new_context(
            base_url=server.http, bypass_csp=watch_url is not None, viewport={"width": 1600, "height": 1000}
        )
        await context.add_init_script(OBSERVE)
        session = {"app_id": "demo", "secret": "secret"}
        answer = await context.request.post(
            "/v1/session", data=session, headers={"X-Earshot-Screen": "1", "Origin": server.http}
        )
        if watch_url is not None:
            told = {**await answer.json(), "watch_url": watch_url}
            await context.route("**/v1/session", lambda route: route.fulfill(json=told))
        page = await context.new_page()
        await page.goto("/screen/")
        yield page
        await browser.close()


async def taken(page: Page, seconds: float) -> dict[str, str]:
    """What the page's main thread does for `seconds`: its CPU time, its share of the time, and its long frames."""
    sessions = {domain: await measuring(page.context, page, domain) for domain in ("threadTicks", "timeTicks")}
    began = {domain: await metrics(session) for domain, session in sessions.items()}
    since_ms = await page.evaluate("performance.now()")
    began_s = time.monotonic()
    await asyncio.sleep(seconds)
    ended = {domain: await metrics(session) for domain, session in sessions.items()}
    wall_s = time.monotonic() - began_s
    moving = await page.evaluate(MOVING)
    slow = await page.evaluate("(since) => window.slow.filter((one) => one.at >= since && one.ms > 50)", since_ms)

    def share(domain: str, name: str) -> str:
        return f"{(ended[domain][name] - began[domain][name]) / wall_s:.1%}"

    return {
        "main thread busy, CPU time": share("threadTicks", "TaskDuration"),
        **{f"  of it {name[:-8].lower()}": share("threadTicks", name) for name in OF_THE_TIME[1:]},
        "main thread busy, with waits for a core": share("timeTicks", "TaskDuration"),
        "tasks over 50 ms": described(slow, "longtask"),
        "frames over 50 ms": described(slow, "long-animation-frame"),
        "rows in view whose meter shows sound": str(moving),
        "elements": f"{ended['timeTicks']['Nodes']:.0f}",
        "JavaScript heap": f"{ended['timeTicks']['JSHeapUsedSize'] / 1e6:.1f} MB",
    }


def described(slow: list[dict[str, Any]], kind: str) -> str:
    long = [one["ms"] for one in slow if one["type"] == kind]
    return f"{len(long)} (longest {max(long):.0f} ms)" if long else "0"


async def measuring(context: BrowserContext, page: Page, domain: str) -> CDPSession:
    session = await context.new_cdp_session(page)
    await session.send("Performance.enable", {"timeDomain": domain})
    return session


async def metrics(session: CDPSession) -> dict[str, float]:
    return {one["name"]: one["value"] for one in (await session.send("Performance.getMetrics"))["metrics"]}


if __name__ == "__main__":
    asyncio.run(main())
