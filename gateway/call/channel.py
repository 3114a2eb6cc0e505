"""One channel's way from frames to utterances, and when its speech is worth an engine's time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gateway.call.cadence import cadence
from gateway.call.framer import FRAME_MS
from gateway.call.history import History
from gateway.call.segmenter import Closed, Opened, Segmenter, SegmenterSettings, Spoke
from gateway.call.vad import BLOCK_MS, BlockAsked, ChannelVad, Gate, VadSettings


@dataclass(frozen=True, slots=True)
class AnalysisSettings:
    """When a segment's speech is identified and transcribed; all ms of net speech or of the media clock."""

    identify_after_ms: int = 3000
    identify_every_ms: int = 5000
    identify_window_ms: int = 6000
    """At most so much of the latest speech is compared."""
    partial_hop_ms: int = 700
    partial_window_ms: int = 8000
    pause_ms: int = 300
    """A silence this long in an open segment brings a partial at once ..."""
    foreseen_ms: int = 12_000
    """... and, in a segment no longer than this, one good enough to be the final text if nothing more is said."""
    short_window_ms: int = 6000
    """The window under load; then, too, a partial leaves out what was agreed on and ended `short_tail_ms` ago."""
    short_tail_ms: int = 4000
    identify_short_ms: int = 1500
    """Where anybody may speak, a segment with less than `identify_after_ms` of speech, but this, is identified at its
    close."""
    transcribes: bool = True
    """Whether texts are wanted at all."""


FORGET_EVERY = 50
"""Frames between two looks for audio that nobody will ask for again."""


@dataclass(slots=True)
class Utterance:
    """A segment of one channel. `end_ms` moves while it is open."""

    segment_id: str
    channel: int
    begin_ms: int
    end_ms: int
    net_speech_ms: int = 0
    identified_ms: int = 0
    """Pooled net speech at the latest identification; 0: none yet."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The model should look at a block of the channel."""

    ordinal: int
    pcm: bytes
    fresh: bool


@dataclass(frozen=True, slots=True)
class Began:
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Ceased:
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class VoiceGathered:
    """Enough speech to ask whose it is; its last sample lies just before `end_ms` of the media clock."""

    utterance: Utterance
    pcm: bytes
    net_speech_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class TextWanted:
    """A stretch to transcribe; `settled_ms`: keywords that ended by then may count in a partial.

    `foreseen`: a partial of the very stretch that the final will have if nothing more is said. `hurried`: what will be
    the final text need not be as good as it could.
    """

    utterance: Utterance
    kind: Literal["partial", "final"]
    pcm: bytes
    begin_ms: int
    settled_ms: int
    foreseen: bool = False
    hurried: bool = False


@dataclass(frozen=True, slots=True)
class Ticked:
    """Another second of the media clock was looked at; no utterance that is yet to open begins before `unheard_ms`."""

    unheard_ms: int


Happening = Asked | Began | Ceased | VoiceGathered | TextWanted | Ticked


class Channel:
    """Frames in, happenings out, in order of the media clock."""

    def __init__(
        self,
        index: int,
        rate_hz: int,
        gate: Gate,
        vad: VadSettings,
        segmenter: SegmenterSettings,
        analysis: AnalysisSettings,
        next_segment_id: Callable[[], str],
        *,
        one_party: bool,
    ) -> None:
        self.index = index
        self._frame_bytes = 2 * (rate_hz * FRAME_MS // 1000)
        self._samples_per_ms = rate_hz // 1000
        self._one_party = one_party
        self._analysis = analysis
        self._cadence = cadence(analysis, 0, judged=True)
        self._history = History()
        self._pushed = 0
        """Frames."""
        self._vad = ChannelVad(vad, gate)
        self._gate = gate if vad.mode == "webrtc" else None
        """What decides on each frame at once, if nothing else does."""
        self._segmenter = Segmenter(segmenter, self._loudness)
        self._keep_ms = segmenter.lead_ms + segmenter.open_ms * 2 + vad.confirm_delay_ms + 4 * BLOCK_MS
        self._next_segment_id = next_segment_id
        self._open: Utterance | None = None
        self._voice = bytearray()
        self._most_voice_bytes = 2 * self._samples_per_ms * analysis.identify_window_ms
        self._voice_ms = 0
        self._partial_at_ms = 0
        self._partial_pending = False
        self._spoke_since_partial = False
        self._foreseen_end_ms = 0
        self._agreed_ends_ms: tuple[int, ...] = ()

    # --- what comes in ---

    def blocked(self) -> bool:
        """Whether the next frame must wait for an answer of the model."""
        return self._vad.blocked()

    @property
    def waiting(self) -> bool:
        return self._vad.waiting

    def answer(self, ordinal: int, probabilities: tuple[float, ...] | None) -> None:
        self._vad.answer(ordinal, probabilities)

    @property
    def unheard_ms(self) -> int:
        """No text is yet to be asked for that begins before."""
        now_ms = self._pushed * FRAME_MS
        return max(0, now_ms - self._keep_ms) if self._open is None else self._open.begin_ms

    def judge(self, pcm: bytes) -> list[bool]:
        """Take whole frames for `push_run`, and tell of each whether it is speech; the gate alone decides."""
        assert self._gate is not None, "in runs only where no model is asked"
        self._history.append(pcm)
        return self._gate.speech_in(pcm, self._frame_bytes)

    def push_run(self, pcm: bytes, speech: Sequence[bool], begin: int, end: int) -> tuple[int, list[Happening]]:
        """As `push` with frames [begin, end) of what was judged, up to the first that brings something.

        Returns how many those are, and what the last of them brought.
        """
        at = begin
        while at < end:
            judged, same = speech[at], at + 1
            if not self._analysis.transcribes:  # else each frame may be one to ask for a text at
                while same < end and speech[same] == judged:
                    same += 1
            taken, happenings = self._pass_over(pcm, judged, at, same)
            if not taken:
                taken = 1
                self._pushed += 1
                happenings = self._decide(judged)
            at += taken
            if self._open is not None and self._analysis.transcribes:
                happenings = [*happenings, *self._want_partial(self._open)]
            if self._pushed % FORGET_EVERY == 0:
                self._forget()
            if happenings:
                break
        return at - begin, happenings

    def _pass_over(self, pcm: bytes, judged: bool, at: int, end: int) -> tuple[int, list[Happening]]:
        """Take frames on which the same was decided together, as far as little comes of it: how many, and what."""
        frames = min(end - at, FORGET_EVERY - self._pushed % FORGET_EVERY)
        if judged and self._open is not None:
            # Up to the frame with which there is enough of the voice.
            frames = min(frames, max(1, -((self._voice_ms - self._voice_due_ms(self._open)) // FRAME_MS)))
        taken = self._segmenter.pass_over(judged, frames)
        self._pushed += taken
        if not (judged and taken):
            return taken, []
        voice = pcm[at * self._frame_bytes : (at + taken) * self._frame_bytes]
        return taken, self._add_voice(voice, taken, self._segmenter.frames)

    def push(self, frame: bytes) -> list[Happening]:
        """Take the next 20 ms (never while `blocked`)."""
        self._history.append(frame)
        self._pushed += 1
        if self._gate is not None:
            happenings = self._decide(self._gate.is_speech(frame))
        else:
            happenings = []
            asked = self._vad.push(frame)
            if asked is not None:
                happenings.append(self._ask(asked))
            for speech in self._vad.decisions():
                happenings += self._decide(speech)
        if self._open is not None and self._analysis.transcribes:
            happenings += self._want_partial(self._open)
        if self._pushed % FORGET_EVERY == 0:
            self._forget()
        return happenings

    def flush(self) -> list[Happening]:
        """The audio is over and nothing is `waiting`: close what is open."""
        happenings: list[Happening] = []
        for speech in self._vad.flush():
            happenings += self._decide(speech)
        for boundary in self._segmenter.flush():
            assert isinstance(boundary, Closed)
            happenings += self._close(boundary)
        return happenings

    def partial_answered(self, segment_id: str, agreed_ends_ms: tuple[int, ...] = ()) -> None:
        """The partial asked for is back, or will never be: the segment, if still open, may ask for its next.

        `agreed_ends_ms`: where, on the media clock, each word ended that two hypotheses agree on; in order.
        """
        if self._open is not None and self._open.segment_id == segment_id:
            self._partial_pending = False
            self._agreed_ends_ms = agreed_ends_ms

    def pace(self, level: int, *, judged: bool) -> None:
        """Ask for texts as `cadence` says for this load level, from the next on; `judged`: rules look at them."""
        self._cadence = cadence(self._analysis, level, judged=judged)

    def stop_waiting(self) -> None:
        """No answer will come any more: what is still asked is left to the gate."""
        self._vad.stop_waiting()

    # --- what it means ---

    def _ask(self, block: BlockAsked) -> Asked:
        begin_ms = max(0, block.begin_ms - BLOCK_MS) if block.fresh else block.begin_ms
        return Asked(block.ordinal, self._pcm(begin_ms, block.end_ms), block.fresh)

    def _decide(self, speech: bool) -> list[Happening]:
        happenings: list[Happening] = []
        for boundary in self._segmenter.step(speech):
            if type(boundary) is Spoke:  # what nearly all of them are
                index = boundary.index
                happenings += self._add_voice(self._pcm(index * FRAME_MS, (index + 1) * FRAME_MS), 1, index + 1)
            elif type(boundary) is Closed:
                happenings += self._close(boundary)
            else:
                assert isinstance(boundary, Opened)
                happenings.append(self._begin(boundary.begin))
        return happenings

    def _begin(self, begin: int) -> Began:
        self._open = Utterance(self._next_segment_id(), self.index, begin * FRAME_MS, begin * FRAME_MS)
        if not self._one_party or self._voice_ms >= self._analysis.identify_after_ms:
            self._voice.clear()
            self._voice_ms = 0
        self._partial_at_ms = begin * FRAME_MS
        self._partial_pending = self._spoke_since_partial = False
        self._foreseen_end_ms = 0
        self._agreed_ends_ms = ()
        return Began(self._open)

    def _add_voice(self, pcm: bytes, frames: int, end: int) -> list[Happening]:
        """Take so many frames of speech, of the open utterance and before frame `end`."""
        utterance = self._open
        assert utterance is not None
        self._voice += pcm
        if len(self._voice) > 2 * self._most_voice_bytes:
            del self._voice[: -self._most_voice_bytes]
        self._voice_ms += frames * FRAME_MS
        self._spoke_since_partial = True
        utterance.net_speech_ms += frames * FRAME_MS
        utterance.end_ms = end * FRAME_MS
        return [self._gather(utterance)] if self._voice_ms >= self._voice_due_ms(utterance) else []

    def _voice_due_ms(self, utterance: Utterance) -> int:
        """With how much speech it is time to ask whose it is."""
        if utterance.identified_ms:
            return utterance.identified_ms + self._analysis.identify_every_ms
        return self._analysis.identify_after_ms

    def _gather(self, utterance: Utterance) -> VoiceGathered:
        utterance.identified_ms = self._voice_ms
        return VoiceGathered(utterance, bytes(self._voice[-self._most_voice_bytes :]), self._voice_ms, utterance.end_ms)

    def _close(self, closed: Closed) -> list[Happening]:
        utterance, self._open = self._open, None
        assert utterance is not None
        utterance.end_ms = closed.end * FRAME_MS
        happenings: list[Happening] = [Ceased(utterance)]
        grown_ms = self._voice_ms - utterance.identified_ms
        short = not (utterance.identified_ms or self._one_party)
        if (utterance.identified_ms and grown_ms >= self._analysis.identify_after_ms // 3) or (
            short and utterance.net_speech_ms >= self._analysis.identify_short_ms
        ):
            happenings.append(self._gather(utterance))
        if not self._analysis.transcribes:
            return happenings
        pcm = self._pcm(utterance.begin_ms, utterance.end_ms)
        hurried = self._cadence.hurried
        happenings.append(TextWanted(utterance, "final", pcm, utterance.begin_ms, utterance.end_ms, hurried=hurried))
        return happenings

    def _want_partial(self, utterance: Utterance) -> list[Happening]:
        settings, pace = self._analysis, self._cadence
        now_ms = self._pushed * FRAME_MS
        pausing = pace.at_pauses and self._segmenter.silence_frames * FRAME_MS >= settings.pause_ms
        end_ms = self._segmenter.end_if_silent * FRAME_MS
        if pausing and end_ms <= min(now_ms, utterance.begin_ms + settings.foreseen_ms):
            return self._foresee(utterance, end_ms, now_ms)
        if self._partial_pending or not self._spoke_since_partial:
            return []
        if not pausing and (pace.hop_ms is None or now_ms - self._partial_at_ms < pace.hop_ms):
            return []
        self._partial_at_ms, self._partial_pending, self._spoke_since_partial = now_ms, True, False
        begin_ms = self._window_begin_ms(utterance, now_ms)
        settled_ms = now_ms if pausing else now_ms - 100
        return [TextWanted(utterance, "partial", self._pcm(begin_ms, now_ms), begin_ms, settled_ms)]

    def _window_begin_ms(self, utterance: Utterance, now_ms: int) -> int:
        begin_ms = max(utterance.begin_ms, now_ms - self._cadence.window_ms)
        if self._cadence.tail_ms is None:
            return begin_ms
        agreed_ms = max((end for end in self._agreed_ends_ms if end <= now_ms - self._cadence.tail_ms), default=0)
        return max(begin_ms, agreed_ms)

    def _foresee(self, utterance: Utterance, end_ms: int, now_ms: int) -> list[Happening]:
        """Once in a pause: the text of all that was said, whatever else is being transcribed."""
        if self._foreseen_end_ms == end_ms:
            return []
        self._foreseen_end_ms = end_ms
        self._partial_at_ms, self._partial_pending, self._spoke_since_partial = now_ms, True, False
        pcm = self._pcm(utterance.begin_ms, end_ms)
        hurried = self._cadence.hurried
        return [TextWanted(utterance, "partial", pcm, utterance.begin_ms, now_ms, foreseen=True, hurried=hurried)]

    # --- the past ---

    def _pcm(self, begin_ms: int, end_ms: int) -> bytes:
        return self._history.between(begin_ms * self._samples_per_ms, end_ms * self._samples_per_ms)

    def _loudness(self, frame: int) -> float:
        samples = np.frombuffer(self._pcm(frame * FRAME_MS, (frame + 1) * FRAME_MS), dtype="<i2")
        return float(np.mean(np.square(samples, dtype=np.float32)))

    def _forget(self) -> None:
        now_ms = self._pushed * FRAME_MS
        needed_ms = now_ms - self._keep_ms
        if self._open is not None:
            needed_ms = min(needed_ms, self._open.begin_ms)
        self._history.forget(max(0, needed_ms) * self._samples_per_ms)
