"""How browsers get in: tickets, the screen's sessions, and the origins whose pages may open sockets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic, time

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.credentials import AppDirectory, Credentials
from gateway.doors.proving import proving
from gateway.doors.screen_access import ScreenAccess
from gateway.keys import subkey
from gateway.origins import Origins, OwnOrigins, origin_of_url, parse_origins
from gateway.ports import Clock
from gateway.ports.spent import SpentMarks
from gateway.screen_sessions import ScreenSessions
from gateway.settings import Settings, in_url, parse_address
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_spent import RedisSpentMarks
from gateway.stores.spent import SqliteSpentMarks
from gateway.stores.sqlite import Database
from gateway.telemetry import Metrics
from gateway.tickets import Tickets

TICKETS = "tickets"
"""What the key of tickets is derived for."""


@dataclass(frozen=True, slots=True)
class Browsers:
    """What knows browsers."""

    settings: Settings
    tickets: Tickets
    sessions: ScreenSessions

    @property
    def middleware(self) -> Middleware:
        return proving(self.tickets, self.sessions)

    def routes(
        self,
        credentials: Credentials,
        metrics: Metrics,
        caller: Callable[[web.Request], str],
        ws_port: Callable[[], int],
    ) -> list[web.RouteDef]:
        """`caller` tells a request's app, `ws_port` where the native socket listens."""

        def sockets(request: web.Request) -> str:
            if self.settings.public_ws_url:
                return self.settings.public_ws_url.rstrip("/")
            secure = "s" if self.settings.tls_cert else ""
            return f"ws{secure}://{_host_of(request, self.settings)}:{ws_port()}"

        access = ScreenAccess(
            credentials,
            self.tickets,
            self.sessions,
            metrics,
            caller,
            sockets,
            public_url=self.settings.public_url,
            now=monotonic,
        )
        return access.routes()

    def origins(self, http_port: int) -> Origins:
        """Whose pages may open sockets, given where our own are served."""
        settings = self.settings
        host, _ = parse_address("http", settings.http)
        own = OwnOrigins(
            "https" if settings.tls_cert else "http", host, http_port, public=origin_of_url(settings.public_url)
        )
        return Origins(parse_origins(settings.origins), own)


def browsers(
    settings: Settings, database: Database, key: bytes, apps: AppDirectory, clock: Clock, begun: AsyncExitStack
) -> Browsers:
    """`key` is the server's or the cluster's; `begun` ends what is begun here."""
    spent: SpentMarks = SqliteSpentMarks(database, clock)
    if settings.redis_url:
        connection = RedisConnection(settings.redis_url)
        begun.push_async_callback(connection.close)
        spent = RedisSpentMarks(connection, clock)
    return Browsers(
        settings,
        Tickets(subkey(key, TICKETS), apps, spent, time),
        ScreenSessions(subkey(key, "screen sessions"), apps, spent, time),
    )


def _host_of(request: web.Request, settings: Settings) -> str:
    """The host by which whoever sent the request reaches us."""
    try:
        host = request.url.host or ""
    except ValueError:
        host = ""
    return in_url(host or parse_address("ws", settings.ws)[0])
