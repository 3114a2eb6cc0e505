"""A network between a page and the server's socket, to be cut."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from tests.faults.cables import Relay, _reset


@dataclass
class Network(Relay):
    """Passes sockets on while it is up."""

    up: bool = True
    refused: int = 0
    """Connections that were tried while it was down."""
    passed: int = 0

    def fail(self) -> None:
        """Reset every connection, and each that is tried, until `mend`."""
        self.up = False
        self.cut(Random(0), 1.0)

    def mend(self) -> None:
        self.up = True

    def blink(self) -> None:
        """Reset every connection; new ones pass."""
        self.cut(Random(0), 1.0)

    async def _carry(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if not self.up:
            self.refused += 1
            _reset(to_client)
            return
        self.passed += 1
        with suppress(OSError):
            head = await from_client.readuntil(b"\r\n\r\n")
            token = base64.b64encode(b"demo:secret")
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"origin:")]
            edited = b"\r\n".join([lines[0], b"Authorization: Basic " + token, *lines[1:]])
            from_server, to_server = await asyncio.open_connection(self.host, self.port)
            to_server.write(edited)
            pair = (to_client, to_server)
            self._pairs.add(pair)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass_on(from_client, to_server))
                    group.create_task(self._pass_on(from_server, to_client))
            finally:
                self._pairs.discard(pair)
                to_server.close()
        to_client.close()
