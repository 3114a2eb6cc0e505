"""A bad network between softphones and server: connections pass through it late, stall, and are reset."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Final, cast

from loadtest.scenario import Network

TICK_S: Final = 0.05
"""How often fate is asked about each connection."""


class Relay:
    """Carries connections to a server. One for all calls of a process."""

    def __init__(self, address: tuple[str, int], network: Network, random: Random) -> None:
        self._cuts = 0
        self._address = address
        self._network = network
        self._random = random
        self._ends: set[_Near] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[str, int]]:
        """Its address."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._near, "127.0.0.1", 0)
        fate = loop.create_task(self._fate())
        try:
            host, port = server.sockets[0].getsockname()
            yield host, port
        finally:
            fate.cancel()
            await asyncio.gather(fate, return_exceptions=True)
            server.close()
            for end in list(self._ends):
                end.reset()
            await server.wait_closed()

    def cuts(self) -> int:
        """Connections that were reset since this was asked last."""
        cuts, self._cuts = self._cuts, 0
        return cuts

    def _near(self) -> _Near:
        return _Near(self._address, self._network.delay_ms / 1000, self._ends)

    async def _fate(self) -> None:
        cut_every_s, stall_every_s = self._network.cut_every_s, self._network.stall_every_s
        while True:
            await asyncio.sleep(TICK_S)
            for end in list(self._ends):
                if cut_every_s and self._random.random() < TICK_S / cut_every_s:
                    self._cuts += 1
                    end.reset()
                elif not end.stalled and stall_every_s and self._random.random() < TICK_S / stall_every_s:
                    end.stall(self._network.stall_s)


class _End(asyncio.Protocol):
    """One side of a connection: what it gets goes to the other, in order, `delay_s` later."""

    def __init__(self, delay_s: float) -> None:
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self.stalled = False
        """Nothing is taken from this side for a while, whoever else would go on."""
        self._delay_s = delay_s
        self._waiting: list[bytes] = []
        """What came before the other side was there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._pass_on, data)
        else:
            self._pass_on(data)

    def connection_lost(self, exc: Exception | None) -> None:
        # After what is still on its way, as a network would.
        if self.other is not None:
            asyncio.get_running_loop().call_later(self._delay_s, self.other.let_go)

    def pass_on_waiting(self) -> None:
        for data in self._waiting:
            self._pass_on(data)
        self._waiting.clear()

    def let_go(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.stalled:
            self.other.read_again()

    def read_again(self) -> None:
        """Take what comes, now that nothing speaks against it."""
        self.stalled = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def _pass_on(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._waiting.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)


class _Near(_End):
    """The softphone's side."""

    def __init__(self, address: tuple[str, int], delay_s: float, ends: set[_Near]) -> None:
        super().__init__(delay_s)
        self._address = address
        self._ends = ends
        self._reaching: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._ends.add(self)
        self._reaching = asyncio.get_running_loop().create_task(self._reach())

    def connection_lost(self, exc: Exception | None) -> None:
        self._ends.discard(self)
        super().connection_lost(exc)

    def reset(self) -> None:
        """Cut both sides off (RST); what is on its way is lost."""
        for end in (self, self.other):
            if end is not None and end.transport is not None and not end.transport.is_closing():
                peer = end.transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.transport.abort()

    def stall(self, stall_s: float) -> None:
        """Take nothing from either side for a while. A stall within a stall is none of its own."""
        if self.stalled:
            return
        for end in (self, self.other):
            if end is not None and end.transport is not None and not end.transport.is_closing():
                end.stalled = True
                end.transport.pause_reading()
                asyncio.get_running_loop().call_later(stall_s, end.read_again)

    async def _reach(self) -> None:
        far = _End(self._delay_s)
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, *self._address)
        except OSError:
            self.reset()  # the softphone sees what it would see without us: nobody there
            return
        far.other, self.other = self, far
        if self.transport is None or self.transport.is_closing():
            far.let_go()
        self.pass_on_waiting()
