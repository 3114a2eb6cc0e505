"""Links to audio that lead where this server must not go, in every field that takes one; canaries listen there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.clients.fetch_targets import FetchTargets
from gateway.clients.fetcher import GuardedFetcher
from gateway.settings import parse_fetch_allow
from protocol import voiceprint_openapi as openapi
from tests.unit.clients.test_fetcher import Names
from tests.voiceprint_calls import ORG, Client, post, routes_of, signed
from tests.voices import Desk, voice, wav

TAKES_LINKS = [
    path
    for path, item in openapi.document()["paths"].items()
    for form in item.get("post", {}).get("requestBody", {}).get("content", {}).values()
    if "uri" in str(form["schema"]["properties"]["audio"])
]
PLACES = ("multipart", "urlencoded", "query")
INSIDE = (
    "http://127.0.0.1:{port}/a.wav",
    "http://127.1:{port}/a.wav",
    "http://0:{port}/a.wav",
    "http://0.0.0.0:{port}/a.wav",
    "http://2130706433:{port}/a.wav",
    "http://0x7f000001:{port}/a.wav",
    "http://0x7f.1:{port}/a.wav",
    "http://017700000001:{port}/a.wav",
    "http://0177.0.0.1:{port}/a.wav",
    "http://localhost:{port}/a.wav",
    "http://LOCALHOST.:{port}/a.wav",
    "http://[::1]:{port}/a.wav",
    "http://[::]:{port}/a.wav",
    "http://[::ffff:127.0.0.1]:{port}/a.wav",
    "http://[::ffff:7f00:1]:{port}/a.wav",
    "http://127.0.0.1.:{port}/a.wav",
    "http://①②⑦.0.0.1:{port}/a.wav",
    "http://127。0。0。1:{port}/a.wav",
    "http://public.example@127.0.0.1:{port}/a.wav",
    "http://127.0.0.1:{port}@public.example:{port}/a.wav",
    "http://public.example#@127.0.0.1:{port}/a.wav",
    "http://127.0.0.1:{port}\\@public.example/a.wav",
    "http://inside.example:{port}/a.wav",
    "http://rebinding.example:{port}/a.wav",
    "http://mapped.example:{port}/a.wav",
    "http://both.example:{port}/a.wav",
    "http://127.0.0.1:{redirecting}/to-the-canary.wav",
    "HTTP://127.0.0.1:{port}/a.wav",
    " http://127.0.0.1:{port}/a.wav ",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://10.0.0.1:{port}/a.wav",
    "http://192.168.0.1:{port}/a.wav",
    "http://100.100.100.200/latest/meta-data/",
    "http://[fe80::1%25lo]:{port}/a.wav",
    "http://224.0.0.1:{port}/a.wav",
)
REACHABLE = (
    "http://127.0.0.1:{port}/a.wav",
    "http://0x7f000001:{port}/a.wav",
    "http://0x7f.1:{port}/a.wav",
    "http://localhost:{port}/a.wav",
    "http://LOCALHOST.:{port}/a.wav",
    "http://[::1]:{port}/a.wav",
    "http://①②⑦.0.0.1:{port}/a.wav",
    "http://inside.example:{port}/a.wav",
    "http://rebinding.example:{port}/a.wav",
)
"""Those of them that lead to the canary, if only they were let; the others are no host names to begin with."""
NO_LINKS = (
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/a.wav",
    "gopher://127.0.0.1:{port}/_GET",
    "dict://127.0.0.1:{port}/",
    "data:audio/wav;base64,UklGRg==",
    "//127.0.0.1:{port}/a.wav",
    "/etc/passwd",
    "127.0.0.1:{port}/a.wav",
    "http:///a.wav",
    "https://",
    "javascript:alert(1)",
)


@dataclass
class Canary:
    """Listens on every address of this machine; whoever connects is counted, and gets a voice."""

    port: int = 0
    redirecting: int = 0
    connections: int = 0
    servers: list[asyncio.Server] = field(default_factory=list)

    async def start(self) -> None:
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as found:
            self.port = found.getsockname()[1]
        for host in ("0.0.0.0", "::"):
            self.servers.append(await asyncio.start_server(self._sing, host, self.port))
        self.servers.append(await asyncio.start_server(self._redirect, "127.0.0.1", 0))
        self.redirecting = self.servers[-1].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for server in self.servers:
            server.close()
            await server.wait_closed()

    async def _sing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        body = wav(voice(1))
        await self._answer(reader, writer, f"200 OK\r\nContent-Length: {len(body)}", body)

    async def _redirect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer(reader, writer, f"302 Found\r\nLocation: http://127.0.0.1:{self.port}/a.wav", b"")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, body: bytes) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    one = Canary()
    await one.start()
    yield one
    await one.stop()


def names() -> Names:
    return Names(
        inside_example=[["127.0.0.1"]],
        rebinding_example=[["127.0.0.1"], ["127.0.0.1"]],
        mapped_example=[["::ffff:127.0.0.1"]],
        both_example=[["127.0.0.1", "::1"]],
        public_example=[["127.0.0.1"]],
        localhost_=[["127.0.0.1"]],
    )


@pytest.fixture
async def http(tmp_path: Path, canary: Canary) -> AsyncIterator[Client]:
    allowed = parse_fetch_allow(f"127.0.0.1/32:{canary.redirecting}")
    desk = Desk(tmp_path, fetcher=GuardedFetcher(FetchTargets(allowed), resolver=names(), timeout_s=5))
    await desk.service.start()
    async with routes_of(desk) as client:
        yield client
    await desk.close()


async def ask(http: Client, path: str, place: str, link: str) -> Any:
    fields = {**ORG, "spk_name": "a"}
    if place == "multipart":
        return await post(http, path, link, spk_name="a")
    query, data = ({"audio": link}, fields) if place == "query" else ({}, {**fields, "audio": link})
    async with http.post(path, params=query, data=data, headers=signed()) as response:
        assert response.status == 200
        return await response.json()


@pytest.mark.parametrize("place", PLACES)
async def test_no_link_in_any_field_brings_this_server_to_call_inside(http: Client, canary: Canary, place: str) -> None:
    assert len(TAKES_LINKS) == 5
    for path in TAKES_LINKS:
        for template in INSIDE:
            link = template.format(port=canary.port, redirecting=canary.redirecting)
            answer = await ask(http, path, place, link)
            assert answer["code"] == "10107", (path, link, answer)
        for template in NO_LINKS:
            link = template.format(port=canary.port)
            answer = await ask(http, path, place, link)
            assert answer["code"] == "10109", (path, link, answer)
    assert canary.connections == 0


async def test_the_canary_sings_where_the_operator_allows_it(tmp_path: Path, canary: Canary) -> None:
    """The same list would reach it, were it not refused: what can be allowed is, and the canary hears of it."""
    allowed = parse_fetch_allow(f"127.0.0.0/8:{canary.port},::1/128:{canary.port}")
    desk = Desk(tmp_path, fetcher=GuardedFetcher(FetchTargets(allowed), resolver=names(), timeout_s=5))
    await desk.service.start()
    async with routes_of(desk) as http:
        for reached, template in enumerate(REACHABLE, 1):
            assert template in INSIDE
            answer = await ask(http, "/voiceid/recognize", "urlencoded", template.format(port=canary.port))
            assert answer == {"code": "0", "msg": "success", "data": []}, template
            assert canary.connections == reached
    await desk.close()


async def test_what_a_refusal_says_does_not_tell_what_lies_inside(http: Client, canary: Canary) -> None:
    """An open port, a closed one and no machine at all: the same words for each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    told = set()
    for address in (f"127.0.0.1:{canary.port}", f"127.0.0.1:{closed}", "10.255.255.1:80"):
        answer = await ask(http, "/voiceid/recognize", "urlencoded", f"http://{address}/a.wav")
        told.add(answer["msg"].replace(address.partition(":")[0], "HOST"))
    assert len(told) == 1


async def test_secrets_in_a_link_are_not_told_and_not_logged(
    http: Client, canary: Canary, capsys: pytest.CaptureFixture[str]
) -> None:
    link = f"http://user:canary-secret@127.0.0.1:{canary.port}/a.wav?token=canary-token"
    answer = await ask(http, "/voiceid/register", "multipart", link)
    assert answer["code"] == "10107"
    assert "canary-" not in str(answer)
    assert "canary-" not in capsys.readouterr().out
    assert isinstance(http.session, aiohttp.ClientSession)
