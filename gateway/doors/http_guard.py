"""Guards the HTTP listener against peers that hold connections without using them; aiohttp bounds none of it."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import cast

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.doors.strangers import Strangers
from gateway.telemetry import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What an HTTP connection may take."""

    head_timeout_s: float = 10.0
    """From the connection, or from the first byte of a further request, to the request's whole head."""
    idle_timeout_s: float = 75.0
    """Between two requests of a connection."""
    body_window_s: float = 10.0
    min_body_bytes_per_s: float = 1000.0
    """How fast a body comes at least, over each window."""
    max_strangers: int = 1024
    """Connections without a request; beyond, the oldest of them is cut."""


class GuardedConnection(asyncio.Protocol):
    """Stands between the transport and aiohttp's protocol: sees bytes come, hears of requests from `guard_requests`."""

    def __init__(self, inner: asyncio.Protocol, limits: HttpLimits, strangers: Strangers, metrics: Metrics) -> None:
        self._inner = inner
        self._limits = limits
        self._strangers = strangers
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._request: web.BaseRequest | None = None
        self._received_bytes = 0

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(transport)
        self._await_head()
        self._strangers.enter(self)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._request is None and self._head_timer is None:
            self._await_head()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._strangers.leave(self)
        self._forget_timers()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    # --- the requests' side ---

    def begun(self, request: web.BaseRequest) -> None:
        """The head of a request is there; its body may follow."""
        self._strangers.leave(self)
        self._forget_timers()
        self._request = request
        self._await_body()

    def ended(self) -> None:
        """The request is answered but for what is still being sent."""
        self._forget_timers()
        self._request = None
        if not self._transport.is_closing():
            self._strangers.enter(self)

    def cut(self) -> None:
        if not self._transport.get_write_buffer_size():  # else it is no idle one: an answer is still on its way
            self._transport.abort()

    # --- time ---

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._limits.head_timeout_s, self._give_up_head)

    def _give_up_head(self) -> None:
        if self._transport.get_write_buffer_size():  # an earlier answer is still on its way
            self._await_head()
        else:
            self._give_up("slow_head")

    def _await_body(self) -> None:
        expected = self._received_bytes + self._limits.min_body_bytes_per_s * self._limits.body_window_s
        self._body_timer = self._loop.call_later(self._limits.body_window_s, self._check_body, expected)

    def _check_body(self, expected_bytes: float) -> None:
        assert self._request is not None
        # While we do not read, it is not the peer that is slow.
        if self._request.content.is_eof() or not self._transport.is_reading() or self._received_bytes >= expected_bytes:
            self._await_body()
        else:
            self._give_up("slow_body")

    def _give_up(self, code: str) -> None:
        self._metrics.refused.labels(code).inc()
        log.info("http_connection_cut", code=code, remote=str(self._transport.get_extra_info("peername")))
        self._transport.abort()

    def _forget_timers(self) -> None:
        for timer in (self._head_timer, self._body_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._body_timer = None


@web.middleware
async def guard_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the request's connection when it begins and ends."""
    connection = None if request.transport is None else request.transport.get_protocol()
    if not isinstance(connection, GuardedConnection):
        return await handler(request)
    connection.begun(request)
    try:
        return await handler(request)
    finally:
        connection.ended()


class GuardedSite(web.BaseSite):
    """A listener of an AppRunner whose application has `guard_requests`, and whose `keepalive_timeout` is ours."""

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        limits: HttpLimits,
        metrics: Metrics,
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._host = host
        self._port = port
        self._limits = limits
        self._metrics = metrics

    @property
    def name(self) -> str:
        return f"http{'s' if self._ssl_context else ''}://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError."""
        await super().start()
        handlers = self._runner.server
        assert handlers is not None
        strangers = Strangers(self._limits.max_strangers)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: GuardedConnection(handlers(), self._limits, strangers, self._metrics),
            self._host,
            self._port,
            ssl=self._ssl_context,
            ssl_handshake_timeout=self._limits.head_timeout_s if self._ssl_context else None,
        )
