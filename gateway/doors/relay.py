"""A client that comes back to its call through the wrong process: its connection is passed on, byte by byte.

The kernel spreads connections over the processes that share a port without knowing whose call a client will name. The
process that got it opens a connection to the one that has the call, repeats there what the client has sent since its
upgrade, and from then on copies bytes both ways. It parses nothing any more, under TLS it only deciphers; what the
client says and is told is between it and the process that has its call.
"""

from __future__ import annotations

import asyncio
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from gateway.doors.connection import NativeConnection
from protocol.codec import SUBPROTOCOL
from protocol.errors import ProtocolError

SECRET_HEADER, APP_HEADER = "X-Earshot-Relay", "X-Earshot-App"
OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 10.0
MAX_HEAD_BYTES = 16_384
_END_OF_HEAD = b"\r\n\r\n"
_KEY = "ZWFyc2hvdC1yZWxheS4uLg=="
"""Any 16 bytes will do: nothing between two of our own processes caches answers."""


@dataclass(frozen=True, slots=True)
class Relaying:
    """Where this process takes connections that others pass on, and what proves that they are ours."""

    name: str
    """Of an abstract Unix socket: the machine's, without a file that could be left behind."""
    secret: str

    @property
    def path(self) -> str:
        return "\0" + self.name

    def proved_by(self, secret: str) -> bool:
        return hmac.compare_digest(self.secret.encode(), secret.encode())


def passed_app(headers: Mapping[str, str], relaying: Relaying) -> str | None:
    """The app of a connection that another of our processes passes on; None when it is none such."""
    if not relaying.proved_by(headers.get(SECRET_HEADER, "")):
        return None
    return urlsafe_b64decode(headers[APP_HEADER]).decode()


class Siblings(Protocol):
    """The other processes that share the port."""

    @property
    def relaying(self) -> Relaying: ...

    async def locate(self, call_id: str) -> str | None:
        """The socket name of the one that has the call; None when none has. Raises ProtocolError (`recovering`)."""


class PassedOn(Exception):
    """Another process of this server had the connection, and it is gone now."""


class PassableConnection(NativeConnection):
    """Keeps what came until it is known whether another process is to have it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._since_upgrade: bytearray | None = bytearray()
        self._owner: _OwnerEnd | None = None
        self.relayed = False
        """Another process has passed it on to this one."""
        self.gone: asyncio.Future[None] = self.loop.create_future()

    def stays(self) -> None:
        """It is not to be passed on."""
        self._since_upgrade = None

    async def pass_on(self, name: str, app_id: str, secret: str) -> None:
        """Let the process behind this abstract socket have it; returns when the connection is gone.

        Raises ProtocolError (`recovering`) when that process does not take it.
        """
        owner = _OwnerEnd(self)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self.loop.create_unix_connection(lambda: owner, "\0" + name)
                owner.transport.write(_upgrade(app_id, secret))
                await owner.opened
        except BaseException as fault:
            owner.close()  # also where whoever waits for it is cancelled
            if not isinstance(fault, OSError | TimeoutError):
                raise
            raise ProtocolError("recovering", "the call's process is being restarted; try again") from fault
        if self.gone.done():
            owner.close()
            return
        assert self._since_upgrade is not None, "it stays"
        _, _, since = bytes(self._since_upgrade).partition(_END_OF_HEAD)
        self._since_upgrade, self._owner = None, owner
        owner.transport.write(since)
        owner.begin()
        self.transport.resume_reading()  # the library may have had enough for now
        await self.gone

    # --- the client's end ---

    def data_received(self, data: bytes) -> None:
        if self._owner is not None:
            self._owner.transport.write(data)
            return
        if self._since_upgrade is not None:
            self._since_upgrade += data
        super().data_received(data)

    def eof_received(self) -> None:
        if self._owner is None:
            super().eof_received()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._owner is not None:
            self._owner.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._owner is not None:
            self._owner.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._owner is not None:
            self._owner.close()
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)


class _OwnerEnd(asyncio.Protocol):
    """The connection to the process that has the call."""

    def __init__(self, client: PassableConnection) -> None:
        self._client = client
        self._early = b""
        self._begun = False
        self.transport: asyncio.Transport
        self.opened: asyncio.Future[None] = client.loop.create_future()

    def begin(self) -> None:
        """What follows the answer to the upgrade is the client's."""
        self._begun = True
        _, _, early = self._early.partition(_END_OF_HEAD)
        self._early = b""
        self._client.transport.write(early)

    def close(self) -> None:
        if hasattr(self, "transport"):
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._begun:
            self._client.transport.write(data)
            return
        self._early += data
        if _END_OF_HEAD in self._early or len(self._early) > MAX_HEAD_BYTES:
            if self._early.startswith(b"HTTP/1.1 101 "):
                self._open_with(None)
            else:
                self._open_with(ConnectionRefusedError(self._early[:80].decode(errors="replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_with(exc or ConnectionResetError("the call's process closed the connection"))
        if self._begun:
            self._client.transport.close()
            # What a client does not read must not keep its socket for ever.
            self._client.loop.call_later(CLOSE_TIMEOUT_S, self._client.transport.abort)

    def _open_with(self, fault: Exception | None) -> None:
        if self.opened.done():
            return
        if fault is None:
            self.opened.set_result(None)
        else:
            self.opened.set_exception(fault if isinstance(fault, OSError) else ConnectionResetError(str(fault)))
            self.opened.exception()  # whoever waited may be gone

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()


def _upgrade(app_id: str, secret: str) -> bytes:
    lines = (
        "GET /v1/calls HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {_KEY}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        f"{SECRET_HEADER}: {secret}",
        f"{APP_HEADER}: {urlsafe_b64encode(app_id.encode()).decode()}",  # a name may hold what no header may
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
