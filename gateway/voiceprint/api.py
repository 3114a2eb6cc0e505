"""The voiceprint service over HTTP, at the paths and in the shapes of the API document.

Every answer of an operation is HTTP 200 with `{"code", "msg"}` and, where there is something to say, `data`; only
the audio links answer with HTTP's own statuses, since players follow them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

from gateway.credentials import AccessDenied, Credentials
from gateway.ports import UsageMeter, VoiceprintRow
from gateway.ports.requests import SharedRequests
from gateway.voiceprint.admission import Admission, RequestLimits
from gateway.voiceprint.answer import answer
from gateway.voiceprint.clip import ClipReader
from gateway.voiceprint.form import Form, actor_of, read_form
from gateway.voiceprint.links import SignedLinks
from gateway.voiceprint.playback import Playback
from gateway.voiceprint.search import Hit
from gateway.voiceprint.service import VoiceprintService
from gateway.voiceprint.slow_requests import SlowRequests
from protocol import voiceprint as wire
from protocol import voiceprint_openapi as openapi
from protocol.voiceprint import Code, Path, VoiceprintError
from protocol.voiceprint_operations import OPERATIONS

_log = structlog.get_logger()

Operation = Callable[[web.Request, str], Awaitable[object]]
"""Carries out an app's request; what it returns is the answer's `data`, None for none."""
Hearing = Callable[[str, Form], Callable[[], Awaitable[object]]]
"""Reads an app's form, which may be refused, and gives the work that is to be done."""


class VoiceprintRoutes:
    """Binds the service to its paths. Add `routes()` to an aiohttp application; `close` after use."""

    def __init__(
        self,
        service: VoiceprintService,
        reader: ClipReader,
        credentials: Credentials,
        links: SignedLinks,
        *,
        limits: RequestLimits | None = None,
        sync_wait_s: float = 0,
        usage: UsageMeter | None = None,
        now: Callable[[], float] = time.monotonic,
        shared: SharedRequests | None = None,
    ) -> None:
        """`limits` hold for each app, by `shared` over all nodes; what takes longer than `sync_wait_s` (0: any time) is
        answered 10000.

        `usage` counts the requests that heard a clip, and says when an app has had enough.
        """
        self._service = service
        self._reader = reader
        self._credentials = credentials
        self._links = links
        self._admission = Admission(limits or RequestLimits(), now, usage, shared)
        self._slow = SlowRequests(wait_s=sync_wait_s)

    async def close(self) -> None:
        """Give up the work that nobody waits for any more."""
        await self._slow.close()
        await self._admission.close()

    def routes(self) -> list[web.RouteDef]:
        """Every documented path, the newer spellings among them, the audio links, and the OpenAPI document."""
        operations: dict[Path, Operation] = {
            Path.REGISTER: self._hearing(Path.REGISTER, self._register),
            Path.REGISTER_V2: self._hearing(Path.REGISTER_V2, self._register),
            Path.UPDATE: self._hearing(Path.UPDATE, self._update),
            Path.RECOGNIZE: self._hearing(Path.RECOGNIZE, self._recognize),
            Path.RECOGNIZE_V2: self._hearing(Path.RECOGNIZE_V2, self._recognize_with_tag),
            Path.DELETE_ONE: self._delete_one,
            Path.DELETE_SPEAKERS: self._delete_speakers,
            Path.DELETE_ALL: self._delete_all,
            Path.COUNT: self._count,
            Path.LIST: self._list,
            Path.VOICE_URL: self._voice_url,
        }
        handlers = {one: self._answering(operations[one.path]) for one in OPERATIONS}
        return [
            *(web.post(one.path, handler) for one, handler in handlers.items() if one.method == "POST"),
            # No HEAD beside GET: these GETs delete.
            *(web.get(one.path, handler, allow_head=False) for one, handler in handlers.items() if one.method == "GET"),
            *Playback(self._service, self._links).routes(),
            web.get(openapi.PATH, _document),
        ]

    def _answering(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answered(request: web.Request) -> web.Response:
            try:
                app_id = self._credentials.of_request(request)
                async with self._admission.place(app_id):
                    data = await operation(request, app_id)
            except AccessDenied as denied:
                _log.info("voiceprint.denied", path=request.path, reason=str(denied))
                return answer(Code.ILLEGAL_ACCESS, Code.ILLEGAL_ACCESS.message)
            except VoiceprintError as error:
                _log.info("voiceprint.refused", path=request.path, code=error.code.value, cause=error.logged)
                return answer(error.code, error.msg, error.data)
            except Exception:
                # The document has no other way to say "our fault"; the trace is for us.
                _log.exception("voiceprint.failed", path=request.path)
                return answer(Code.COMPONENT_ERROR, Code.COMPONENT_ERROR.message)
            return answer(Code.SUCCESS, Code.SUCCESS.message, data)

        return answered

    # --- operations that hear audio: they cost, and may take longer than anybody wants to wait ---

    def _hearing(self, path: Path, operation: Hearing) -> Operation:
        async def hear(request: web.Request, app_id: str) -> object:
            form = await read_form(request, self._reader.max_bytes)
            work = operation(app_id, form)

            async def licensed() -> object:
                await self._admission.require_licence(app_id)
                data = await work()
                await self._admission.count(app_id)
                return data

            return await self._slow.result(app_id, await asyncio.to_thread(form.digest, path), licensed)

        return hear

    def _register(self, app_id: str, form: Form) -> Callable[[], Awaitable[object]]:
        enrolment, recordings = wire.parse_enrolment(app_id, form.fields), form.recordings

        async def work() -> None:
            await self._service.register(enrolment, await self._reader.read_all(recordings), actor=form.actor)

        return work

    def _update(self, app_id: str, form: Form) -> Callable[[], Awaitable[object]]:
        enrolment, recordings = wire.parse_update(app_id, form.fields), form.recordings

        async def work() -> None:
            await self._service.update(enrolment, await self._reader.read_all(recordings), actor=form.actor)

        return work

    def _recognize(self, app_id: str, form: Form) -> Callable[[], Awaitable[object]]:
        hits = self._hits(app_id, form)

        async def work() -> object:
            return [self._hit(hit) for hit in await hits()]

        return work

    def _recognize_with_tag(self, app_id: str, form: Form) -> Callable[[], Awaitable[object]]:
        hits = self._hits(app_id, form)

        async def work() -> object:
            return [{**self._hit(hit), "tag": hit.entry.tag_id} for hit in await hits()]

        return work

    def _hits(self, app_id: str, form: Form) -> Callable[[], Awaitable[list[Hit]]]:
        recognition, recording = wire.parse_recognition(app_id, form.fields), form.recording

        async def work() -> list[Hit]:
            return await self._service.recognize(recognition, await self._reader.read(recording))

        return work

    def _hit(self, hit: Hit) -> dict[str, Any]:
        return {
            "spk_name": hit.entry.name,
            "audio_path": self._links.url(hit.entry.print_id),
            "score": wire.SCORE_PER_COSINE * hit.cosine,
            "kind": hit.entry.kind,
        }

    # --- the others ---

    async def _delete_one(self, request: web.Request, app_id: str) -> None:
        await self._service.delete(wire.parse_deletion_of_one(app_id, request.query), actor=actor_of(request))

    async def _delete_speakers(self, request: web.Request, app_id: str) -> None:
        speakers = request.query.getall("speaker", None)
        await self._service.delete(wire.parse_deletion(app_id, request.query, speakers), actor=actor_of(request))

    async def _delete_all(self, request: web.Request, app_id: str) -> None:
        await self._service.delete(wire.parse_deletion(app_id, request.query, None), actor=actor_of(request))

    async def _count(self, request: web.Request, app_id: str) -> object:
        return {"count": await self._service.count(wire.parse_count(app_id, request.query))}

    async def _list(self, request: web.Request, app_id: str) -> object:
        rows = await self._service.page(wire.parse_listing(app_id, request.query))
        return [{"spk_name": row.name, "audio_path": self._links.url(row.print_id)} for row in rows]

    async def _voice_url(self, request: web.Request, app_id: str) -> object:
        row = await self._service.find(wire.parse_voice_url(app_id, request.query))
        links = [self._links.url(row.print_id, clip) for clip in range(_clips(row))]
        return {"audio_path": links[0], **({"audio_paths": links} if len(links) > 1 else {})}


def _clips(row: VoiceprintRow) -> int:
    """How many recordings the voice was enrolled from."""
    return max((len(prints.vectors) for prints in row.prints), default=1)


async def _document(_: web.Request) -> web.Response:
    return web.Response(text=openapi.text(), content_type="application/json")
