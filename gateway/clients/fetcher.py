"""The one way in which this server calls an address that somebody else has named."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver

from gateway.clients.fetch_targets import AddressRefused, FetchTargets
from gateway.clients.retry_after import RETRYABLE_STATUSES, retry_after_s
from gateway.ports import NO_HEADERS, FetchedFile, Rejected, Unavailable

MAX_HELD_BYTES = 640 * 1024 * 1024
"""What all files being fetched may hold in memory at a time: one of the largest, and some of usual size."""
_CHUNK_BYTES = 64 * 1024


class GuardedFetcher:
    """Fills the role `Fetcher`: public addresses and allowed ones only, no redirects, bounded in bytes and time.

    Each request resolves its name once and connects to what came of that, on a connection of its own. It takes no
    proxy from the environment and sends no cookies.
    """

    def __init__(
        self,
        targets: FetchTargets,
        *,
        timeout_s: float = 120.0,
        post_timeout_s: float = 15.0,
        max_held_bytes: int = MAX_HELD_BYTES,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """`timeout_s` bounds one file, `post_timeout_s` one message, each from look-up to the last byte."""
        self._targets = targets
        self._timeout_s = timeout_s
        self._post_timeout_s = post_timeout_s
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._resolver = resolver

    async def fetch(self, url: str, *, max_bytes: int) -> FetchedFile:
        """What the address holds, as the port says. A compressed answer is refused, not unpacked."""
        async with self._answer("GET", url, self._timeout_s) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Rejected("the answer is compressed, expected the file as it is")
            if (response.content_length or 0) > max_bytes:
                raise Rejected(f"the file has {response.content_length} bytes, at most {max_bytes} are taken")
            data = await self._read(response, max_bytes)
            return FetchedFile(data, response.url.name, response.content_type)

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Hand `body` to the address, as the port says; what it answers beyond its status is not read."""
        async with self._answer("POST", url, self._post_timeout_s, body, headers):
            pass

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        text: str,
        timeout_s: float,
        body: bytes | None = None,
        more_headers: Mapping[str, str] = NO_HEADERS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A 2xx answer's head; anything else raises Rejected or Unavailable."""
        url = self._targets.checked_url(text)
        headers = {**more_headers, "Accept-Encoding": "identity"}
        # A stream, so that a large body is not written in one go on the event loop.
        data = None if body is None else io.BytesIO(body)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with (
                self._session(timeout_s) as session,
                session.request(method, url, data=data, headers=headers, allow_redirects=False) as response,
            ):
                _refuse_failure(response)
                yield response
        except TimeoutError as fault:
            raise Unavailable(f"{url.host} gave no whole answer in {timeout_s:g} s") from fault
        except aiohttp.InvalidURL as fault:
            raise Rejected(f"the address cannot be called: {url.host} is no host name") from fault
        except aiohttp.ClientConnectorError as fault:
            if isinstance(fault.os_error, AddressRefused):
                raise Rejected(f"{url.host}: {fault.os_error.strerror}", code="address_refused") from None
            raise Unavailable(f"{url.host} cannot be reached ({type(fault).__name__})") from None
        except aiohttp.ClientError as fault:
            raise Unavailable(f"{url.host} broke off ({type(fault).__name__})") from None

    def _session(self, timeout_s: float) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            force_close=True,
            socket_factory=self._targets.open_socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def _read(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        data = bytearray()
        try:
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                data += chunk
                self._held_bytes += len(chunk)
                if len(data) > max_bytes:
                    raise Rejected(f"the file has more than {max_bytes} bytes")
                if self._held_bytes > self._max_held_bytes:
                    raise Unavailable("too much is being fetched at the moment", retry_after_s=10)
            return bytes(data)
        finally:
            self._held_bytes -= len(data)


def _refuse_failure(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if 200 <= status < 300:
        return
    text = f"{response.url.host} answered HTTP {status}"
    if status >= 500 or status in RETRYABLE_STATUSES:
        raise Unavailable(text, retry_after_s=retry_after_s(response.headers.get("Retry-After", "")))
    if 300 <= status < 400:
        raise Rejected(f"{text}: redirects are not followed", code=f"http_{status}")
    raise Rejected(text, code=f"http_{status}")
