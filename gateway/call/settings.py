"""What a call is made of: its terms (the client's) and its settings (the operator's)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

import msgspec

from gateway.call.channel import AnalysisSettings
from gateway.call.segmenter import SegmenterSettings
from gateway.call.speaker import SpeakerSettings
from gateway.call.vad import Gate, VadSettings
from protocol.audio import AudioFormat
from protocol.messages import Language, Start


@dataclass(frozen=True, slots=True)
class CallSettings:
    """The operator's side; the same for every call that begins under it.

    `gate` makes a channel's gate for a sampling rate in Hz and an aggressiveness. All else is plain data, and so goes
    with the call: whoever takes the call up decides as whoever began it would have.
    """

    gate: Callable[[int, int], Gate]
    vad: VadSettings = field(default_factory=VadSettings)
    segmenter: SegmenterSettings = field(default_factory=SegmenterSettings)
    analysis: AnalysisSettings = field(default_factory=AnalysisSettings)
    speaker: SpeakerSettings = field(default_factory=SpeakerSettings)
    rule_scope: Literal["recording", "sentence"] = "recording"
    pinyin: bool = True
    """Match Chinese keywords on toneless pinyin too, in live text."""

    def as_data(self) -> dict[str, Any]:
        """Everything but the gate, as JSON can hold it."""
        return {one.name: msgspec.to_builtins(getattr(self, one.name)) for one in fields(self) if one.name != "gate"}

    @classmethod
    def from_data(cls, data: Mapping[str, Any], gate: Callable[[int, int], Gate]) -> CallSettings:
        """What `as_data` gave; what it lacks is as by default. Raises msgspec.ValidationError."""
        kinds = get_type_hints(cls)
        kinds.pop("gate")
        known = {name: msgspec.convert(value, kinds[name]) for name, value in data.items() if name in kinds}
        return cls(gate=gate, **known)


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
