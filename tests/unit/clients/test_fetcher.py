"""The one outbound fetcher: where a stranger's address may lead, and how much it may bring back."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from gateway.clients.fetch_targets import FetchTargets
from gateway.clients.fetcher import GuardedFetcher
from gateway.ports import PortError, Rejected, Unavailable
from gateway.settings import parse_fetch_allow

MAX_BYTES = 1000


class Names(AbstractResolver):
    """Answers each name with what the next look-up of it is scripted to give."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.lookups = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.lookups += 1
        if host not in self.answers:  # numbers in disguise are the system's to read
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return [self._entry(host, str(one[4][0]), port) for one in found]
        answers = self.answers[host]
        return [self._entry(host, address, port) for address in (answers.pop(0) if len(answers) > 1 else answers[0])]

    def _entry(self, host: str, address: str, port: int) -> ResolveResult:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)

    async def close(self) -> None: ...


class Canary:
    """A server on loopback that must see no hit, unless a test allows it. `hits` counts connections, not requests."""

    def __init__(self) -> None:
        self.hits = 0
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: web.StreamResponse | None = None
        self.hang = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.hits += 1
        self.requests.append(request)
        self.bodies.append(await request.read())
        if self.hang:
            await asyncio.Event().wait()
        return self.answer or web.Response(body=b"sound", content_type="audio/wav")


@pytest.fixture
async def canary() -> AsyncIterator[tuple[Canary, int]]:
    one = Canary()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", one.handle)
    async with TestServer(application, host="127.0.0.1") as server:
        assert server.port is not None
        yield one, server.port


@asynccontextmanager
async def redirecting(to: str) -> AsyncIterator[int]:
    async def handle(_: web.Request) -> web.Response:
        raise web.HTTPFound(to)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    async with TestServer(application, host="127.0.0.1") as server:
        assert server.port is not None
        yield server.port


def fetcher(allow: str = "", names: Names | None = None, **options: Any) -> GuardedFetcher:
    return GuardedFetcher(FetchTargets(parse_fetch_allow(allow)), resolver=names or Names(), **options)


async def refused(one: GuardedFetcher, url: str) -> str:
    """Both ways of calling refuse it as the caller's fault; the reason."""
    with pytest.raises(Rejected) as by_get:
        await one.fetch(url, max_bytes=MAX_BYTES)
    with pytest.raises(Rejected) as by_post:
        await one.post_json(url, b"{}")
    assert str(by_get.value) == str(by_post.value)
    return str(by_get.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0",
        "0.0.0.0",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::1]",
        "169.254.169.254",
        "100.64.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "[fe80::1]",
        "[fc00::1]",
        "[fec0::1]",
        "[ff02::1]",
    ],
)
async def test_an_address_inside_is_refused_and_never_touched(canary: tuple[Canary, int], host: str) -> None:
    seen, port = canary
    await refused(fetcher(), f"http://{host}:{port}/a.wav")
    assert seen.hits == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a.wav",
        "gopher://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "http://user@127.0.0.1:{port}/",
        "http://example.com:secret@127.0.0.1:{port}/",
        "http://127.0.0.1:{port}\\@example.com/",
        "http:///a.wav",
        "http://",
        "a.wav",
        "",
        "http://[::1",
        "http://host:99999/",
    ],
)
async def test_an_address_of_another_form_is_refused_unasked(canary: tuple[Canary, int], url: str) -> None:
    seen, port = canary
    await refused(fetcher(f"127.0.0.0/8:{port}" if "@" in url and "\\" not in url else ""), url.format(port=port))
    assert seen.hits == 0


async def test_a_redirect_is_not_followed(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    async with redirecting(f"http://127.0.0.1:{port}/a.wav") as way_in:
        reason = await refused(fetcher("127.0.0.0/8:*"), f"http://127.0.0.1:{way_in}/a.wav")
    assert "redirects are not followed" in reason
    assert seen.hits == 0


async def test_a_name_that_turns_inward_between_look_ups_gains_nothing(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    # The first look-up tells an allowed address that nobody answers at, every later one this machine.
    names = Names(rebind_example=[["192.0.2.1"], ["127.0.0.1"]])
    for _ in range(3):
        with pytest.raises(PortError):
            await fetcher("192.0.2.0/24:*", names, timeout_s=0.2).fetch(
                f"http://rebind.example:{port}/a.wav", max_bytes=MAX_BYTES
            )
    assert seen.hits == 0
    assert names.lookups == 3, "one look-up for one request"


async def test_a_name_with_an_address_inside_among_others_does_not_lead_there(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    names = Names(mixed_example=[["::1", "127.0.0.1", "::ffff:127.0.0.1"]])
    assert "not a public one" in await refused(fetcher(names=names), f"http://mixed.example:{port}/a.wav")
    assert seen.hits == 0


async def test_an_allowed_network_is_called_by_the_name_that_was_given(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    names = Names(files_example=[["127.0.0.1"]])
    one = fetcher(f"127.0.0.0/8:{port}", names)
    file = await one.fetch(f"http://files.example:{port}/of/calls/a.wav?x=1#y", max_bytes=MAX_BYTES)
    assert (file.data, file.name, file.content_type) == (b"sound", "a.wav", "audio/wav")
    assert seen.requests[0].headers["Host"] == f"files.example:{port}"
    assert "Cookie" not in seen.requests[0].headers
    assert names.lookups == 1


async def test_an_allowed_network_is_open_at_its_port_only(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    await refused(fetcher(f"127.0.0.0/8:{port ^ 1}"), f"http://127.0.0.1:{port}/")
    assert seen.hits == 0


async def test_a_message_is_handed_over_as_json(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    await fetcher("127.0.0.0/8:*").post_json(f"http://127.0.0.1:{port}/done", b'{"error_code":0}', {"X-Delivery": "7"})
    assert seen.requests[0].headers["X-Delivery"] == "7"
    assert (seen.requests[0].method, seen.requests[0].content_type) == ("POST", "application/json")
    assert seen.bodies == [b'{"error_code":0}']


@pytest.mark.parametrize("announced", [True, False])
async def test_a_file_that_is_too_large_is_refused(canary: tuple[Canary, int], announced: bool) -> None:
    seen, port = canary
    seen.answer = web.Response(body=bytes(MAX_BYTES + 1))
    if not announced:
        seen.answer.enable_chunked_encoding()
    with pytest.raises(Rejected, match="bytes"):
        await fetcher("127.0.0.0/8:*").fetch(f"http://127.0.0.1:{port}/", max_bytes=MAX_BYTES)


async def test_a_compressed_file_is_not_unpacked(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    seen.answer = web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    with pytest.raises(Rejected, match="compressed"):
        await fetcher("127.0.0.0/8:*").fetch(f"http://127.0.0.1:{port}/", max_bytes=MAX_BYTES)


async def test_all_that_is_fetched_at_a_time_is_bounded(canary: tuple[Canary, int]) -> None:
    _, port = canary
    one = fetcher("127.0.0.0/8:*", max_held_bytes=4)
    for _ in range(2):  # what was given back may be used again
        with pytest.raises(Unavailable, match="too much"):
            await one.fetch(f"http://127.0.0.1:{port}/", max_bytes=MAX_BYTES)
    assert one._held_bytes == 0


async def test_one_that_never_answers_is_left(canary: tuple[Canary, int]) -> None:
    seen, port = canary
    seen.hang = True
    one = fetcher("127.0.0.0/8:*", timeout_s=0.2, post_timeout_s=0.2)
    with pytest.raises(Unavailable, match="no whole answer"):
        await one.fetch(f"http://127.0.0.1:{port}/", max_bytes=MAX_BYTES)
    with pytest.raises(Unavailable, match="no whole answer"):
        await one.post_json(f"http://127.0.0.1:{port}/", b"{}")


@pytest.mark.parametrize(("status", "kind"), [(404, Rejected), (410, Rejected), (429, Unavailable), (503, Unavailable)])
async def test_a_failure_says_whether_to_come_back(
    canary: tuple[Canary, int], status: int, kind: type[PortError]
) -> None:
    seen, port = canary
    seen.answer = web.Response(status=status, headers={"Retry-After": "7"})
    with pytest.raises(kind) as raised:
        await fetcher("127.0.0.0/8:*").post_json(f"http://127.0.0.1:{port}/", b"{}")
    if isinstance(raised.value, Unavailable):
        assert raised.value.retry_after_s == 7


@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_no_disguise_makes_an_inner_v4_address_public(address: Any, port: int) -> None:
    targets = FetchTargets()
    number = int(address)
    for disguise in (f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}", f"{address}%eth0"):
        assert not targets.permits(disguise, port) or targets.permits(str(address), port)


@given(st.text(max_size=60))
async def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        url = FetchTargets().checked_url(text)
    except Rejected:
        return
    assert url.scheme in ("http", "https")
    assert url.host
