"""What Earshot's way of taking audio is held against: receive, webrtcvad, append to a buffer, and nothing else.

`python -m loadtest.ingest_peers NAME` serves on a free port of loopback, says which on standard output, and goes on
until it is killed. A text message comes back as it is: whoever sends one behind a frame learns when that was done.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import picows
import uvloop
import webrtcvad
from websockets.asyncio.server import ServerConnection, serve

from gateway.commands.open_files import raise_open_files

RATE_HZ = 16_000
KEPT_BYTES = 1 << 20
"""A buffer is emptied when it is this long: what memory costs is not the question here."""


class Call:
    """What is done with each frame."""

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(2)
        self._buffer = bytearray()

    def hear(self, frame: bytes) -> None:
        self._vad.is_speech(frame, RATE_HZ)
        self._buffer += frame
        if len(self._buffer) > KEPT_BYTES:
            self._buffer.clear()


async def serve_websockets() -> None:
    """The `websockets` library as its documentation shows it."""

    async def handle(connection: ServerConnection) -> None:
        call = Call()
        async for message in connection:
            if isinstance(message, bytes):
                call.hear(message)
            else:
                await connection.send(message)

    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        _say(server.sockets[0].getsockname()[1])
        await server.serve_forever()


class _Listener(picows.WSListener):  # type: ignore[misc]  # without types
    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._call = Call()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.BINARY:
            self._call.hear(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.TEXT:
            transport.send(picows.WSMsgType.TEXT, frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()


async def serve_picows() -> None:
    """The fastest WebSocket library of Python's, on its own loop-side callbacks."""
    server = await picows.ws_create_server(lambda _: _Listener(), "127.0.0.1", 0)
    _say(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _say(port: int) -> None:
    print(port, flush=True)


PEERS: dict[str, tuple[Callable[..., None], Callable[[], Awaitable[None]]]] = {
    "websockets, asyncio": (asyncio.run, serve_websockets),
    "websockets, uvloop": (uvloop.run, serve_websockets),
    "picows, uvloop": (uvloop.run, serve_picows),
}
"""By name: what runs it, and what it runs."""


if __name__ == "__main__":
    raise_open_files()
    run, main = PEERS[sys.argv[1]]
    run(main())
