"""A softphone on a bad network: the SDK's client, which resumes, paced like the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal

from loadtest.softphones.listener import Listener
from loadtest.softphones.socket import Target
from loadtest.softphones.speech import Script
from protocol.client import CallClient, CallLost, CallRefused
from protocol.errors import ProtocolError
from protocol.messages import Ack, Start

AGAIN_S: Final = 0.2
_CUT: Final = ("closed", "bad_handshake")
"""What the SDK calls it when a connection breaks off before the call has begun."""


class ResumingPhone:
    """One call, as a task (`run`)."""

    def __init__(self, target: Target, script: Script, first_frame: int, listener: Listener, start: Start) -> None:
        listener.resumes = True
        self.listener = listener
        self.script = script
        self.first_frame = first_frame
        self.sent_samples = 0
        self.sent_frames = 0
        self.state: Literal["waiting", "live", "hung_up", "over"] = "waiting"
        self.since_s = time.monotonic()
        """When it hung up, or began."""
        self.hang_up_at_s = float("inf")
        self.failure = ""
        self.refused = False
        self._target = target
        self._start = start
        self._running: asyncio.Task[None] | None = None

    async def run(self, lateness_s: list[float], on_live: Callable[[], None]) -> None:
        """Play until `hang_up_at_s`, and listen until the call has ended; `failure` then says what went wrong."""
        self._running = asyncio.current_task()
        try:
            async with self._started() as call:
                self.state, self.listener.began_s = "live", time.monotonic()
                self.listener.call_id = call.call_id
                on_live()
                async with asyncio.TaskGroup() as group:
                    playing = group.create_task(self._play(call, lateness_s))
                    await self._listen(call)
                    playing.cancel()
            self.failure = self.listener.fault
        except* (CallRefused, CallLost, OSError, ProtocolError) as faults:
            self.failure = str(faults.exceptions[0])
            self.refused = self.state == "waiting" and isinstance(faults.exceptions[0], CallRefused)
        except* asyncio.CancelledError:
            if not self.failure:
                raise
        self.state = "over"

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[CallClient]:
        """The call, begun anew where the network failed before there was one to resume."""
        target = self._target
        async with AsyncExitStack() as stack:
            while True:
                call = CallClient(target.url, self._start, app_id=target.app_id, secret=target.secret)
                try:
                    await stack.enter_async_context(call)
                    break
                except CallRefused as fault:
                    if fault.code not in _CUT:
                        raise
                except ConnectionError:
                    pass  # cut, too; `give_up` ends this if it goes on
                await asyncio.sleep(AGAIN_S)
            yield call

    def give_up(self, failure: str) -> None:
        """End it as it is, as failed."""
        self.failure = failure
        if self._running is not None:
            self._running.cancel()

    async def _listen(self, call: CallClient) -> None:
        async for message in call:
            now_s = time.monotonic()
            self.listener.note_seq(message.seq)
            if isinstance(message, Ack):
                self.listener.ack(message.samples, now_s)
            else:
                self.listener.hear(message, now_s)

    async def _play(self, call: CallClient, lateness_s: list[float]) -> None:
        payloads, sizes, rate_hz = self.script.payloads, self.script.sizes, self.script.audio.rate_hz
        at, began_s = self.first_frame, self.listener.began_s
        while True:
            due_s = began_s + (self.sent_samples + sizes[at]) / rate_hz
            await self._until(due_s)
            if due_s > self.hang_up_at_s:
                break
            lateness_s.append(time.monotonic() - due_s)
            await call.send_audio(payloads[at])
            self.sent_samples += sizes[at]
            self.sent_frames += 1
            at = (at + 1) % len(sizes)
        self.state, self.since_s = "hung_up", time.monotonic()
        await call.hang_up(wait_qc_ms=0)

    async def _until(self, due_s: float) -> None:
        """Sleep, but not beyond a hangup that may be ordered meanwhile."""
        while (left_s := min(due_s, self.hang_up_at_s) - time.monotonic()) > 0:  # noqa: ASYNC110 - a time, no event
            await asyncio.sleep(min(left_s, 0.5))
