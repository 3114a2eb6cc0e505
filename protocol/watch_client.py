"""A watcher: the other end of `/v1/watch`, for programs that want to see calls as they happen."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.messages import ServerMessage
from protocol.voiceprint import signed_headers
from protocol.watching import PATH, SUBPROTOCOL, Told, Unwatch, Watch, decode_told

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Of what a watcher is told; a call with a long verdict tells much at once."""


class WatchClient:
    """One watching socket. As a context manager it is open inside; iterate over it for what it is told.

    It does not connect again by itself: whoever wants all of a call watches it from the last `seq` they have.
    """

    def __init__(
        self, ws: str, *, app_id: str = "", secret: str = "", ticket: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        """`ws` is the base of the native listener, ws://host:port; with an app's id and secret, or with a ticket."""
        self._url = ws.removesuffix("/v1/calls").rstrip("/") + PATH + (f"?ticket={ticket}" if ticket else "")
        self._app_id, self._secret = app_id, secret
        self._tls = tls
        self._connection: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        """Raises OSError, and websockets' InvalidStatus when the server refuses."""
        signed = signed_headers(self._app_id, self._secret, time.time()) if self._app_id else {}
        self._connection = await connect(
            self._url,
            additional_headers=signed,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            ssl=self._tls,
            proxy=None,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.connection.close()

    @property
    def connection(self) -> ClientConnection:
        assert self._connection is not None, "open it first"
        return self._connection

    async def watch(
        self,
        *,
        watch_id: str = "",
        call_id: str | None = None,
        agent: str | None = None,
        from_seq: int = 0,
        levels: bool = False,
    ) -> None:
        """Begin to watch; see `Watch`."""
        await self._send(Watch(id=watch_id, call_id=call_id, agent=agent, from_seq=from_seq, levels=levels))

    async def unwatch(self, watch_id: str = "") -> None:
        await self._send(Unwatch(id=watch_id))

    async def _send(self, message: Watch | Unwatch) -> None:
        await self.connection.send(msgspec.json.encode(message), text=True)

    async def receive(self) -> Told | ServerMessage:
        """The next message. Raises ConnectionClosed."""
        return decode_told(await self.connection.recv(decode=False))

    async def __aiter__(self) -> AsyncIterator[Told | ServerMessage]:
        """What is told, until the socket closes."""
        try:
            while True:
                yield await self.receive()
        except ConnectionClosed:
            return
