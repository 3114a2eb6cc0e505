"""`GET /v1/calls/{call_id}/levels`: how loud a call was, step by step, for a timeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from gateway.doors.answers import json_answer, refused
from gateway.ports.levels import CallLevels, LevelReader, LevelsAsked

DEFAULT_STEP_MS: Final = 100
STEP_MS: Final = (10, 60_000)
LATEST_MS: Final = 7 * 24 * 3_600_000
"""No call is longer."""

Told = Callable[[web.Request], Awaitable[Mapping[str, Any]]]
NoRecording = Callable[[web.Request], Awaitable[web.HTTPException]]


class LevelRoutes:
    """Of a call that goes on and of one that is over; errors as `{"code", "message"}`."""

    def __init__(self, told: Told, levels: LevelReader, no_recording: NoRecording) -> None:
        """`told` is what `/v1/calls/{id}` tells of a request's call; it raises the answer that others get.
        `no_recording` is the answer where a call that is over has no recording here."""
        self._told = told
        self._no_recording = no_recording
        self._levels = levels

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/calls/{call_id}/levels", self._of_call)]

    async def _of_call(self, request: web.Request) -> web.Response:
        """`step_ms` (100), `from_ms` (0) and `to_ms` (the end)."""
        told = await self._told(request)  # before anything is said of the parameters: foreign calls are as if absent
        asked = _asked(request)
        state, call_id = told["state"], request.match_info["call_id"]
        found = await self._levels.recorded(call_id, asked)
        if found is None and state in ("live", "judging"):
            # Sealed between the two questions, it is in the recording now.
            found = await self._levels.running(call_id, asked) or await self._levels.recorded(call_id, asked)
        if found is not None:
            return _answer(found)
        if state in ("live", "judging"):
            text = "another process holds the call, and cannot be asked right now; try again"
            raise refused(web.HTTPConflict, "not_sealed", text)
        raise await self._no_recording(request)


def _answer(levels: CallLevels) -> web.Response:
    answer = json_answer(
        {
            "step_ms": levels.step_ms,
            "from_ms": levels.from_ms,
            "duration_ms": levels.duration_ms,
            "channels": levels.channels,
        }
    )
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


def _asked(request: web.Request) -> LevelsAsked:
    step_ms = _number(request, "step_ms", *STEP_MS) if "step_ms" in request.query else DEFAULT_STEP_MS
    from_ms = _number(request, "from_ms", 0, LATEST_MS) if "from_ms" in request.query else 0
    to_ms = _number(request, "to_ms", from_ms, LATEST_MS) if "to_ms" in request.query else None
    return LevelsAsked(step_ms, from_ms, to_ms)


def _number(request: web.Request, name: str, least: int, most: int) -> int:
    text = request.query[name]
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise refused(web.HTTPBadRequest, "bad_parameter", f"{name} must be a whole number from {least} to {most}")
    return int(text)
