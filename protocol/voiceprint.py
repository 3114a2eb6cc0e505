"""API 1, the voiceprint service: its paths, fields, result codes, and what each request asks for.

The server and the client both read this file, so the two cannot disagree. Source: the vendor's API document; names
that only newer clients use (`spk-name`, `speaker`, `denoise_enable`, the v2 paths) are noted where they are read.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

TOP_HITS = 10
"""A recognition answers with this many of the closest voices."""
SCORE_PER_COSINE = 100.0
"""Scores are 100 x cosine, as in the API document; newer vendor documents show the bare cosine."""
SCORE_SCALE_HEADER = "X-Score-Scale"
"""Our server names the scale of its scores in this header (`percent`): small scores are ambiguous without it."""
MIN_AUDIO_MS = 200
MAX_AUDIO_S = 300
"""What lies past the first five minutes of a recording does not count."""
MAX_CLIPS = 20
"""So many recordings one voice may be enrolled from."""
RAW_PCM_RATE_HZ = 16000
"""Headerless PCM is 16-bit mono at this rate, by the API document."""
DEFAULT_LIMIT = 20
MAX_LIMIT = 10_000
MAX_NAME_CHARS = 128
MODES = ("replace", "add")
"""What an update does with the audio that a voice was enrolled from."""


class Path(StrEnum):
    """Where each operation is served."""

    REGISTER = "/voiceid/register"
    REGISTER_V2 = "/voiceid/register/v2"
    UPDATE = "/voiceid/update"
    RECOGNIZE = "/voiceid/recognize"
    RECOGNIZE_V2 = "/voiceid/recognize/v2"
    DELETE_ONE = "/voiceid/del-spk-name"
    DELETE_SPEAKERS = "/voiceid/delete-speakers"
    DELETE_ALL = "/voiceid/delete-all"
    COUNT = "/voiceid/count"
    LIST = "/voiceid/list"
    VOICE_URL = "/voiceid/voice-url"


class Code(StrEnum):
    """The result codes of the API document, as the strings that travel."""

    SUCCESS = "0"
    IN_PROGRESS = "10000"
    ILLEGAL_ACCESS = "10105"
    MISSING_PARAMETER = "10106"
    ILLEGAL_PARAMETER = "10107"
    NOT_HTTP_URL = "10109"
    NO_LICENSE = "10110"
    ENGINE_ERROR = "10700"
    UNDECODABLE_AUDIO = "10701"
    TOO_MANY_CONNECTIONS = "10800"
    COMPONENT_ERROR = "16003"

    @property
    def message(self) -> str:
        """The document's own words for the code."""
        return _MESSAGES[self]

    @property
    def cause(self) -> str:
        """What brings the code about, in one line."""
        return _CAUSES[self]

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self in RETRYABLE


RETRYABLE: frozenset[str] = frozenset(
    {Code.IN_PROGRESS, Code.ENGINE_ERROR, Code.TOO_MANY_CONNECTIONS, Code.COMPONENT_ERROR}
)
"""Also answers for codes that the document does not list."""

_MESSAGES = {
    Code.SUCCESS: "success",
    Code.IN_PROGRESS: "in progress",
    Code.ILLEGAL_ACCESS: "illegal access",
    Code.MISSING_PARAMETER: "invalid parameter",
    Code.ILLEGAL_PARAMETER: "illegal parameter",
    Code.NOT_HTTP_URL: "audio url is not valid http(s) url",
    Code.NO_LICENSE: "no license",
    Code.ENGINE_ERROR: "engine error",
    Code.UNDECODABLE_AUDIO: "Audio encode error, only support pcm, aac, mpeg2, opus and flac",
    Code.TOO_MANY_CONNECTIONS: "over max connect limit",
    Code.COMPONENT_ERROR: "basic component error",
}

_CAUSES = {
    Code.SUCCESS: "the request was carried out",
    Code.IN_PROGRESS: "the work takes longer than the server waits; repeat the request for its result",
    Code.ILLEGAL_ACCESS: "credentials are missing or wrong, or the timestamp is stale",
    Code.MISSING_PARAMETER: "a required field is missing, or the form cannot be read",
    Code.ILLEGAL_PARAMETER: "a value is out of range, a name is taken or unknown, or the audio is too poor",
    Code.NOT_HTTP_URL: "the audio was given as a link that is not http(s)",
    Code.NO_LICENSE: "the app has no licence or has used up its quota",
    Code.ENGINE_ERROR: "the speaker model could not answer",
    Code.UNDECODABLE_AUDIO: "the file holds no audio that can be decoded",
    Code.TOO_MANY_CONNECTIONS: "the app has too many requests open, or sends them too fast",
    Code.COMPONENT_ERROR: "the database or another component could not be reached",
}


class VoiceprintError(Exception):
    """A request was not carried out. `data` holds what a program may want to read beside the message; `person` is
    whose name the cause tells to whoever sent it, and no log."""

    def __init__(self, code: Code, cause: str, data: Mapping[str, Any] | None = None, *, person: str = "") -> None:
        super().__init__(cause)
        self.code = code
        self.data = data
        self._person = person

    @property
    def msg(self) -> str:
        """The document's message followed by the cause."""
        return f"{self.code.message}: {self}"

    @property
    def logged(self) -> str:
        """The cause without anybody's name."""
        return str(self).replace(repr(self._person), "(a name)") if self._person else str(self)


def sign(app_id: str, ts: str, secret: str) -> str:
    """The `signa` of a request: base64(HMAC-SHA1(secret, hex(MD5(app_id + ts)))), as the API document gives it."""
    digest = hashlib.md5((app_id + ts).encode(), usedforsecurity=False).hexdigest()
    return base64.b64encode(hmac.new(secret.encode(), digest.encode(), hashlib.sha1).digest()).decode()


def signed_headers(app_id: str, secret: str, now_s: float) -> dict[str, str]:
    """The three credential headers for a request made at `now_s` (Unix seconds)."""
    ts = str(int(now_s))
    return {"X-App-Key": app_id, "X-Timestamp": ts, "X-App-Signature": sign(app_id, ts, secret)}


# --- requests ----------------------------------------------------------------------------------------------------

Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose voices: an app's organisation, and one of its tags or (None) all of them."""

    app_id: str
    org_id: str
    tag_id: str | None


@dataclass(frozen=True, slots=True)
class NamedVoice:
    """One enrolled voice. A name is unique within its app, organisation and tag."""

    app_id: str
    org_id: str
    tag_id: str
    name: str


@dataclass(frozen=True, slots=True)
class AudioFile:
    """Audio as it was uploaded; `filename` and `content_type` may be empty."""

    data: bytes
    filename: str
    content_type: str

    @property
    def is_raw_pcm(self) -> bool:
        """Whether the sender says that this is PCM without a header. Nothing else can tell it from noise."""
        kind = self.content_type.partition(";")[0].strip().lower()
        return self.filename.lower().endswith((".pcm", ".raw")) or kind in _RAW_PCM_TYPES


_RAW_PCM_TYPES = frozenset({"audio/pcm", "audio/x-pcm", "audio/l16", "audio/x-raw", "audio/raw"})


@dataclass(frozen=True, slots=True)
class AudioUrl:
    """Audio to fetch from an http(s) address."""

    url: str
    host: str


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Register or update: give a name to the voice in the audio. `denoise` asks for cleaner audio first."""

    voice: NamedVoice
    denoise: bool
    adds: bool = False
    """Update only: the audio comes beside what the voice was enrolled from, not in its place."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """Recognise: whose of the scope's voices is in the audio."""

    scope: Scope
    denoise: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """List: the scope's voices, newest first, from `offset` on, at most `limit`."""

    scope: Scope
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Deletion:
    """Delete: these names of one tag, or (None) all of them."""

    app_id: str
    org_id: str
    tag_id: str
    names: tuple[str, ...] | None


def parse_enrolment(app_id: str, fields: Fields) -> Enrolment:
    """Raises VoiceprintError (10106, 10107), as every parser here does."""
    org_id, tag_id = _required(fields, "org_id"), _required(fields, "tag_id")
    return Enrolment(NamedVoice(app_id, org_id, tag_id, _speaker(fields)), _denoise(fields))


def parse_update(app_id: str, fields: Fields) -> Enrolment:
    """As an enrolment; our own `mode` says whether the audio replaces what there is (the default) or is added."""
    mode = fields.get("mode", "").strip().lower() or MODES[0]
    if mode not in MODES:
        raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"mode is not one of {' and '.join(MODES)}")
    return replace(parse_enrolment(app_id, fields), adds=mode == "add")


def parse_recognition(app_id: str, fields: Fields) -> Recognition:
    return Recognition(Scope(app_id, _required(fields, "org_id"), _optional(fields, "tag_id")), _denoise(fields))


def parse_deletion_of_one(app_id: str, fields: Fields) -> Deletion:
    """`org_id` is the app's own id here, by the document, so it may be left out."""
    name = _speaker(fields)
    return Deletion(app_id, _own_org(app_id, fields), _required(fields, "tag_id"), (name,))


def parse_deletion(app_id: str, fields: Fields, speakers: Sequence[str] | None) -> Deletion:
    """`speakers`: the values of the repeated `speaker` field, None when it does not occur: that deletes all.

    An empty value is refused rather than read as "all": a client's bug must not empty a database.
    """
    if speakers is not None:
        speakers = tuple(dict.fromkeys(_checked("speaker", one) for one in speakers))
        if "" in speakers:
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, "speaker is empty; leave it out to delete every voice")
    return Deletion(app_id, _own_org(app_id, fields), _required(fields, "tag_id"), speakers)


def parse_count(app_id: str, fields: Fields) -> Scope:
    """Both `org_id` (default: the app's own id) and `tag_id` (default: all) may be left out."""
    return Scope(app_id, _own_org(app_id, fields), _optional(fields, "tag_id"))


def parse_listing(app_id: str, fields: Fields) -> Listing:
    scope = Scope(app_id, _own_org(app_id, fields), _required(fields, "tag_id"))
    return Listing(
        scope,
        offset=_integer(fields, "offset", default=0, least=0, most=2**31 - 1),
        limit=_integer(fields, "limit", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT),
    )


def parse_voice_url(app_id: str, fields: Fields) -> NamedVoice:
    org_id, tag_id = _required(fields, "org_id"), _required(fields, "tag_id")
    return NamedVoice(app_id, org_id, tag_id, _speaker(fields))


def parse_audio_url(text: str) -> AudioUrl:
    """The address in an `audio` field that is no file. Raises VoiceprintError (10106 if empty, 10109)."""
    text = text.strip()
    if not text:
        raise VoiceprintError(Code.MISSING_PARAMETER, "audio is missing: send a file or an http(s) link")
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        raise VoiceprintError(Code.NOT_HTTP_URL, "audio is neither a file nor a link that can be read") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise VoiceprintError(Code.NOT_HTTP_URL, "audio is neither a file nor an http(s) link")
    return AudioUrl(text, host)


def _own_org(app_id: str, fields: Fields) -> str:
    return _optional(fields, "org_id") or app_id


def _speaker(fields: Fields) -> str:
    """The document writes `spk_name`, for voice-url `spk-name`; clients send either."""
    name = _optional(fields, "spk_name") or _optional(fields, "spk-name")
    if name is None:
        raise VoiceprintError(Code.MISSING_PARAMETER, "spk_name is missing")
    return name


def _required(fields: Fields, field: str) -> str:
    value = _optional(fields, field)
    if value is None:
        raise VoiceprintError(Code.MISSING_PARAMETER, f"{field} is missing")
    return value


def _optional(fields: Fields, field: str) -> str | None:
    return _checked(field, fields.get(field, "")) or None


def _checked(field: str, value: str) -> str:
    if len(value) > MAX_NAME_CHARS:
        raise VoiceprintError(
            Code.ILLEGAL_PARAMETER, f"{field} has {len(value)} characters, at most {MAX_NAME_CHARS} are accepted"
        )
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"{field} holds a control character or broken UTF-8")
    return value.strip()


def _integer(fields: Fields, field: str, *, default: int, least: int, most: int) -> int:
    text = fields.get(field, "").strip()
    if not text:
        return default
    # Eleven digits hold every bound; int() on more would be a way to make the server work.
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else -1
    if not least <= value <= most:
        raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"{field} is not a whole number from {least} to {most}")
    return value


def _denoise(fields: Fields) -> bool:
    """`denoise_audio`, in newer documents `denoise_enable`; clients send 0, 1, true or false."""
    for field in ("denoise_audio", "denoise_enable"):
        text = fields.get(field, "").strip().lower()
        if text in ("1", "true"):
            return True
        if text not in ("", "0", "false"):
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"{field} is not one of 0, 1, true and false")
    return False
