"""Networks to be ill-treated: a server behind a cable of its own, and a relay that cuts and delays."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

CHUNK_BYTES = 64 * 1024
_count = count(step=257)


@dataclass(frozen=True)
class Cable:
    """A network namespace at the end of a virtual cable; a server in it is reached at `far`."""

    name: str
    near: str
    far: str

    @property
    def wrap(self) -> Sequence[str]:
        """Runs a command at the far end."""
        return ("ip", "netns", "exec", self.name)

    def lose(self, percent: int) -> None:
        """Drop so many of the packets that arrive at the far end and of those that leave it, at random."""
        rules = "".join(
            f"add chain inet faults {hook} {{ type filter hook {hook} priority 0; }}\n"
            f"add rule inet faults {hook} numgen random mod 100 < {percent} drop\n"
            for hook in ("input", "output")
        )
        _run(*self.wrap, "nft", "-f", "-", given="add table inet faults\n" + rules)

    def narrow(self, kbit_s: int) -> None:
        """Let no more than this through, either way."""
        for device, wrap in ((f"n{self.name}", ()), (f"f{self.name}", self.wrap)):
            limit = ("rate", f"{kbit_s}kbit", "burst", "4kb", "latency", "800ms")
            _run(*wrap, "tc", "qdisc", "add", "dev", device, "root", "tbf", *limit)

    def pull(self) -> None:
        """Nothing passes until `plug`."""
        _run("ip", "link", "set", f"n{self.name}", "down")

    def plug(self) -> None:
        _run("ip", "link", "set", f"n{self.name}", "up")


@contextmanager
def cable() -> Iterator[Cable]:
    """Lay one; it is gone at the end. Skips where network namespaces are not allowed."""
    number = (os.getpid() + next(_count)) % 16000
    name = f"es{number}"
    subnet = f"10.{200 + number // 4096}.{number // 16 % 256}"
    host = number % 16 * 4
    one = Cable(name, f"{subnet}.{host + 1}", f"{subnet}.{host + 2}")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"cannot make a network namespace here: {made.stderr.strip()}")
    try:
        _run("ip", "link", "add", f"n{name}", "type", "veth", "peer", "name", f"f{name}", "netns", name)
        _run("ip", "addr", "add", f"{one.near}/30", "dev", f"n{name}")
        _run("ip", "link", "set", f"n{name}", "up")
        for command in (
            ("ip", "addr", "add", f"{one.far}/30", "dev", f"f{name}"),
            ("ip", "link", "set", f"f{name}", "up"),
            ("ip", "link", "set", "lo", "up"),
        ):
            _run(*one.wrap, *command)
        yield one
    finally:
        # The namespace lives on while a server is in it; the cable must not, or the next one could not have its name.
        subprocess.run(["ip", "link", "del", f"n{name}"], capture_output=True, check=False)
        _run("ip", "netns", "del", name)


@dataclass
class Relay:
    """Passes connections on to a server, later by `delay_s`, and cuts them off as told."""

    host: str
    port: int
    delay_s: float = 0.0
    cuts: int = 0
    _pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Its host:port."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            host, port = server.sockets[0].getsockname()
            yield f"{host}:{port}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def cut(self, random: Random, share: float) -> None:
        """Reset each connection with this probability."""
        for pair in list(self._pairs):
            if random.random() < share:
                self.cuts += 1
                for writer in pair:
                    _reset(writer)

    async def _carry(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError):
            from_server, to_server = await asyncio.open_connection(self.host, self.port)
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

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Everything in order, each chunk `delay_s` after it came."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1000)

        async def read() -> None:
            chunk = b"more"
            while chunk:
                with suppress(OSError):
                    chunk = await reader.read(CHUNK_BYTES)
                    await waiting.put((loop.time() + self.delay_s, chunk))
                    continue
                await waiting.put((loop.time(), b""))
                return

        reading = loop.create_task(read())
        try:
            while True:
                at_s, chunk = await waiting.get()
                await asyncio.sleep(at_s - loop.time())
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, and throw away what is on its way."""
    peer: socket.socket | None = writer.get_extra_info("socket")
    if peer is not None and peer.fileno() >= 0:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _run(*command: str, given: str = "") -> None:
    subprocess.run(command, check=True, capture_output=True, input=given, text=True)
