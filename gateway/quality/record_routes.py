"""`GET /v1/rules/record`: how the early alerts of each rule have done against voice QC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from gateway.ports import Clock, RuleOutcomes, RuleTrack
from gateway.quality.rule_routes import answered, refused

DEFAULT_MS = 30 * 24 * 3600 * 1000
MAX_RULES = 10_000


class RecordRoutes:
    """Precision, recall and lead time, by category and expression."""

    def __init__(self, outcomes: RuleOutcomes, clock: Clock, caller: Callable[[web.Request], str]) -> None:
        """`caller` names the app that asks, or raises the answer that it gets."""
        self._outcomes = outcomes
        self._clock = clock
        self._caller = caller

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/rules/record", answered(self._record))]

    async def _record(self, request: web.Request) -> web.Response:
        """`since_ms`: calls judged since then (wall clock, ms since the Unix epoch); default the last 30 days."""
        app_id = self._caller(request)
        text = request.query.get("since_ms", str(max(0, round(self._clock.wall() * 1000) - DEFAULT_MS)))
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise refused(web.HTTPBadRequest, "bad_parameter", "since_ms must be ms since the Unix epoch")
        tracks = await self._outcomes.tracks(app_id, since_ms=int(text), limit=MAX_RULES)
        answer = {"since_ms": int(text), "rules": [_told(track) for track in tracks]}
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _told(track: RuleTrack) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(track),
        "precision": _share(track.confirmed, track.confirmed + track.not_confirmed),
        "recall": _share(track.confirmed, track.confirmed + track.missed),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
