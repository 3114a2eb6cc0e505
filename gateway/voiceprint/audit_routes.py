"""`GET /v1/voices/audit`: who enrolled, replaced and deleted voices of an app, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from gateway.ports import PortError, VoiceprintAudit, VoiceprintAudits

PATH = "/v1/voices/audit"
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
_LATEST_MS = 2**48


class AuditRoutes:
    """Answers JSON; an error is `{"code", "message"}`."""

    def __init__(self, audits: VoiceprintAudits, caller: Callable[[web.Request], str]) -> None:
        """`caller` names the app that asks, or raises the answer that it gets."""
        self._audits = audits
        self._caller = caller

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._list)]

    async def _list(self, request: web.Request) -> web.Response:
        """`from`, `to` (ISO 8601, UTC unless it says otherwise, or ms since the Unix epoch; both included) and `limit`
        (100, at most 1000), latest first; `name`: only what was done to voices of this name."""
        app_id = self._caller(request)
        try:
            audits = await self._audits.audits(
                app_id,
                from_ms=_time_ms(request, "from", default=0),
                to_ms=_time_ms(request, "to", default=_LATEST_MS),
                limit=_limit(request),
                name=request.query.get("name"),
            )
        except PortError as fault:
            raise _error(web.HTTPServiceUnavailable, "unavailable", str(fault)) from fault
        return web.Response(
            body=msgspec.json.encode({"audit": [_told(one) for one in audits]}), content_type="application/json"
        )


def _told(audit: VoiceprintAudit) -> dict[str, Any]:
    at = datetime.fromtimestamp(audit.at_ms / 1000, UTC)
    return {
        "id": audit.audit_id,
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "app_id": audit.app_id,
        "actor": audit.actor,
        "operation": audit.operation,
        "org_id": audit.org_id,
        "tag_id": audit.tag_id,
        "count": len(audit.voices),
        "voices": audit.voices,
    }


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise _error(web.HTTPBadRequest, "bad_parameter", f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _time_ms(request: web.Request, name: str, *, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        if text.isascii() and text.isdigit():
            return min(int(text[:20]), _LATEST_MS)
        at = datetime.fromisoformat(text)
        return max(0, round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError) as fault:
        message = f"{name} must be a time such as 2030-12-31T23:59:59Z, or ms since the Unix epoch"
        raise _error(web.HTTPBadRequest, "bad_parameter", message) from fault


def _error(kind: type[web.HTTPException], code: str, message: str) -> web.HTTPException:
    return kind(text=msgspec.json.encode({"code": code, "message": message}).decode(), content_type="application/json")
