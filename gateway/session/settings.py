"""From the operator's settings to those of a call."""

from __future__ import annotations

from collections.abc import Callable

from gateway.call.channel import AnalysisSettings
from gateway.call.segmenter import SegmenterSettings
from gateway.call.settings import CallSettings
from gateway.call.speaker import SpeakerSettings
from gateway.call.vad import Gate, VadSettings
from gateway.settings import Settings


def call_settings(settings: Settings, gate: Callable[[int, int], Gate]) -> CallSettings:
    """The operator's settings as the core of a call takes them; `gate` makes a channel's (`CallSettings`)."""
    # Without a hop no partial falls due by time within a segment, only at its pauses.
    hop_ms = settings.partial_hop_ms or 1 << 40
    return CallSettings(
        gate=gate,
        vad=VadSettings(mode=settings.vad, aggressiveness=settings.vad_aggressiveness),
        segmenter=SegmenterSettings(
            open_ms=settings.segment_open_ms,
            close_ms=settings.segment_close_ms,
            lead_ms=settings.segment_lead_ms,
            split_ms=settings.segment_split_ms,
        ),
        analysis=AnalysisSettings(
            identify_after_ms=settings.identify_after_ms,
            identify_every_ms=settings.identify_every_ms,
            partial_hop_ms=hop_ms,
            transcribes=settings.live_text,
        ),
        speaker=SpeakerSettings(
            known_score=settings.known_score,
            known_score_8k=settings.known_score_8k,
            margin=settings.speaker_margin,
        ),
        rule_scope=settings.rule_scope,
        pinyin=settings.pinyin,
    )
