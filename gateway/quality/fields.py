"""Request bodies, read within bounds and parsed off the event loop when large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import msgspec
from aiohttp import web

from protocol.quality import ErrorCode, QualityFault

BODY_TIMEOUT_S = 600.0
BUSY_RETRY_S = 5.0
_PARSED_INLINE_BYTES = 64 * 1024


class BodyReader:
    """Reads bodies. What all requests hold together is bounded; a request beyond that is told to come later."""

    def __init__(self, *, max_held_bytes: int) -> None:
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0

    @asynccontextmanager
    async def json_object(
        self, request: web.Request, max_bytes: int, too_large: ErrorCode
    ) -> AsyncIterator[dict[str, Any]]:
        """The body's JSON object, {} for an empty body, whatever its content type; it counts as held until exit.

        Raises QualityFault, with `too_large` for more than `max_bytes`.
        """
        counted = _Counted()
        try:
            yield await _parsed(await self._body(request, max_bytes, too_large, counted))
        finally:
            self._held_bytes -= counted.held_bytes

    async def form_or_json(self, request: web.Request, max_bytes: int) -> dict[str, Any]:
        """As `json_object`, of a small body, which may also say that it is a form."""
        counted = _Counted()
        try:
            body = await self._body(request, max_bytes, ErrorCode.BODY_UNREADABLE, counted)
            if request.content_type != "application/x-www-form-urlencoded":
                return await _parsed(body)
            return dict(parse_qsl(body.decode(), keep_blank_values=True))
        except UnicodeDecodeError as fault:
            raise QualityFault(ErrorCode.BODY_UNREADABLE, str(fault)) from fault
        finally:
            self._held_bytes -= counted.held_bytes

    async def _body(self, request: web.Request, max_bytes: int, too_large: ErrorCode, counted: _Counted) -> bytes:
        beyond = QualityFault(too_large, f"the request body exceeds {max_bytes} bytes")
        if (request.content_length or 0) > max_bytes:
            raise beyond
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for chunk in request.content.iter_any():
                    chunks.append(chunk)
                    counted.held_bytes += len(chunk)
                    self._held_bytes += len(chunk)
                    if counted.held_bytes > max_bytes:
                        raise beyond
                    if self._held_bytes > self._max_held_bytes:
                        raise QualityFault(
                            ErrorCode.UNAVAILABLE, "too many uploads at a time", retry_after_s=BUSY_RETRY_S
                        )
        except TimeoutError as fault:
            raise QualityFault(ErrorCode.BODY_UNREADABLE, f"it took longer than {BODY_TIMEOUT_S:.0f} s") from fault
        except (ConnectionError, aiohttp.ClientError) as fault:
            raise QualityFault(ErrorCode.BODY_UNREADABLE, "the connection ended inside it") from fault
        return b"".join(chunks)


class _Counted:
    """How much of the bound one request has taken."""

    held_bytes = 0


async def _parsed(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        if len(body) <= _PARSED_INLINE_BYTES:
            parsed = msgspec.json.decode(body)
        else:
            parsed = await asyncio.to_thread(msgspec.json.decode, body)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise QualityFault(ErrorCode.BODY_UNREADABLE, str(fault)) from fault
    if not isinstance(parsed, dict):
        raise QualityFault(ErrorCode.BODY_UNREADABLE, f"it is a JSON {type(parsed).__name__}")
    return parsed
