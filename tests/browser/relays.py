"""A network between a page and the server's socket, to be cut."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

from tests.faults.cables import Relay


@dataclass
class Network(Relay):
    """Passes connections on while it is up."""

    up: bool = True
    passed: int = 0
    refused: int = 0
    """Connections that were tried while it was down."""

    def fail(self) -> None:
        """Reset every connection, and each that is tried, until `mend`."""
        self.up = False
        self.blink()

    def mend(self) -> None:
        self.up = True

    def blink(self) -> None:
        """Reset every connection; new ones pass."""
        self.cut(Random(0), 1.0)

    async def _carry(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.up:
            self.passed += 1
            await super()._carry(from_client, to_client)
        else:
            self.refused += 1
            to_client.transport.abort()
