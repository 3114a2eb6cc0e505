"""The form of a request: its fields and its audio, from a multipart or URL-encoded body and from the query."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from protocol import voiceprint as wire
from protocol.voiceprint import AudioFile, AudioUrl, Code, VoiceprintError

_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
_CREDENTIALS = frozenset({"appid", "ts", "signa"})


@dataclass(frozen=True, slots=True)
class Form:
    """A request as it was sent. Of a field that comes twice the first counts, the body's before the query's."""

    fields: Mapping[str, str]
    audio: tuple[AudioFile | AudioUrl, ...]
    actor: str = ""
    """Where it came from."""

    @property
    def recordings(self) -> tuple[AudioFile | AudioUrl, ...]:
        """The audio, one recording or several. Raises VoiceprintError (10106, 10107)."""
        if not self.audio:
            raise VoiceprintError(Code.MISSING_PARAMETER, "audio is missing: send a file or an http(s) link")
        if len(self.audio) > wire.MAX_CLIPS:
            cause = f"audio occurs {len(self.audio)} times, at most {wire.MAX_CLIPS} are accepted"
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause)
        return self.audio

    @property
    def recording(self) -> AudioFile | AudioUrl:
        """The only recording. Raises VoiceprintError (10106, 10107)."""
        if len(self.audio) > 1:
            cause = f"audio occurs {len(self.audio)} times, one recording can be recognised at a time"
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause)
        return self.recordings[0]

    def digest(self, path: str) -> bytes:
        """The same for requests that ask the same, whenever and by which signature. Blocks: not for a loop."""
        digest = hashlib.blake2b(digest_size=32)
        asked = [(name, text) for name, text in sorted(self.fields.items()) if name not in _CREDENTIALS]
        digest.update(repr((path, asked)).encode())
        for one in self.audio:
            if isinstance(one, AudioUrl):
                digest.update(repr(one.url).encode())
            else:
                digest.update(repr((one.filename, one.content_type, len(one.data))).encode())
                digest.update(one.data)
        return digest.digest()


async def read_form(request: web.Request, max_bytes: int) -> Form:
    """A POST's form. Raises VoiceprintError (10106 no form, 10107 too large, 10109 audio that is no link)."""
    if request.can_read_body and request.content_type not in _FORM_TYPES:
        cause = f"the body is {request.content_type}, expected a form: {' or '.join(_FORM_TYPES)}"
        raise VoiceprintError(Code.MISSING_PARAMETER, cause)
    try:
        posted = await request.clone(client_max_size=max_bytes).post()
    except web.HTTPRequestEntityTooLarge:
        cause = f"the upload is larger than {max_bytes} bytes"
        raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause) from None
    except (ValueError, LookupError, ConnectionError, web.HTTPException, web.RequestPayloadError) as error:
        # LookupError: a charset that nobody knows.
        raise VoiceprintError(Code.MISSING_PARAMETER, f"the form cannot be read: {error}") from error
    fields: dict[str, str] = {}
    audio: list[AudioFile | AudioUrl] = []
    for name, value in posted.items():
        if name == "audio":
            if one := await _audio(value):
                audio.append(one)
        elif isinstance(value, str):
            fields.setdefault(name, value)
        elif isinstance(value, bytes | bytearray):  # a text that some clients type, as in application/octet-stream
            fields.setdefault(name, _text(name, value))
    for name, value in request.query.items():
        if name != "audio":
            fields.setdefault(name, value)
        elif not audio and value.strip():
            audio.append(wire.parse_audio_url(value))
    return Form(fields, tuple(audio), actor_of(request))


def actor_of(request: web.Request) -> str:
    """Where a request came from, for the audit: the address at the other end of its connection."""
    return request.remote or ""


async def _audio(value: object) -> AudioFile | AudioUrl | None:
    if isinstance(value, web.FileField):
        # A large upload lies in an unnamed temporary file.
        data = await asyncio.to_thread(value.file.read)
        await asyncio.to_thread(value.file.close)
        return AudioFile(data, value.filename, value.content_type)
    if isinstance(value, str):
        return wire.parse_audio_url(value) if value.strip() else None
    assert isinstance(value, bytes | bytearray)
    return AudioFile(bytes(value), "", "")


def _text(name: str, value: bytes | bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"{name} is not UTF-8: {error.reason}") from error
