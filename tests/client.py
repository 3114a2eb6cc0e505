"""A client of a running server: its two APIs, and calls that are played with the SDK and logged whole."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
import msgspec

from gateway.clients.quality_http import QualityHttp
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.terminal.softphone import Playback
from protocol.audio import AudioFormat
from protocol.client import CallClient
from protocol.messages import Alert, AlertUpdate, Ended, QcResult, ServerMessage, Start, Transcript
from protocol.voiceprint import signed_headers

M = TypeVar("M")
CALL_TIMEOUT_S = 300
"""For one call and its verdict, on a machine under load; a test that waits this long has failed."""


@dataclass
class Account:
    """An app of a server, and its two APIs as any client of theirs uses them."""

    http: str
    ws: str
    app_id: str
    secret: str
    session: aiohttp.ClientSession

    @property
    def voices(self) -> VoiceprintHttp:
        return VoiceprintHttp(self.http, self.session, credentials=lambda _: (self.app_id, self.secret), now=time.time)

    @property
    def quality(self) -> QualityHttp:
        return QualityHttp(self.session, self.http, lambda _: (self.app_id, self.secret))

    @property
    def headers(self) -> dict[str, str]:
        """Credentials, signed now."""
        return signed_headers(self.app_id, self.secret, time.time())

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one of our own routes."""
        async with self.session.get(self.http + path, headers=self.headers) as response:
            return response.status, await response.read()

    async def send(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        """Status and answer of a request with a JSON body."""
        data = None if body is None else msgspec.json.encode(body)
        every = {**self.headers, **headers}
        async with self.session.request(method, self.http + path, headers=every, data=data) as response:
            return response.status, await response.read()


@asynccontextmanager
async def account(http: str, ws: str, app_id: str, secret: str) -> AsyncIterator[Account]:
    async with aiohttp.ClientSession() as session:
        yield Account(http, ws, app_id, secret, session)


@dataclass
class CallLog:
    """Everything the server said of one call, in order."""

    pcm: bytes
    """What was sent, before any companding."""
    messages: list[ServerMessage] = field(default_factory=list)
    before_hangup: int = 0
    """How many messages had come by then."""

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    def one(self, kind: type[M]) -> M:
        (message,) = self.of(kind)
        return message

    @property
    def call_id(self) -> str:
        return self.messages[0].call_id

    def alerts_of(self, rule: str) -> list[Alert]:
        return [alert for alert in self.of(Alert) if alert.rule == rule]

    def updates_of(self, alert: Alert) -> list[AlertUpdate]:
        return [update for update in self.of(AlertUpdate) if update.alert_id == alert.alert_id]

    def statuses_of(self, alert: Alert) -> list[str]:
        """The stations of an alert's life, each once."""
        stations = [alert.certainty, *(update.status for update in self.updates_of(alert))]
        return [now for before, now in zip([None, *stations], stations, strict=False) if now != before]

    def said_by(self, channel: int) -> str:
        """All that was finally heard of one party."""
        finals = [one for one in self.of(Transcript) if one.final and one.channel == channel]
        return " ".join(one.text for one in sorted(finals, key=lambda one: one.begin_ms))

    @property
    def hits(self) -> set[str]:
        """The categories that voice QC hit."""
        return {hit["category"] for hit in self.one(QcResult).result["detection_result"]}


async def play(
    account: Account,
    start: Start,
    pcm: bytes,
    *,
    speed: float = 1.0,
    wait_qc_ms: int = 180_000,
    tls: ssl.SSLContext | None = None,
    on_message: Callable[[ServerMessage], Awaitable[None]] | None = None,
) -> CallLog:
    """One call from `start` to `ended`; `pcm` is interleaved s16le at the call's rate. Speed 0: all at once."""
    log = CallLog(pcm)
    playback = Playback(pcm, AudioFormat(start.encoding, start.rate, start.channels), speed)
    client = CallClient(account.ws, start, app_id=account.app_id, secret=account.secret, tls=tls)

    async def speak() -> None:
        await playback.run(client)
        log.before_hangup = len(log.messages)
        await client.hang_up(wait_qc_ms=wait_qc_ms)

    async with asyncio.timeout(CALL_TIMEOUT_S), client, asyncio.TaskGroup() as group:
        group.create_task(speak())
        async for message in client:
            log.messages.append(message)
            if on_message is not None:
                await on_message(message)
    assert isinstance(log.messages[-1], Ended)
    return log


async def until(client: CallClient, kind: type[M], wanted: Callable[[M], bool] = lambda _: True) -> M:
    """Read a call's messages up to the first of the kind that is wanted."""
    async with asyncio.timeout(CALL_TIMEOUT_S):
        async for message in client:
            if isinstance(message, kind) and wanted(message):
                return message
    raise AssertionError(f"the call ended without such a {kind.__name__}")
