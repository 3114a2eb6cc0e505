"""Softphones that remember what they sent and what was acknowledged: the accounts of a fault test."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.codec import SUBPROTOCOL, decode_server, encode
from protocol.messages import Ack, ClientMessage, Hangup, ServerMessage, Start, Started
from tests.faults.servers import APP_ID, PATIENCE_S, SECRET

RATE_HZ = 8000
CHUNK_SAMPLES = RATE_HZ // 50
START = Start(rate=8000, language="en")
BASIC = {"Authorization": "Basic " + base64.b64encode(f"{APP_ID}:{SECRET}".encode()).decode()}
M = TypeVar("M")


def whisper(seed: int, duration_ms: int) -> bytes:
    """Noise too faint for speech and unlike that of any other seed: a recording's bytes tell whose call it is."""
    noise = np.random.default_rng(seed).integers(-8, 9, duration_ms * RATE_HZ // 1000, dtype=np.int16)
    return noise.tobytes()


@dataclass
class Softphone:
    """One call over one bare socket. Enter it for `started`; it reads in the background until the socket is gone."""

    url: str
    pcm: bytes
    """What there is to say, s16le; what was said is its first `sent_samples`."""
    sent_samples: int = 0
    acked_samples: int = 0
    messages: list[ServerMessage] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _silent: bool = False

    async def __aenter__(self) -> Self:
        self.socket: ClientConnection = await connect(
            self.url,
            additional_headers=BASIC,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None,
            open_timeout=PATIENCE_S,
        )
        self._reader = asyncio.get_running_loop().create_task(self._read())
        await self.send(START)
        self.started = await self.until(Started)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.transport.abort()
        await self.silence()

    @property
    def call_id(self) -> str:
        return self.started.call_id

    @property
    def sent(self) -> bytes:
        return self.pcm[: 2 * self.sent_samples]

    async def send(self, message: ClientMessage) -> None:
        await self.socket.send(encode(message), text=True)

    async def talk(self, samples: int | None = None, *, pause_s: float = 0.0) -> bool:
        """Send so many more samples, default all that is left, in chunks of 20 ms; False when the socket is gone.

        `pause_s` spreads the chunks, so that a fault at a random time meets the call at a random place.
        """
        end = len(self.pcm) // 2 if samples is None else self.sent_samples + samples
        try:
            while self.sent_samples < end:
                chunk = self.pcm[2 * self.sent_samples : 2 * min(end, self.sent_samples + CHUNK_SAMPLES)]
                self.sent_samples += len(chunk) // 2
                await self.socket.send(chunk)
                await asyncio.sleep(pause_s)
        except ConnectionClosed:
            return False
        return True

    async def hang_up(self, wait_qc_ms: int = 180_000) -> bool:
        """False when the socket is gone."""
        try:
            await self.send(Hangup(wait_qc_ms=wait_qc_ms))
        except ConnectionClosed:
            return False
        return True

    async def until(self, kind: type[M], wanted: Callable[[M], bool] = lambda _: True) -> M:
        """The first message of the kind, past or to come, that is wanted. Raises AssertionError when none will come."""

        def found() -> M | None:
            return next((one for one in self.messages if isinstance(one, kind) and wanted(one)), None)

        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: found() is not None or self._silent)
        message = found()
        assert message is not None, f"the socket closed without the {kind.__name__} that was wanted: {self.messages}"
        return message

    async def acked(self, samples: int) -> None:
        """Return once so many samples are acknowledged."""
        await self.until(Ack, lambda ack: ack.samples >= samples)

    async def silence(self) -> None:
        """Return once the socket is gone and everything that had come is read: then `acked_samples` is final."""
        await self._reader

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    async def _read(self) -> None:
        try:
            async for payload in self.socket:
                message = decode_server(payload)
                if isinstance(message, Ack):
                    self.acked_samples = message.samples
                async with self._news:
                    self.messages.append(message)
                    self._news.notify_all()
        except ConnectionClosed:
            pass
        finally:
            async with self._news:
                self._silent = True
                self._news.notify_all()
