"""The HTTP side's own routes: health, metrics, and the calls of an app. The two APIs mount their own beside these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from gateway.credentials import AccessDenied, Credentials
from gateway.doors.answers import access_denied, json_answer, refused
from gateway.doors.recording_links import RecordingLinks
from gateway.ports import CallRecord, CallStore, LiveCalls, Unavailable
from gateway.session.telling import of_record
from gateway.telemetry import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_PAGE = 200
Elsewhere = Callable[[str, str], Awaitable[str]]


async def _nowhere(app_id: str, call_id: str) -> str:
    return ""


class HttpDoor:
    """Answers JSON; an error is `{"code", "message"}` with a status that says whose fault it was."""

    def __init__(
        self,
        calls: LiveCalls,
        store: CallStore,
        recording_path: Callable[[str], Path],
        credentials: Credentials,
        metrics: Metrics,
        not_ready: Callable[[], str],
        links: RecordingLinks,
        *,
        elsewhere: Elsewhere = _nowhere,
        incomplete: Callable[[], str] = lambda: "",
    ) -> None:
        """`recording_path` names a call's WAV file; `not_ready` says what is still missing, or nothing; `links` open
        recordings without credentials; `elsewhere` names the node that has a recording that is not here; `incomplete`
        says why calls may be missing from the store's latest page."""
        self._elsewhere = elsewhere
        self._incomplete = incomplete
        self._links = links
        self._calls = calls
        self._store = store
        self._recording_path = recording_path
        self._credentials = credentials
        self._metrics = metrics
        self._not_ready = not_ready

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics_page),
            web.get("/v1/calls", self._list),
            web.get("/v1/calls/{call_id}", self._one),
            web.get("/v1/calls/{call_id}/recording", self._recording),
        ]

    async def _healthz(self, _: web.Request) -> web.Response:
        return json_answer({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        missing = self._not_ready()
        return json_answer({"status": missing or "ready"}, status=503 if missing else 200)

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _list(self, request: web.Request) -> web.Response:
        """`limit` (20, at most 200) calls, latest first; `before` (a call id) pages on."""
        app_id = self.caller(request)
        limit = _number(request, "limit", default=20, least=1, most=MAX_PAGE)
        stored = await self._store.page(app_id, limit=limit, before=request.query.get("before"))
        live = await self._now(app_id, *(record.call_id for record in stored))
        told = {"calls": [_in_brief(live.get(one.call_id) or of_record(one)) for one in stored]}
        fault = self._incomplete()
        return json_answer({**told, "incomplete": fault} if fault else told)

    async def _one(self, request: web.Request) -> web.Response:
        """The whole document; with `segments=0` all but the segments, which are nearly all of it."""
        told = await self.told(request)
        if request.query.get("segments") == "0":
            told = {name: value for name, value in told.items() if name != "segments"}
        return json_answer(told)

    async def told(self, request: web.Request) -> dict[str, Any]:
        """What there is to tell of the call that a request names. Raises the answer that others get."""
        app_id, call_id = self.caller(request), request.match_info["call_id"]
        live = (await self._now(app_id, call_id)).get(call_id)
        return live if live is not None else of_record(await self._stored(app_id, call_id))

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        """The WAV file, or the part that `Range` names; a signed link (`expires`, `sig`) is as good as credentials."""
        call_id = request.match_info["call_id"]
        headers = {
            "Content-Type": "audio/wav",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        }
        if "sig" in request.query:
            if not self._links.allows(call_id, request.query.get("expires", ""), request.query["sig"]):
                raise refused(web.HTTPForbidden, "link_expired", "this link is not ours, or it has expired")
            if not (path := self._recording_path(call_id)).exists():
                raise refused(web.HTTPNotFound, "no_recording", "the recording is not kept any more")
            return web.FileResponse(path, headers=headers)
        app_id = self.caller(request)
        over = call_id not in await self._now(app_id, call_id)
        over = over and (await self._stored(app_id, call_id)).state in ("judged", "failed")
        path = self._recording_path(call_id)
        if not path.exists() and over:
            raise await self.no_recording(request)
        if not path.exists():
            raise refused(web.HTTPConflict, "not_sealed", "the recording is sealed when the call has hung up")
        return web.FileResponse(path, headers=headers)

    async def no_recording(self, request: web.Request) -> web.HTTPException:
        """What to answer of a call that is over and has no recording here."""
        node = await self._elsewhere(self.caller(request), request.match_info["call_id"])
        if not node:
            return refused(web.HTTPNotFound, "no_recording", "the recording is not kept any more, or there was none")
        remedy = "ask there, or give all nodes the same recordings_folder"
        return refused(web.HTTPConflict, "recording_elsewhere", f"node {node} has the recording: {remedy}", node=node)

    async def _now(self, app_id: str, *call_ids: str) -> Mapping[str, dict[str, Any]]:
        try:
            return await self._calls.now(app_id, call_ids)
        except Unavailable as fault:
            raise refused(web.HTTPServiceUnavailable, "unavailable", str(fault)) from fault

    async def _stored(self, app_id: str, call_id: str) -> CallRecord:
        # Whoever has just read `ended` finds the whole call here, not what was stored at its hangup.
        try:
            await self._calls.filed(call_id)
            record = await self._store.get(app_id, call_id)
        except Unavailable as fault:
            raise refused(web.HTTPServiceUnavailable, "unavailable", str(fault)) from fault
        if record is None:
            raise refused(web.HTTPNotFound, "unknown_call", f"no call {call_id!r}")
        return record

    def caller(self, request: web.Request) -> str:
        """The app whose credentials a request bears. Raises the answer that others get."""
        try:
            return self._credentials.of_request(request)
        except AccessDenied:
            self._metrics.refused.labels("access_denied").inc()
            raise access_denied(request) from None


def _in_brief(whole: dict[str, Any]) -> dict[str, Any]:
    alerts = whole.pop("alerts")
    for bulky in ("segments", "gaps", "notes", "warnings", "qc"):
        whole.pop(bulky, None)
    return {**whole, "alerts": len([alert for alert in alerts if alert["status"] != "retracted"])}


def _number(request: web.Request, name: str, *, default: int, least: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise refused(web.HTTPBadRequest, "bad_parameter", f"{name} must be a whole number from {least} to {most}")
    return int(text)
