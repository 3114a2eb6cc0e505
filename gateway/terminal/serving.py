"""`earshot serve` in a process of its own, for commands that bring their server with them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

from gateway.settings import PREFIX
from gateway.stores.serving import Serving, served_at

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30


class NotServing(Exception):
    """The server did not start; the text holds the end of its log."""


@asynccontextmanager
async def served(
    folder: Path, apps: str, console: Console, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Serving]:
    """A server on free loopback ports that keeps everything in `folder`; stopped again at the end.

    `apps` is what EARSHOT_APPS holds; `settings` are further ones by name. Raises NotServing.
    """
    began_s = time.monotonic()
    log_path = folder / "server.log"
    with log_path.open("wb") as output, console.status("starting the server and loading its engines"):
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.cli", "serve", "--data", str(folder / "data")),
            *("--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"),
            env={
                **os.environ,
                **{PREFIX + name.upper(): value for name, value in settings.items()},
                "EARSHOT_APPS": apps,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        serving = await _listening(server, folder / "data")
    if serving is None:
        if server.returncode is None:
            server.kill()
        await server.wait()
        raise NotServing(f"the server did not start:\n{log_path.read_text()[-2000:]}")
    console.print(f"server ready after {time.monotonic() - began_s:.1f} s: {serving.http}, {serving.ws}")
    try:
        yield serving
    finally:
        server.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await server.wait()
        except TimeoutError:
            server.kill()
            await server.wait()


async def _listening(server: asyncio.subprocess.Process, data: Path) -> Serving | None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while server.returncode is None and time.monotonic() < deadline_s:
        serving = served_at(data)
        if serving is not None:
            return serving
        await asyncio.sleep(0.05)
    return None
