"""Every operation of the voiceprint API as a table: where it is, what it takes, what it answers.

The server's routes and its OpenAPI document are made from it, so what is promised is what is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from protocol.voiceprint import DEFAULT_LIMIT, MAX_CLIPS, MAX_LIMIT, MAX_NAME_CHARS, MODES, Code, Path

Kind = Literal["name", "names", "audio", "flag", "choice", "integer", "ignored"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a query or a form."""

    name: str
    kind: Kind
    meaning: str
    required: bool = False
    also: tuple[str, ...] = ()
    """Other spellings, taken in its place."""
    default: str | int | None = None
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 0


_Link = Annotated[str, Meta(description="A link that plays what the voice was enrolled from, for an hour.")]
_Kind = Annotated[Literal["voice", "sound"], Meta(description="Whether a voice or another sound was enrolled.")]


class Voice(msgspec.Struct):
    """An enrolled voice."""

    spk_name: str
    audio_path: _Link


class Hit(Voice, kw_only=True):
    """A voice that is like the one in the audio."""

    score: Annotated[float, Meta(description="100 x cosine: 100 for the very same recording, about 0 for strangers.")]
    kind: _Kind | msgspec.UnsetType = msgspec.UNSET


class TaggedHit(Hit, kw_only=True):
    """The same, for the newer generation of clients."""

    tag: Annotated[str, Meta(description="The tag that the voice is enrolled under.")]


class Count(msgspec.Struct):
    """How many voices there are."""

    count: Annotated[int, Meta(ge=0)]


class VoiceAudio(msgspec.Struct):
    """Where the audio of a voice is; of one enrolled from several recordings, `audio_paths` has a link to each."""

    audio_path: _Link
    audio_paths: list[_Link] | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Operation:
    """`data`: the type of the answer's `data`, None where it has none."""

    path: Path
    method: Literal["GET", "POST"]
    summary: str
    fields: tuple[Field, ...]
    data: Any = None
    codes: tuple[Code, ...] = ()
    """What it may answer beside what every operation may."""

    @property
    def name(self) -> str:
        """As an identifier: `registerV2`."""
        first, *rest = self.path.removeprefix("/voiceid/").replace("/", "-").split("-")
        return first + "".join(part.capitalize() for part in rest)


ALWAYS = (
    Code.SUCCESS,
    Code.ILLEGAL_ACCESS,
    Code.MISSING_PARAMETER,
    Code.ILLEGAL_PARAMETER,
    Code.TOO_MANY_CONNECTIONS,
    Code.COMPONENT_ERROR,
)
"""Codes that every operation may answer."""
HEARING = (
    Code.IN_PROGRESS,
    Code.NOT_HTTP_URL,
    Code.NO_LICENSE,
    Code.ENGINE_ERROR,
    Code.UNDECODABLE_AUDIO,
)
"""Codes of the operations that listen to audio."""

_ORG = Field("org_id", "name", "The organisation.", required=True)
_OWN_ORG = Field("org_id", "name", "The organisation; by default the app's own id.")
_TAG = Field("tag_id", "name", "The tag within the organisation.", required=True)
_ANY_TAG = Field("tag_id", "name", "The tag within the organisation; by default all of its tags.")
_NAME = Field("spk_name", "name", "The voice's name, unique within its tag.", required=True, also=("spk-name",))
_CLIPS = Field(
    "audio",
    "audio",
    f"A recording, as a file or an http(s) link. Up to {MAX_CLIPS} times, for one voice enrolled from several.",
    required=True,
    most=MAX_CLIPS,
)
_CLIP = Field("audio", "audio", "A recording, as a file or an http(s) link.", required=True, most=1)
_DENOISE = Field("denoise_audio", "flag", "Whether noise is taken out first.", also=("denoise_enable",), default="0")
_TOLERATED = (
    Field("audio_preprocess", "ignored", "Sent by some clients; has no effect."),
    Field("app_id", "ignored", "Sent by some clients; the app is the one that signs."),
)
_ENROLMENT = (_NAME, _ORG, _TAG, _CLIPS, _DENOISE, *_TOLERATED)
_RECOGNITION = (_ORG, _ANY_TAG, _CLIP, _DENOISE, *_TOLERATED)
_MODE = Field(
    "mode", "choice", "`add` puts the recordings beside those that there are.", default=MODES[0], choices=MODES
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(Path.REGISTER, "POST", "Enrol a voice under a new name", _ENROLMENT, codes=HEARING),
    Operation(Path.REGISTER_V2, "POST", "Enrol a voice under a new name", _ENROLMENT, codes=HEARING),
    Operation(Path.UPDATE, "POST", "Replace, or add to, a voice's audio", (*_ENROLMENT, _MODE), codes=HEARING),
    Operation(Path.RECOGNIZE, "POST", "The ten closest voices, best first", _RECOGNITION, list[Hit], HEARING),
    Operation(Path.RECOGNIZE_V2, "POST", "The same, with tags", _RECOGNITION, list[TaggedHit], HEARING),
    Operation(Path.DELETE_ONE, "GET", "Delete one voice", (_NAME, _OWN_ORG, _TAG)),
    Operation(
        Path.DELETE_SPEAKERS,
        "GET",
        "Delete the voices named, or all of the tag",
        (
            Field("speaker", "names", f"A name, up to {MAX_NAME_CHARS} characters; may be given again. None: all."),
            _OWN_ORG,
            _TAG,
        ),
    ),
    Operation(Path.DELETE_ALL, "GET", "Delete all voices of the tag", (_OWN_ORG, _TAG)),
    Operation(Path.COUNT, "GET", "How many voices there are", (_OWN_ORG, _ANY_TAG), Count),
    Operation(
        Path.LIST,
        "GET",
        "The voices, newest first",
        (
            _OWN_ORG,
            _TAG,
            Field("offset", "integer", "How many to pass over.", default=0, least=0, most=2**31 - 1),
            Field("limit", "integer", "At most so many.", default=DEFAULT_LIMIT, least=1, most=MAX_LIMIT),
        ),
        list[Voice],
    ),
    Operation(Path.VOICE_URL, "GET", "Where the audio of a voice is", (_ORG, _TAG, _NAME), VoiceAudio),
)
