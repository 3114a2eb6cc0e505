"""The printable report of a call, and of a task of voice QC that was no call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from gateway.doors.answers import refused
from gateway.doors.recording_links import RecordingLinks
from gateway.ports import Rejected, Unavailable
from gateway.report.page import Audio, policy, render
from gateway.report.sources import of_call, of_result
from gateway.report.view import Report
from gateway.report.words import language_for

Told = Callable[[web.Request], Awaitable[Mapping[str, Any]]]
TaskResult = Callable[[str, str], Awaitable[Mapping[str, Any]]]


class ReportRoutes:
    """HTML in the language of `?lang=en|zh`, else of the browser; it runs no script, and loads nothing but audio."""

    def __init__(
        self,
        told: Told,
        task_result: TaskResult,
        recording_path: Callable[[str], Path],
        links: RecordingLinks,
        caller: Callable[[web.Request], str],
    ) -> None:
        """`told` is what `/v1/calls/{id}` tells of a request's call, `task_result` the `result` of an app's task (it
        raises Rejected for none); `caller` names the app that asks. `told` and `caller` raise the answers that others
        get."""
        self._told = told
        self._task_result = task_result
        self._recording_path = recording_path
        self._links = links
        self._caller = caller

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/calls/{call_id}/report", self._of_call),
            web.get("/v1/quality/{session_id:.+}/report", self._of_task),
        ]

    async def _of_call(self, request: web.Request) -> web.Response:
        call = msgspec.json.decode(msgspec.json.encode(await self._told(request)))  # a live call's lists go on growing
        call_id = request.match_info["call_id"]
        # Relative to the page, so that it holds behind whatever proxy the page came through.
        heard = await asyncio.to_thread(self._recording_path(call_id).is_file)
        audio = Audio(f"recording?{self._links.query(call_id)}") if heard else None
        return await _answer(request, lambda: of_call(call), audio)

    async def _of_task(self, request: web.Request) -> web.Response:
        """Of a task still to be done it says so. There is no audio: recordings go once they are judged."""
        app_id, session_id = self._caller(request), request.match_info["session_id"]
        try:
            result = await self._task_result(app_id, session_id)
        except Rejected as fault:
            raise refused(web.HTTPNotFound, "unknown_task", f"no task {session_id!r}") from fault
        except Unavailable as fault:
            raise refused(web.HTTPServiceUnavailable, "unavailable", str(fault)) from fault
        return await _answer(request, lambda: of_result(result), None)


async def _answer(request: web.Request, made: Callable[[], Report], audio: Audio | None) -> web.Response:
    lang = language_for(request.query.get("lang"), request.headers.get("Accept-Language", ""))
    page = await asyncio.to_thread(lambda: render(made(), lang, audio))
    headers = {
        "Content-Security-Policy": f"{policy(audio)}; frame-ancestors 'none'",
        "Content-Language": lang,
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",
        "Vary": "Accept-Language, Authorization",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=page.encode(errors="replace"), content_type="text/html", charset="utf-8", headers=headers)
