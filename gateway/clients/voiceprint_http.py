"""A client of the voiceprint API: the vendor's cloud or our own service, whichever is at the base URL."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import aiohttp
import msgspec
import numpy as np
import soxr

from gateway.ports import Candidate, Rejected, Unavailable
from protocol.voiceprint import (
    RETRYABLE,
    SCORE_PER_COSINE,
    SCORE_SCALE_HEADER,
    Code,
    NamedVoice,
    Path,
    signed_headers,
)

T = TypeVar("T")
ScoreScale = Literal["auto", "percent", "cosine"]
_MAX_ANSWER_BYTES = 16 * 2**20
_ABOVE_ANY_COSINE = 1.001
_RETRY_AFTER_S: Mapping[str, float] = {Code.IN_PROGRESS: 1.0, Code.TOO_MANY_CONNECTIONS: 1.0}


@dataclass(frozen=True, slots=True)
class ListedVoice:
    name: str
    audio_url: str


@dataclass(frozen=True, slots=True)
class Recording:
    """An audio file; its name tells the format (`.pcm`: 16 kHz mono s16le without a header)."""

    filename: str
    data: bytes


class VoiceprintRefused(Rejected):
    """The service refused the request; `msg` is what it says of why."""

    def __init__(self, message: str, *, code: str, msg: str) -> None:
        super().__init__(message, code=code)
        self.msg = msg


class _Count(msgspec.Struct):
    count: int


class _Answer(msgspec.Struct):
    code: str | int
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Audio(msgspec.Struct):
    audio_path: str


class _Voice(msgspec.Struct):
    spk_name: str
    audio_path: str | None = None


class _Scored(_Voice, kw_only=True):
    score: float
    kind: str = "voice"
    """A field of ours; whatever a vendor finds is a voice."""


class VoiceprintHttp:
    """Fills the role VoiceprintApi over HTTP, and enrols, deletes and lists for commands.

    Every method raises Rejected (with the API's code) or Unavailable. Nothing is retried here: a live call has a newer
    question by then, a command says what happened.
    """

    def __init__(
        self,
        base_url: str,
        session: aiohttp.ClientSession,
        *,
        credentials: Callable[[str], tuple[str, str]],
        now: Callable[[], float],
        timeout_s: float = 10.0,
        score_scale: ScoreScale = "auto",
        send_rate_hz: int | None = 16000,
    ) -> None:
        """`credentials` gives, for an app id of ours, the app id and secret at the other side; `now` is wall time, s.

        `score_scale`: `auto` believes a header of ours; without one it takes scores for cosines until it has seen one
        above 1. Name the scale for a server that is known. `send_rate_hz`: what clips are converted to, by the API
        document 16 kHz; None sends them as they are, as does the first answer of our own service.
        """
        self._base_url = base_url.rstrip("/")
        self._session = session
        self._credentials = credentials
        self._now = now
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(3.0, timeout_s))
        self._percent: bool | None = None if score_scale == "auto" else score_scale == "percent"
        self._send_rate_hz = send_rate_hz
        self._ours = False
        """Whether it is our own service that answered."""

    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        """The closest enrolled voices, best first, each name once. `pcm` is mono s16le.

        Calls ask for voices: what is found of other sounds is left out, and a clip that is one is refused (10107).
        """
        # Our own service compares a telephone line with prints of lines, and tells it by its rate.
        to_hz = rate_hz if self._ours else self._send_rate_hz or rate_hz
        wav = await asyncio.to_thread(_wav, pcm, rate_hz, to_hz)
        return await self.recognize_file(app_id, org_id, tag_id, Recording("clip.wav", wav))

    async def recognize_file(
        self, app_id: str, org_id: str, tag_id: str | None, recording: Recording, *, denoise: bool = False
    ) -> Sequence[Candidate]:
        """The same for an audio file, which is sent as it is."""
        fields = {"org_id": org_id} if tag_id is None else {"org_id": org_id, "tag_id": tag_id}
        data, headers = await self._post(Path.RECOGNIZE, app_id, fields | _denoise(denoise), [recording])
        hits = _rows(data, list[_Scored])
        factor = self._factor([hit.score for hit in hits], headers)
        if hits and all(hit.kind != "voice" for hit in hits):
            raise Rejected("no speech was found: the clip is another sound", code=Code.ILLEGAL_PARAMETER)
        best: dict[str, Candidate] = {}
        for hit in sorted((one for one in hits if one.kind == "voice"), key=lambda hit: -hit.score):
            best.setdefault(hit.spk_name, Candidate(hit.spk_name, factor * hit.score))
        return list(best.values())

    async def register(
        self, app_id: str, org_id: str, tag_id: str, name: str, audio: bytes, *, filename: str = "voice.wav"
    ) -> None:
        """Enrol the voice in an audio file. `filename` tells its format (`.pcm`: 16 kHz mono s16le, no header)."""
        await self.enrol(NamedVoice(app_id, org_id, tag_id, name), [Recording(filename, audio)])

    async def enrol(
        self,
        voice: NamedVoice,
        recordings: Sequence[Recording],
        *,
        update: Literal["", "replace", "add"] = "",
        denoise: bool = False,
    ) -> None:
        """Enrol a new voice or, with `update`, replace or add to the recordings of an enrolled one.

        Our own service takes several recordings of a voice, a vendor's one.
        """
        fields = {"org_id": voice.org_id, "tag_id": voice.tag_id, "spk_name": voice.name, **_denoise(denoise)}
        if update == "add":
            fields["mode"] = "add"
        await self._post(Path.UPDATE if update else Path.REGISTER, voice.app_id, fields, recordings)

    async def count(self, app_id: str, org_id: str, tag_id: str) -> int:
        """How many voices are enrolled."""
        return _read(await self._get(Path.COUNT, app_id, {"org_id": org_id, "tag_id": tag_id}), _Count).count

    async def delete_all(self, app_id: str, org_id: str, tag_id: str) -> None:
        """Delete every voice of the tag."""
        await self._get(Path.DELETE_ALL, app_id, {"org_id": org_id, "tag_id": tag_id})

    async def voice_url(self, voice: NamedVoice) -> str:
        """Where the audio of a voice is; an unknown name is Rejected (10107)."""
        params = {"org_id": voice.org_id, "tag_id": voice.tag_id, "spk_name": voice.name}
        return _read(await self._get(Path.VOICE_URL, voice.app_id, params), _Audio).audio_path

    async def delete(self, app_id: str, org_id: str, tag_id: str, name: str) -> None:
        """Delete one voice; an unknown name is Rejected (10107)."""
        await self._get(Path.DELETE_ONE, app_id, {"org_id": org_id, "tag_id": tag_id, "spk_name": name})

    async def voices(
        self, app_id: str, org_id: str, tag_id: str, *, offset: int = 0, limit: int = 20
    ) -> Sequence[ListedVoice]:
        """One page of the enrolled voices."""
        page = {"offset": str(offset), "limit": str(limit)}
        data = await self._get(Path.LIST, app_id, {"org_id": org_id, "tag_id": tag_id, **page})
        return [ListedVoice(one.spk_name, one.audio_path or "") for one in _rows(data, list[_Voice])]

    async def _post(
        self, path: Path, app_id: str, fields: Mapping[str, str], recordings: Sequence[Recording]
    ) -> tuple[msgspec.Raw, Mapping[str, str]]:
        form = aiohttp.FormData(quote_fields=False)
        for name, value in fields.items():
            form.add_field(name, value)
        for one in recordings:
            kind = "audio/wav" if one.filename.lower().endswith(".wav") else "application/octet-stream"
            form.add_field("audio", io.BytesIO(one.data), filename=_header_safe(one.filename), content_type=kind)
        return await self._call("POST", path, app_id, data=form)

    async def _get(self, path: Path, app_id: str, params: Mapping[str, str]) -> msgspec.Raw:
        return (await self._call("GET", path, app_id, params=params))[0]

    async def _call(self, method: str, path: Path, app_id: str, **what: Any) -> tuple[msgspec.Raw, Mapping[str, str]]:
        other_app_id, secret = self._credentials(app_id)
        headers = signed_headers(other_app_id, secret, self._now())
        url = self._base_url + path
        try:
            async with self._session.request(
                method, url, headers=headers, timeout=self._timeout, allow_redirects=False, **what
            ) as response:
                _check_status(response, path)
                return _check_code(await _body(response, path), path), response.headers
        except TimeoutError as error:
            raise Unavailable(f"the voiceprint API did not answer {path} in {self._timeout.total} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"the voiceprint API cannot be reached for {path}: {error}") from error

    def _factor(self, scores: Sequence[float], headers: Mapping[str, str]) -> float:
        self._ours = self._ours or SCORE_SCALE_HEADER in headers
        if self._percent is None and (
            headers.get(SCORE_SCALE_HEADER) == "percent" or any(score > _ABOVE_ANY_COSINE for score in scores)
        ):
            self._percent = True
        return 1.0 if self._percent else SCORE_PER_COSINE


def _check_status(response: aiohttp.ClientResponse, path: Path) -> None:
    if response.status == 200:
        return
    what = f"the voiceprint API answered {path} with HTTP {response.status}"
    if response.status >= 500 or response.status in (408, 429):
        after = response.headers.get("Retry-After", "")
        raise Unavailable(what, retry_after_s=float(after) if after.isascii() and after.isdigit() else None)
    raise Rejected(what, code=str(response.status))


async def _body(response: aiohttp.ClientResponse, path: Path) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise Rejected(f"the voiceprint API answered {path} with more than {_MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _check_code(body: bytes, path: Path) -> msgspec.Raw:
    answer = _read(body, _Answer)
    code = str(answer.code)
    if code == Code.SUCCESS:
        return answer.data
    what = f"the voiceprint API refused {path} with code {code}: {answer.msg}"
    if code in RETRYABLE:
        raise Unavailable(what, retry_after_s=_RETRY_AFTER_S.get(code))
    raise VoiceprintRefused(what, code=code, msg=answer.msg)


def _denoise(wanted: bool) -> dict[str, str]:
    return {"denoise_audio": "1"} if wanted else {}


def _read(body: bytes | msgspec.Raw, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"the voiceprint API's answer is not what its document promises: {error}") from error


def _rows(data: msgspec.Raw, shape: type[list[T]]) -> list[T]:
    """A list, empty where the answer has none."""
    return [] if bytes(data) in (b"null", b'""') else _read(data, shape)


def _wav(pcm: bytes, rate_hz: int, to_hz: int) -> bytes:
    if rate_hz != to_hz:
        resampled = soxr.resample(np.frombuffer(pcm, dtype="<i2"), rate_hz, to_hz)
        pcm = np.asarray(resampled, dtype="<i2").tobytes()
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(to_hz)
        out.writeframes(pcm)
    return file.getvalue()


def _header_safe(filename: str) -> str:
    """A name that cannot break out of its header."""
    return "".join(char for char in filename if char.isprintable() and char not in '"\\') or "audio"
