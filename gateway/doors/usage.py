"""`GET /v1/usage`: what the calling app has used of our own services, by day, and what it may still use today."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

import msgspec
from aiohttp import web

from gateway.doors.answers import json_answer, refused
from gateway.ports import Clock, Quotas, Unavailable, UsageDay, UsageMeter, day_of, next_day_at, stamp

DEFAULT_DAYS = 31
MOST_DAYS = 366


class UsageRoutes:
    """Days are UTC. An error is `{"code", "message"}`, as on the other routes of ours."""

    def __init__(self, meter: UsageMeter, quotas: Quotas, clock: Clock, caller: Callable[[web.Request], str]) -> None:
        """`caller` names the app that asks, or raises the answer that it gets."""
        self._meter = meter
        self._quotas = quotas
        self._clock = clock
        self._caller = caller

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/usage", self._usage)]

    async def _usage(self, request: web.Request) -> web.Response:
        """`from` and `to` (today), both included, at most 366 days; by default the last 31."""
        app_id = self._caller(request)
        now_s = self._clock.wall()
        today = date.fromisoformat(day_of(now_s))
        last = _day(request, "to", today)
        # The first days of the calendar have no month before them.
        first = _day(request, "from", last - min(timedelta(days=DEFAULT_DAYS - 1), last - date.min))
        if not 0 <= (last - first).days < MOST_DAYS:
            message = f"from {first} to {last} must be 1 to {MOST_DAYS} days"
            raise refused(web.HTTPBadRequest, "bad_parameter", message)
        try:
            found = await self._meter.days(app_id, first.isoformat(), last.isoformat())
            used_today = await self._meter.days(app_id, today.isoformat(), today.isoformat())
        except Unavailable as fault:
            raise refused(web.HTTPServiceUnavailable, "unavailable", str(fault)) from fault
        days = [(first + timedelta(days=after)).isoformat() for after in range((last - first).days + 1)]
        answer = {
            "from": days[0],
            "to": days[-1],
            "days": [{"day": day, **_told(one for one in found if one.day == day)} for day in days],
            "total": _told(found),
            "quota_per_day": self._quota(app_id),
            "left_today": self._left(app_id, used_today),
            "next_day_at": stamp(next_day_at(now_s)),
        }
        return json_answer(answer)

    def _quota(self, app_id: str) -> dict[str, Any]:
        quality_ms = self._quotas.of(app_id, "quality_ms")
        return {
            "quality_s": None if quality_ms is None else quality_ms // 1000,
            "voiceprint_requests": self._quotas.of(app_id, "voiceprint_requests"),
        }

    def _left(self, app_id: str, used_today: Iterable[UsageDay]) -> dict[str, Any]:
        used = {one.product: one.amount for one in used_today}
        quality_ms = self._quotas.of(app_id, "quality_ms")
        requests = self._quotas.of(app_id, "voiceprint_requests")
        left_ms = None if quality_ms is None else max(0, quality_ms - used.get("quality_ms", 0))
        return {
            "quality_s": None if left_ms is None else left_ms // 1000,
            "quality_ms": left_ms,
            "voiceprint_requests": None if requests is None else max(0, requests - used.get("voiceprint_requests", 0)),
        }


def _told(days: Iterable[UsageDay]) -> dict[str, int]:
    """Amounts summed up; `quality_s` is whole seconds, cut off once for the sum, so that days need not add up to it."""
    amounts = {"quality_ms": 0, "voiceprint_requests": 0}
    for one in days:
        amounts[one.product] += one.amount
    return {"quality_s": amounts["quality_ms"] // 1000, **amounts}


def _day(request: web.Request, name: str, default: date) -> date:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        day = msgspec.convert(text, date)
        if text != day.isoformat():
            raise ValueError(text)  # noqa: TRY301 - told together with what is no date at all
    except (msgspec.ValidationError, ValueError):
        raise refused(web.HTTPBadRequest, "bad_parameter", f"{name} must be a day such as 2026-01-31") from None
    return day
