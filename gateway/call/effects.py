"""What a call wants done, as imperatives. `machine.Call.receive` returns them in order; the shell carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protocol.messages import Alert, AlertUpdate, Language, ServerMessage


@dataclass(frozen=True, slots=True)
class Send:
    """Record the message, then send it to the client and to whoever watches."""

    message: ServerMessage


@dataclass(frozen=True, slots=True)
class KeepInShadow:
    """Keep and count what a rule in shadow would have sent (without a number); tell neither client nor watchers."""

    message: Alert | AlertUpdate


@dataclass(frozen=True, slots=True)
class StoreAudio:
    """Append to the recording: s16le, interleaved, from instant `first_sample`."""

    first_sample: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class ConfirmSpeech:
    """Ask for speech probabilities of a channel's PCM. Answers must come in the order of `ordinal` per channel.

    `fresh`: the model's state starts anew here; else it is what the channel's previous answer left.
    """

    channel: int
    ordinal: int
    pcm: bytes
    fresh: bool


@dataclass(frozen=True, slots=True)
class Identify:
    """Ask whose voice this is. `pcm` holds the speech of one channel, pauses taken out."""

    channel: int
    ordinal: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Ask for the words of one stretch of a channel.

    `foreseen`: a partial over the stretch that the segment's final will have if nothing more is said: its answer may
    then serve as the final's. `hurried`: a final (or a foreseen one) may be slightly worse, if that makes it faster.
    """

    segment_id: str
    ordinal: int
    pcm: bytes
    language: Language
    kind: Literal["partial", "final"]
    foreseen: bool = False
    hurried: bool = False


@dataclass(frozen=True, slots=True)
class UploadRecording:
    """Seal the recording and hand it to voice QC: once in a call's life."""

    categories: tuple[str, ...]
    language: Language


@dataclass(frozen=True, slots=True)
class EndCall:
    """Nothing more will come of this call: close the socket, forget the core."""


Effect = Send | KeepInShadow | StoreAudio | ConfirmSpeech | Identify | Transcribe | UploadRecording | EndCall
