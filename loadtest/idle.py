"""What a call costs in memory while nothing happens in it: many calls that wait, and the server's resident set."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtest.softphones.socket import Target
from protocol.client import CallClient
from protocol.messages import Ack, Pause, Start

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
RATE_HZ: Final = 8000
AT_ONCE = 20
"""Calls that are opened at the same time."""


@dataclass(frozen=True, slots=True)
class Resident:
    """Bytes of the server's main process: before, with the calls there, and with them after a while."""

    before: int
    opened: int
    waited: int
    calls: int

    @property
    def bytes_per_call(self) -> float:
        return (self.opened - self.before) / self.calls


async def hold_calls(
    target: Target, pid: int, calls: int, hold_s: float, on_done: Callable[[float], None] = lambda done: None
) -> Resident:
    """Open `calls` calls, let each say one second of silence and pause, look at process `pid`, hang up.

    `on_done` hears of each call that is open and of each second held, with how many.

    Raises CallRefused, OSError.
    """
    before = resident_bytes(pid)
    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:

        async def one() -> CallClient:
            async with gate:
                start = Start(rate=RATE_HZ)
                call = CallClient(target.url, start, app_id=target.app_id, secret=target.secret)
                await stack.enter_async_context(call)
                await call.send_audio(bytes(2 * RATE_HZ))
                async for message in call:
                    if isinstance(message, Ack) and message.samples == RATE_HZ:
                        break
                await call.send(Pause())
                on_done(1)
                return call

        held = await asyncio.gather(*(one() for _ in range(calls)))
        opened = resident_bytes(pid)
        for begun_s in range(math.ceil(hold_s)):
            step_s = min(1.0, hold_s - begun_s)
            await asyncio.sleep(step_s)
            on_done(step_s)
        waited = resident_bytes(pid)
        await asyncio.gather(*(call.hang_up(wait_qc_ms=0) for call in held))
    return Resident(before, opened, waited, calls)


def resident_bytes(pid: int) -> int:
    """The resident set of a process (proc_pid_statm(5)). Raises FileNotFoundError when it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
