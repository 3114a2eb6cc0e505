"""Our own routes for passages: where a voice speaks in what an app recorded, links that play it, and files.

Answers are JSON; an error is `{"code", "message"}` with a status that says whose fault it was. An app's recordings,
voices and files are as if absent to every other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiohttp import web

from gateway.ports import Decoder, Embedding
from gateway.ports.passages import PassageAudio, PassageSource
from gateway.voiceprint.clip import Clip, ClipReader
from gateway.voiceprint.form import Form, read_form
from gateway.voiceprint.listening import Stretch
from gateway.voiceprint.passage_answers import BUSY_RETRY_S, Fields, answered, moment_of, number, refused, score_of
from gateway.voiceprint.passage_index import Wanted
from gateway.voiceprint.passage_links import PASSAGE_AUDIO_PATH, PassageLinks
from gateway.voiceprint.passage_service import Heard, PassageService
from gateway.voiceprint.playback import served
from gateway.voiceprint.service import VoiceprintService
from gateway.voiceprint.wav_reading import as_wav, read_stretch
from protocol import voiceprint as wire
from protocol.voiceprint import SCORE_PER_COSINE, AudioFile, Code, NamedVoice, VoiceprintError

DEFAULT_LIMIT, MAX_LIMIT = 20, 500
MAX_FILE_BYTES = 256 * 2**20
MAX_FILE_S = 6 * 3600
FILES_AT_ONCE = 2
"""A file is held in memory while it is taken, and so is what it unpacks to; more are told to come later."""
MAX_CHANNELS = 8
MAX_LINK_MS = 30 * 60_000
"""A link plays at most so much: a passage is held in memory while it is sent."""


class PassageRoutes:
    """Add `routes()` to an aiohttp application."""

    def __init__(
        self,
        passages: PassageService,
        voices: VoiceprintService,
        reader: ClipReader,
        decoder: Decoder,
        audio: PassageAudio,
        links: PassageLinks,
        caller: Callable[[web.Request], str],
        *,
        least_score: float,
        no_space: Callable[[], str] = lambda: "",
    ) -> None:
        """`caller` names the app that asks, or raises the answer that it gets.

        `least_score` is what passages must reach when a request does not say; `no_space` why no file should be kept.
        """
        self._passages = passages
        self._voices = voices
        self._reader = reader
        self._decoder = decoder
        self._audio = audio
        self._links = links
        self._caller = caller
        self._least_score = least_score
        self._no_space = no_space
        self._taking = 0

    def routes(self) -> list[web.RouteDef]:
        file = "/v1/passages/files/{file_id}"
        return [
            web.get("/v1/voices/{name}/passages", answered(self._of_voice)),
            web.post("/v1/passages/search", answered(self._of_clip)),
            web.get(f"{PASSAGE_AUDIO_PATH}/{{source_id:[A-Za-z0-9_-]{{1,64}}}}.wav", answered(self._play)),
            web.post("/v1/passages/files", answered(self._take_file)),
            web.get("/v1/passages/files", answered(self._list_files)),
            web.get(file, answered(self._one_file)),
            web.delete(file, answered(self._delete_file)),
        ]

    # --- searching ---

    async def _of_voice(self, request: web.Request) -> web.Response:
        """`org_id` and `tag_id` say whose voice; both default to the app's id, as those of a call do."""
        app_id, query = self._caller(request), request.query
        name = NamedVoice(
            app_id, query.get("org_id") or app_id, query.get("tag_id") or app_id, request.match_info["name"]
        )
        wanted = self._wanted(query)
        try:
            row = await self._voices.find(name)
        except VoiceprintError as fault:
            if fault.code == Code.ILLEGAL_PARAMETER:
                raise refused(web.HTTPNotFound, "unknown_voice", str(fault)) from fault
            raise
        prints = self._voices.prints_of_row(row)
        if row.kind != "voice" or not prints:
            what = "is not a voice" if row.kind != "voice" else "was enrolled with another model: update it"
            raise refused(web.HTTPBadRequest, "no_voice", f"{name.name!r} {what}")
        return await self._answer(app_id, prints, wanted)

    async def _of_clip(self, request: web.Request) -> web.Response:
        app_id = self._caller(request)
        form = await read_form(request, self._reader.max_bytes)
        wanted = self._wanted(form.fields)
        clip = await self._reader.read(form.recording)
        return await self._answer(app_id, await self._voices.prints_of(clip), wanted)

    async def _answer(self, app_id: str, voice: Mapping[str, Embedding], wanted: Wanted) -> web.Response:
        heard = await self._passages.search(app_id, voice, wanted)
        return _json({"passages": [self._told(one) for one in heard]})

    def _told(self, heard: Heard) -> dict[str, Any]:
        source, passage = heard.source, heard.passage
        stretch = Stretch(passage.channel, passage.begin_ms, min(passage.end_ms, passage.begin_ms + MAX_LINK_MS))
        told: dict[str, Any] = {"call_id" if source.kind == "call" else "file_id": source.source_id}
        if source.kind == "file":
            told["file"] = source.name
        return {
            **told,
            "channel": passage.channel,
            "begin_ms": passage.begin_ms,
            "end_ms": passage.end_ms,
            "at_ms": source.recorded_at_ms + passage.begin_ms,
            "score": round(SCORE_PER_COSINE * passage.cosine, 2),
            "audio": self._links.url(source.source_id, stretch),
        }

    def _wanted(self, fields: Fields) -> Wanted:
        return Wanted(
            most=number(fields, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
            least_cosine=score_of(fields, "min_score", self._least_score) / SCORE_PER_COSINE,
            from_ms=moment_of(fields, "from"),
            to_ms=moment_of(fields, "to"),
        )

    # --- playing ---

    async def _play(self, request: web.Request) -> web.Response:
        """The audio behind a link of ours; the link itself is the permission."""
        source_id = request.match_info["source_id"]
        passage = self._links.allowed(source_id, request.query)
        if passage is None:
            raise refused(web.HTTPForbidden, "access_denied", "the link is not ours or has expired")
        source = await self._passages.linked(source_id)
        if source is None:
            raise _gone()
        wav = self._audio.path(source.kind, source_id)
        try:
            clip = await asyncio.to_thread(read_stretch, wav, passage.channel, passage.begin_ms, passage.end_ms)
        except FileNotFoundError:
            raise _gone() from None
        etag = f'"{source_id}-{passage.channel}-{passage.begin_ms}-{passage.end_ms}"'
        return served(await asyncio.to_thread(as_wav, clip), etag, request.headers, "audio/wav", "passage.wav")

    # --- files ---

    async def _take_file(self, request: web.Request) -> web.Response:
        app_id = self._caller(request)
        if full := self._no_space():
            raise refused(web.HTTPInsufficientStorage, "no_space", full)
        if self._taking >= FILES_AT_ONCE:
            busy = refused(web.HTTPServiceUnavailable, "busy", "other files are being taken: come again")
            busy.headers["Retry-After"] = str(BUSY_RETRY_S)
            raise busy
        self._taking += 1
        try:
            form = await read_form(request, MAX_FILE_BYTES)
            file = form.recording
            if not isinstance(file, AudioFile):
                raise refused(web.HTTPBadRequest, "bad_parameter", "audio must be a file here, not a link")
            clip = await self._decoded(file)
            source = await self._passages.add_file(app_id, _name_of(form, file), clip)
        finally:
            self._taking -= 1
        return _json(self._told_file(source), status=202)

    async def _decoded(self, file: AudioFile) -> Clip:
        audio = await self._decoder.decode(file.data, name=Path(file.filename).name, max_s=MAX_FILE_S)
        if not audio.duration_ms:
            raise refused(web.HTTPBadRequest, "bad_audio", "the file holds no audio")
        if audio.channels > MAX_CHANNELS:
            raise refused(web.HTTPBadRequest, "bad_audio", f"the file has more than {MAX_CHANNELS} channels")
        return await asyncio.to_thread(_without_copies, Clip(audio.pcm, audio.rate_hz, audio.channels))

    async def _list_files(self, request: web.Request) -> web.Response:
        app_id = self._caller(request)
        limit = number(request.query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        files = await self._passages.files(app_id, limit=limit, before=request.query.get("before"))
        return _json({"files": [self._told_file(one) for one in files]})

    async def _one_file(self, request: web.Request) -> web.Response:
        return _json(self._told_file(await self._file(request)))

    async def _delete_file(self, request: web.Request) -> web.Response:
        source = await self._file(request)
        await self._passages.forget(source.app_id, source.source_id)
        return web.Response(status=204)

    async def _file(self, request: web.Request) -> PassageSource:
        file_id = request.match_info["file_id"]
        source = await self._passages.file(self._caller(request), file_id)
        if source is None:
            raise refused(web.HTTPNotFound, "unknown_file", f"no file {file_id!r}")
        return source

    def _told_file(self, source: PassageSource) -> dict[str, Any]:
        told: dict[str, Any] = {
            "file_id": source.source_id,
            "file": source.name,
            "state": source.state,
            "progress": round(self._passages.progress(source), 3),
            "passages": source.passages,
            "duration_ms": source.duration_ms,
            "added_at_ms": source.recorded_at_ms,
        }
        return {**told, "reason": source.reason} if source.state == "failed" else told


def _without_copies(clip: Clip) -> Clip:
    """One channel of a recording whose channels are all the same: or each passage would be found in each."""
    samples = clip.samples
    if clip.channels == 1 or not np.array_equal(samples, np.broadcast_to(samples[:, :1], samples.shape)):
        return clip
    return Clip(np.ascontiguousarray(samples[:, 0]).tobytes(), clip.rate_hz, 1)


def _name_of(form: Form, file: AudioFile) -> str:
    """What the file is called in answers: never a path."""
    name = Path((form.fields.get("name") or file.filename).replace("\\", "/")).name
    printable = "".join(char if char.isprintable() else "_" for char in name)
    return printable[: wire.MAX_NAME_CHARS]


def _gone() -> web.HTTPException:
    return refused(web.HTTPNotFound, "deleted", "the recording was deleted")


def _json(content: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
