"""All channels of a call, frame by frame in step: what happens depends on the samples, never on the packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.call.channel import Channel, Happening, Ticked
from gateway.call.framer import FRAME_MS, Framer
from gateway.call.settings import CallSettings, CallTerms

TICK_MS = 1000


@dataclass(frozen=True, slots=True)
class Happened:
    """Something on one channel, at the end of the frame that brought it."""

    at_ms: int
    channel: int
    what: Happening


class Analysis:
    """Feeds the channels; frames wait here while an answer that is due is not in yet."""

    def __init__(
        self, settings: CallSettings, terms: CallTerms, follow: Callable[[Happened], None], id_prefix: str = ""
    ) -> None:
        """`follow` hears of everything when it happens: before the next frame is looked at."""
        self._follow = follow
        self._id_prefix = id_prefix
        audio = terms.audio
        self._framer = Framer(audio.rate_hz, audio.channels)
        self._frames: deque[tuple[bytes, ...]] = deque()
        self._never_waits = settings.vad.mode == "webrtc"
        self._segments = 0
        self._now_ms = 0
        self._flushed = False
        self._channels = [
            Channel(
                index,
                audio.rate_hz,
                settings.gate(audio.rate_hz, settings.vad.aggressiveness),
                settings.vad,
                settings.segmenter,
                settings.analysis,
                self.next_segment_id,
                one_party=terms.one_party_per_channel,
            )
            for index in range(audio.channels)
        ]

    def next_segment_id(self) -> str:
        """Segments are numbered over all channels, in the order they open."""
        self._segments += 1
        return f"{self._id_prefix}s{self._segments}"

    @property
    def backlog_samples(self) -> int:
        """Audio that waits for an answer, per channel."""
        return len(self._frames) * self._framer.frame_samples

    def push(self, pcm: bytes) -> None:
        """Take interleaved PCM."""
        if not self._never_waits:
            self._frames += self._framer.push(pcm)
            self._advance()
        elif len(self._channels) > 1:
            for frame in self._framer.push(pcm):
                self._take(frame)
        else:
            self._take_run(self._framer.whole(pcm))

    def answer(self, channel: int, ordinal: int, probabilities: tuple[float, ...] | None) -> None:
        """Take the model's answer to a block; frames that waited for it go on."""
        if not self._flushed:
            self._channels[channel].answer(ordinal, probabilities)
            self._advance()

    def partial_answered(self, channel: int, segment_id: str, agreed_ends_ms: tuple[int, ...]) -> None:
        self._channels[channel].partial_answered(segment_id, agreed_ends_ms)

    def pace(self, level: int, *, judged: bool) -> None:
        """Ask for texts as a load level allows (see `cadence`), on every channel."""
        for channel in self._channels:
            channel.pace(level, judged=judged)

    def stop_waiting(self) -> None:
        """No answer will come any more: what is still asked is left to the gate."""
        while self._waiting:
            for channel in self._channels:
                channel.stop_waiting()
            self._advance()

    def finish(self) -> None:
        """Close what is open, if no answer is awaited any more; `finished` tells."""
        if self._flushed or self._waiting:
            return
        self._flushed = True
        for index, channel in enumerate(self._channels):
            for what in channel.flush():
                self._follow(Happened(self._now_ms, index, what))

    @property
    def finished(self) -> bool:
        return self._flushed

    @property
    def _waiting(self) -> bool:
        return bool(self._frames) or any(channel.waiting for channel in self._channels)

    def _advance(self) -> None:
        while self._frames and not any(channel.blocked() for channel in self._channels):
            self._take(self._frames.popleft())

    def _take_run(self, pcm: bytes) -> None:
        """As `_take` one by one with whole frames of a single channel that waits for no answers."""
        channel, at = self._channels[0], 0
        speech = channel.judge(pcm)
        while at < len(speech):
            # Up to the next tick: what happens then comes behind its frame.
            end = min(len(speech), at + (TICK_MS - self._now_ms % TICK_MS) // FRAME_MS)
            while at < end:
                taken, happenings = channel.push_run(pcm, speech, at, end)
                at += taken
                self._now_ms += taken * FRAME_MS
                for what in happenings:
                    self._follow(Happened(self._now_ms, 0, what))
            if self._now_ms % TICK_MS == 0:
                self._follow(Happened(self._now_ms, 0, Ticked(channel.unheard_ms)))

    def _take(self, frame: tuple[bytes, ...]) -> None:
        now_ms = self._now_ms = self._now_ms + FRAME_MS
        for channel, pcm in zip(self._channels, frame, strict=True):
            for what in channel.push(pcm):
                self._follow(Happened(now_ms, channel.index, what))
        if now_ms % TICK_MS == 0:
            self._follow(Happened(now_ms, 0, Ticked(min(channel.unheard_ms for channel in self._channels))))
