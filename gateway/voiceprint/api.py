"""The voiceprint service over HTTP, at the paths and in the shapes of the API document.

Every answer of an operation is HTTP 200 with `{"code", "msg"}` and, where there is something to say, `data`; only
the audio links answer with HTTP's own statuses, since players follow them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
import structlog
from aiohttp import web

from gateway.credentials import AccessDenied, Credentials
from gateway.voiceprint.clip import ClipReader
from gateway.voiceprint.links import AUDIO_PATH, SignedLinks
from gateway.voiceprint.search import Hit
from gateway.voiceprint.service import VoiceprintService
from protocol import voiceprint as wire
from protocol.voiceprint import AudioFile, AudioUrl, Code, Path, VoiceprintError

_log = structlog.get_logger()
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")

Operation = Callable[[web.Request, str], Awaitable[object]]
"""Carries out an app's request; what it returns is the answer's `data`, None for none."""


class VoiceprintRoutes:
    """Binds the service to its paths. Add `routes()` to an aiohttp application."""

    def __init__(
        self,
        service: VoiceprintService,
        reader: ClipReader,
        credentials: Credentials,
        links: SignedLinks,
        *,
        max_requests_per_app: int = 0,
    ) -> None:
        """Of each app so many requests are worked on at a time, the next are refused (10800); 0: any number."""
        self._max_requests_per_app = max_requests_per_app
        self._under_way: Counter[str] = Counter()
        self._service = service
        self._reader = reader
        self._credentials = credentials
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Every documented path, the newer spellings among them, and the audio links."""
        posts: dict[Path, Operation] = {
            Path.REGISTER: self._register,
            Path.REGISTER_V2: self._register,
            Path.UPDATE: self._update,
            Path.RECOGNIZE: self._recognize,
            Path.RECOGNIZE_V2: self._recognize_with_tag,
        }
        gets: dict[Path, Operation] = {
            Path.DELETE_ONE: self._delete_one,
            Path.DELETE_SPEAKERS: self._delete_speakers,
            Path.DELETE_ALL: self._delete_all,
            Path.COUNT: self._count,
            Path.LIST: self._list,
            Path.VOICE_URL: self._voice_url,
        }
        # No HEAD beside GET: these GETs delete.
        return [
            *(web.post(path, self._answering(operation)) for path, operation in posts.items()),
            *(web.get(path, self._answering(operation), allow_head=False) for path, operation in gets.items()),
            web.get(f"{AUDIO_PATH}/{{print_id:[0-9a-f]{{32}}}}.flac", self._play),
        ]

    def _answering(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                app_id = self._credentials.from_headers(request.headers, request.query)
                with self._place(app_id):
                    data = await operation(request, app_id)
            except AccessDenied as denied:
                _log.info("voiceprint.denied", path=request.path, reason=str(denied))
                return _answer(Code.ILLEGAL_ACCESS, Code.ILLEGAL_ACCESS.message)
            except VoiceprintError as error:
                _log.info("voiceprint.refused", path=request.path, code=error.code.value, cause=str(error))
                return _answer(error.code, error.msg, error.data)
            except Exception:
                # The document has no other way to say "our fault"; the trace is for us.
                _log.exception("voiceprint.failed", path=request.path)
                return _answer(Code.COMPONENT_ERROR, Code.COMPONENT_ERROR.message)
            return _answer(Code.SUCCESS, Code.SUCCESS.message, data)

        return answer

    @contextmanager
    def _place(self, app_id: str) -> Iterator[None]:
        """One of the app's requests at a time. Raises VoiceprintError (10800) when it has no more."""
        most = self._max_requests_per_app
        if most and self._under_way[app_id] >= most:
            cause = f"app {app_id} has {most} requests under way, as many as it may"
            raise VoiceprintError(Code.TOO_MANY_CONNECTIONS, cause)
        self._under_way[app_id] += 1
        try:
            yield
        finally:
            self._under_way[app_id] -= 1
            if not self._under_way[app_id]:
                del self._under_way[app_id]

    async def _register(self, request: web.Request, app_id: str) -> None:
        fields, audio = await self._form(request)
        enrolment = wire.parse_enrolment(app_id, fields)
        await self._service.register(enrolment, await self._reader.read(_required(audio)))

    async def _update(self, request: web.Request, app_id: str) -> None:
        fields, audio = await self._form(request)
        enrolment = wire.parse_enrolment(app_id, fields)
        await self._service.update(enrolment, await self._reader.read(_required(audio)))

    async def _recognize(self, request: web.Request, app_id: str) -> object:
        return [self._hit(hit) for hit in await self._hits(request, app_id)]

    async def _recognize_with_tag(self, request: web.Request, app_id: str) -> object:
        return [{**self._hit(hit), "tag": hit.entry.tag_id} for hit in await self._hits(request, app_id)]

    async def _hits(self, request: web.Request, app_id: str) -> list[Hit]:
        fields, audio = await self._form(request)
        recognition = wire.parse_recognition(app_id, fields)
        return await self._service.recognize(recognition, await self._reader.read(_required(audio)))

    def _hit(self, hit: Hit) -> dict[str, Any]:
        return {
            "spk_name": hit.entry.name,
            "audio_path": self._links.url(hit.entry.print_id),
            "score": wire.SCORE_PER_COSINE * hit.cosine,
        }

    async def _delete_one(self, request: web.Request, app_id: str) -> None:
        await self._service.delete(wire.parse_deletion_of_one(app_id, request.query))

    async def _delete_speakers(self, request: web.Request, app_id: str) -> None:
        speakers = request.query.getall("speaker", None)
        await self._service.delete(wire.parse_deletion(app_id, request.query, speakers))

    async def _delete_all(self, request: web.Request, app_id: str) -> None:
        await self._service.delete(wire.parse_deletion(app_id, request.query, None))

    async def _count(self, request: web.Request, app_id: str) -> object:
        return {"count": await self._service.count(wire.parse_count(app_id, request.query))}

    async def _list(self, request: web.Request, app_id: str) -> object:
        rows = await self._service.page(wire.parse_listing(app_id, request.query))
        return [{"spk_name": row.name, "audio_path": self._links.url(row.print_id)} for row in rows]

    async def _voice_url(self, request: web.Request, app_id: str) -> object:
        row = await self._service.find(wire.parse_voice_url(app_id, request.query))
        return {"audio_path": self._links.url(row.print_id)}

    async def _play(self, request: web.Request) -> web.Response:
        """The audio behind a link of ours; the link itself is the permission."""
        print_id = request.match_info["print_id"]
        if not self._links.allows(print_id, request.query.get("expires", ""), request.query.get("sig", "")):
            return _answer(Code.ILLEGAL_ACCESS, "the link is not ours or has expired", status=403)
        try:
            audio = await self._service.audio(print_id)
        except VoiceprintError as error:
            return _answer(error.code, error.msg, status=503)
        if audio is None:
            return _answer(Code.ILLEGAL_PARAMETER, "the audio was deleted or replaced", status=404)
        return web.Response(body=audio, content_type="audio/flac", headers={"Cache-Control": "private, no-store"})

    async def _form(self, request: web.Request) -> tuple[dict[str, str], AudioFile | AudioUrl | None]:
        """A POST's fields, those of the query behind those of the body, and its audio if it has any."""
        if request.can_read_body and request.content_type not in _FORM_TYPES:
            cause = f"the body is {request.content_type}, expected a form: {' or '.join(_FORM_TYPES)}"
            raise VoiceprintError(Code.MISSING_PARAMETER, cause)
        try:
            posted = await request.clone(client_max_size=self._reader.max_bytes).post()
        except web.HTTPRequestEntityTooLarge:
            cause = f"the upload is larger than {self._reader.max_bytes} bytes"
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause) from None
        except (ValueError, ConnectionError, web.HTTPException, web.RequestPayloadError) as error:
            raise VoiceprintError(Code.MISSING_PARAMETER, f"the form cannot be read: {error}") from error
        fields: dict[str, str] = {}
        for name, value in [*posted.items(), *request.query.items()]:
            if isinstance(value, str):
                fields.setdefault(name, value)
        return fields, await _audio(posted.get("audio"), fields)


async def _audio(posted: object, fields: Mapping[str, str]) -> AudioFile | AudioUrl | None:
    if isinstance(posted, web.FileField):
        # A large upload lies in an unnamed temporary file.
        data = await asyncio.to_thread(posted.file.read)
        await asyncio.to_thread(posted.file.close)
        return AudioFile(data, posted.filename, posted.content_type)
    if isinstance(posted, bytes | bytearray):
        return AudioFile(bytes(posted), "", "")
    return wire.parse_audio_url(fields["audio"]) if "audio" in fields else None


def _required(audio: AudioFile | AudioUrl | None) -> AudioFile | AudioUrl:
    if audio is None:
        raise VoiceprintError(Code.MISSING_PARAMETER, "audio is missing: send a file or an http(s) link")
    return audio


def _answer(code: Code, msg: str, data: object = None, *, status: int = 200) -> web.Response:
    body: dict[str, object] = {"code": code, "msg": msg}
    if data is not None:
        body["data"] = data
    headers = {wire.SCORE_SCALE_HEADER: "percent"}
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=headers, status=status)
