"""What the routes for passages are asked in fields, and how faults are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import wraps

import msgspec
from aiohttp import web

from gateway.ports import Rejected, Unavailable
from protocol.voiceprint import Code, VoiceprintError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fields = Mapping[str, str]
BUSY_RETRY_S = 5


def number(fields: Fields, name: str, default: int, least: int, most: int) -> int:
    text = fields.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise refused(web.HTTPBadRequest, "bad_parameter", f"{name} must be a whole number from {least} to {most}")
    return int(text)


def score_of(fields: Fields, name: str, default: float) -> float:
    text = fields.get(name)
    if text is None:
        return default
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not -100 <= score <= 100:
        raise refused(web.HTTPBadRequest, "bad_parameter", f"{name} must be a score from -100 to 100")
    return score


def moment_of(fields: Fields, name: str) -> int | None:
    """Milliseconds since the Unix epoch, as they are or as an ISO 8601 date and time (UTC where it names no zone)."""
    text = fields.get(name)
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        wanted = "ms since the Unix epoch or a time such as 2026-01-31T08:00:00Z"
        raise refused(web.HTTPBadRequest, "bad_parameter", f"{name} must be {wanted}") from None


_STATUS: dict[Code, tuple[type[web.HTTPException], str]] = {
    Code.MISSING_PARAMETER: (web.HTTPBadRequest, "bad_parameter"),
    Code.ILLEGAL_PARAMETER: (web.HTTPBadRequest, "bad_audio"),
    Code.NOT_HTTP_URL: (web.HTTPBadRequest, "bad_parameter"),
    Code.UNDECODABLE_AUDIO: (web.HTTPBadRequest, "bad_audio"),
}


def answered(handler: Handler) -> Handler:
    """The handler with what it may raise put into answers."""

    @wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except VoiceprintError as fault:
            kind, code = _STATUS.get(fault.code, (web.HTTPServiceUnavailable, "unavailable"))
            raise refused(kind, code, str(fault)) from fault
        except Rejected as fault:
            raise refused(web.HTTPBadRequest, "bad_audio", str(fault)) from fault
        except (Unavailable, OSError) as fault:
            raise refused(web.HTTPServiceUnavailable, "unavailable", str(fault)) from fault

    return handle


def refused(kind: type[web.HTTPException], code: str, message: str) -> web.HTTPException:
    """An error's answer, to be raised."""
    text = msgspec.json.encode({"code": code, "message": message}).decode()
    return kind(text=text, content_type="application/json")
