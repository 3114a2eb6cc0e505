"""The HTTP listener, and errors of listening as people read them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from ssl import SSLContext

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.assembly.folder import StartFailed
from gateway.doors.http_guard import GuardedSite, HttpLimits, guard_requests
from gateway.settings import Settings, parse_address
from gateway.telemetry import Metrics

MAX_BODY_BYTES = 1024 * 1024
"""Of requests that do not bring recordings, which have bounds of their own."""


async def listen_http(
    settings: Settings,
    routes: list[web.RouteDef],
    middlewares: Sequence[Middleware],
    tls: SSLContext | None,
    metrics: Metrics,
    begun: AsyncExitStack,
    *,
    goodbye_s: float,
) -> int:
    """Serve `routes` until `begun` ends, and say on which port; clients then have `goodbye_s`. Raises StartFailed."""
    application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[guard_requests, *middlewares])
    application.add_routes(routes)
    bounds = HttpLimits(head_timeout_s=settings.handshake_timeout_s, max_strangers=settings.max_pending_connections)
    http = web.AppRunner(
        application, access_log=None, shutdown_timeout=goodbye_s, keepalive_timeout=bounds.idle_timeout_s
    )
    await http.setup()
    begun.push_async_callback(http.cleanup)
    host, port = parse_address("http", settings.http)
    with listening("http", settings.http):
        await GuardedSite(http, host, port, tls, bounds, metrics).start()
    bound: int = http.addresses[0][1]
    return bound


@contextmanager
def listening(name: str, address: str) -> Iterator[None]:
    """Turn a fault of listening into StartFailed."""
    try:
        yield
    except OSError as fault:
        # asyncio writes a sentence of its own around the system's reason; a failed look-up has no such reason.
        reason = os.strerror(fault.errno) if fault.errno and fault.errno > 0 else fault.strerror or str(fault)
        raise StartFailed(f"cannot listen on {name} {address}: {reason}") from fault
