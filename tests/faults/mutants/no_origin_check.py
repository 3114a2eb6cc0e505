"""Lets the pages of every origin open calls."""

from typing import Any

from websockets.http11 import Request, Response

from gateway.doors.native import NativeDoor

_admit = NativeDoor._admit


async def _admit_any(self: NativeDoor, connection: Any, request: Request) -> Response | None:
    request.headers.pop("Origin", None)
    return await _admit(self, connection, request)


def break_it() -> None:
    NativeDoor._admit = _admit_any  # type: ignore[method-assign]
