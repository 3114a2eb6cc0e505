"""A watcher of a running server, for tests: reads up to what is wanted, and keeps all it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from websockets.exceptions import ConnectionClosed

from protocol.messages import ServerMessage
from protocol.watch_client import WatchClient
from protocol.watching import Told

M = TypeVar("M")
PATIENCE_S = 30
"""For what must happen on a machine under load; who waits this long has failed."""


@dataclass
class Onlooker:
    """A watching socket and what it was told."""

    client: WatchClient
    told: list[Told | ServerMessage] = field(default_factory=list)

    async def until(self, kind: type[M], wanted: Callable[[M], bool] = lambda _: True) -> M:
        """Read up to the first message of the kind that is wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await self.client.receive()
                self.told.append(message)
                if isinstance(message, kind) and wanted(message):
                    return message

    async def closed(self) -> tuple[int, str]:
        """Read to the end: the close code and reason."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while True:
                    self.told.append(await self.client.receive())
            except ConnectionClosed as closed:
                received = closed.rcvd
                return (received.code, received.reason) if received is not None else (1006, "")

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.told if isinstance(message, kind)]

    @property
    def seqs(self) -> list[int]:
        """The numbers of the call's messages, in the order they came."""
        return [message.seq for message in self.told if isinstance(message, ServerMessage)]


@asynccontextmanager
async def onlooker(ws: str, *, app_id: str = "", secret: str = "", ticket: str = "") -> AsyncIterator[Onlooker]:
    async with WatchClient(ws, app_id=app_id, secret=secret, ticket=ticket) as client:
        yield Onlooker(client)
