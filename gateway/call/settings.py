"""What a call is made of: its terms (the client's) and its settings (the operator's)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.call.channel import AnalysisSettings
from gateway.call.segmenter import SegmenterSettings
from gateway.call.speaker import SpeakerSettings
from gateway.call.vad import Gate, VadSettings
from protocol.audio import AudioFormat
from protocol.messages import Language, Start


@dataclass(frozen=True, slots=True)
class CallSettings:
    """The operator's side; the same for every call. `gate` makes a channel's gate for a sampling rate in Hz."""

    gate: Callable[[int], Gate]
    vad: VadSettings = field(default_factory=VadSettings)
    segmenter: SegmenterSettings = field(default_factory=SegmenterSettings)
    analysis: AnalysisSettings = field(default_factory=AnalysisSettings)
    speaker: SpeakerSettings = field(default_factory=SpeakerSettings)
    rule_scope: Literal["recording", "sentence"] = "recording"
    pinyin: bool = True
    """Match Chinese keywords on toneless pinyin too, in live text."""


@dataclass(frozen=True, slots=True)
class CallTerms:
    """The client's side, from its `start`, with every default filled in."""

    call_id: str
    audio: AudioFormat
    roles: tuple[str, ...]
    language: Language
    metadata: dict[str, Any]
    categories: tuple[str, ...]

    @classmethod
    def of(cls, call_id: str, start: Start) -> CallTerms:
        roles = tuple(start.roles) or (("agent", "customer") if start.channels == 2 else ("mixed",))
        audio = AudioFormat(start.encoding, start.rate, start.channels)
        return cls(call_id, audio, roles, start.language, start.metadata, tuple(start.categories))

    @property
    def one_party_per_channel(self) -> bool:
        return self.audio.channels > 1 or self.roles[0] != "mixed"
