"""What a call makes of audio depends on the samples alone: not on the packets, and not on when the model answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call.channel import AnalysisSettings
from gateway.call.effects import ConfirmSpeech, Effect, Identify, Send, StoreAudio, Transcribe, UploadRecording
from gateway.call.events import AudioArrived, AudioStored, HungUp
from gateway.call.framer import Framer
from gateway.call.intake import Intake
from gateway.call.segmenter import SegmenterSettings
from gateway.call.settings import CallSettings
from gateway.call.vad import VadMode, VadSettings
from protocol.audio import AudioFormat
from protocol.codec import ALL_CHANNELS, RawDecoder, decode_framed, encode_framed
from protocol.messages import Segment, Speaker
from tests.unit.call.shell import Shell
from tests.unit.call.sound import RATE_HZ, LoudnessGate, confirmed, make_call, quiet, silence, stereo, voice

MODES: tuple[VadMode, ...] = ("webrtc", "webrtc+silero", "silero")
NEVER_MS = 1_000_000


@dataclass(frozen=True)
class Material:
    """A call's audio: s16le, interleaved."""

    made_of: str
    channels: int
    pcm: bytes = field(repr=False)

    @property
    def audio(self) -> AudioFormat:
        return AudioFormat("pcm_s16le", RATE_HZ, self.channels)

    @property
    def samples(self) -> int:
        return len(self.pcm) // self.audio.bytes_per_instant

    def of_channel(self, channel: int, begin: int, end: int) -> bytes:
        return np.frombuffer(self.pcm, "<i2").reshape(-1, self.channels)[begin:end, channel].tobytes()

    def between(self, begin: int, end: int) -> bytes:
        width = self.audio.bytes_per_instant
        return self.pcm[begin * width : end * width]


@st.composite
def materials(draw: st.DrawFn) -> Material:
    pieces = st.lists(st.tuples(st.sampled_from("vvqs"), st.integers(1, 1500)), min_size=1, max_size=6)
    sounds = {"v": voice, "q": quiet, "s": lambda ms, seed: silence(ms)}

    made_of = [draw(pieces) for _ in range(draw(st.integers(1, 2)))]
    sides = [
        b"".join(sounds[kind](ms, 100 * side + at) for at, (kind, ms) in enumerate(drawn))
        for side, drawn in enumerate(made_of)
    ]
    longest = max(len(side) for side in sides)
    padded = [side.ljust(longest, b"\0") for side in sides]
    return Material(str(made_of), len(sides), stereo(*padded) if len(sides) > 1 else padded[0])


def call_settings(mode: VadMode, *, partials: bool) -> CallSettings:
    """Everything happens sooner than by default, so that a few seconds hold every kind of event."""
    hop_ms, pause_ms = (700, 300) if partials else (NEVER_MS, NEVER_MS)
    return CallSettings(
        gate=LoudnessGate,
        vad=VadSettings(mode),
        segmenter=SegmenterSettings(split_ms=2000, split_search_ms=1000),
        analysis=AnalysisSettings(600, 1000, 1200, hop_ms, 1500, pause_ms),
    )


def packets_of(material: Material, cuts: random.Random, way: str) -> Iterator[bytes]:
    """The audio as `AudioArrived` would carry it, after one of the ways in."""
    if way == "whole":
        yield material.pcm
        return
    if way == "bytes":
        decoder, at = RawDecoder(material.audio), 0
        while at < len(material.pcm):
            size = cuts.choice((1, 3, 7, 333, 640, 1601, 8000))
            pcm = decoder.decode(material.pcm[at : at + size]).pcm
            at += size
            if pcm:
                yield pcm
        return
    intake = Intake(RATE_HZ, material.channels)
    for frame in framed(material, cuts, by_channel=way == "channels"):
        for event in intake.push(decode_framed(frame, material.audio)):
            assert isinstance(event, AudioArrived)
            yield event.pcm


def framed(material: Material, cuts: random.Random, *, by_channel: bool) -> Iterator[bytes]:
    """Frames in order that cover all samples, many of them twice; `by_channel`: one channel each, none far behind."""
    reached = [0] * (material.channels if by_channel else 1)
    number = 0
    while min(reached) < material.samples:
        at = reached.index(min(reached)) if max(reached) - min(reached) > RATE_HZ else cuts.randrange(len(reached))
        begin = max(0, reached[at] - cuts.choice((0, 0, 1, 160, 2000)))
        end = min(material.samples, reached[at] + cuts.choice((1, 80, 333, 4000)))
        if by_channel:
            yield encode_framed(material.of_channel(at, begin, end), number, begin, at)
        else:
            yield encode_framed(material.between(begin, end), number, begin, ALL_CHANNELS)
        reached[at] = max(reached[at], end)
        number += 1


def play(
    material: Material, packets: Iterator[bytes], mode: VadMode, late: random.Random | None = None, *, partials: bool
) -> list[Effect]:
    """Everything the call wants done; text and names are answered after hangup. `late`: whether confirmations are."""
    shell = Shell(make_call(settings=call_settings(mode, partials=partials), channels=material.channels))
    for pcm in packets:
        shell.tell(AudioArrived(pcm))
        if late is None:
            shell.confirm_all()
        for waiting in shell.confirms.values():
            while waiting and late is not None and late.random() < 0.3:
                shell.tell(confirmed(waiting.popleft()))
        while partials and any(one.kind == "partial" for one in shell.transcribes):
            shell.say("so far", kind="partial")
    shell.tell(HungUp("hangup"))
    shell.confirm_all()
    shell.tell(AudioStored(material.samples))
    shell.answer_all()
    assert shell.call.state.value == "judging"
    return shell.effects


def stored(effects: list[Effect]) -> bytes:
    return b"".join(effect.pcm for effect in effects if isinstance(effect, StoreAudio))


def apart_from_storing(effects: list[Effect]) -> list[Effect]:
    """All but what comes with a packet or with the hangup, whatever is still open then."""
    return [effect for effect in effects if not isinstance(effect, StoreAudio | UploadRecording)]


def decided(effects: list[Effect]) -> list[object]:
    """What must not depend on when partial texts are asked for and answered."""
    kept: list[object] = []
    for effect in effects:
        match effect:
            case Send(Segment() as segment):
                kept.append((segment.segment_id, segment.state, segment.begin_ms, segment.end_ms, segment.at_ms))
            case Send(Speaker() as speaker) if not speaker.candidates:
                kept.append((speaker.segment_id, speaker.state, speaker.net_speech_ms))
            case Identify() | ConfirmSpeech():
                kept.append(effect)
            case Transcribe(segment_id, _, pcm, language, "final"):
                kept.append((segment_id, pcm, language))
    return kept


WAYS = st.sampled_from(["bytes", "frames", "channels"])
SEEDS = st.integers(0, 2**32 - 1)
anything = given(materials(), st.sampled_from(MODES), WAYS, SEEDS)
often = settings(max_examples=100)


@often
@anything
def test_however_the_audio_is_cut_the_call_does_and_says_exactly_the_same(
    material: Material, mode: VadMode, way: str, seed: int
) -> None:
    whole = play(material, packets_of(material, random.Random(seed), "whole"), mode, partials=False)
    cut = play(material, packets_of(material, random.Random(seed), way), mode, partials=False)
    assert stored(cut) == stored(whole) == material.pcm
    assert apart_from_storing(cut) == apart_from_storing(whole)


@often
@anything
def test_however_late_the_model_answers_the_call_does_and_says_exactly_the_same(
    material: Material, mode: VadMode, way: str, seed: int
) -> None:
    at_once = play(material, packets_of(material, random.Random(seed), way), mode, partials=False)
    late = play(material, packets_of(material, random.Random(seed), way), mode, random.Random(seed), partials=False)
    assert stored(late) == material.pcm
    assert apart_from_storing(late) == apart_from_storing(at_once)


@often
@anything
def test_partial_texts_change_nothing_else(material: Material, mode: VadMode, way: str, seed: int) -> None:
    without = play(material, packets_of(material, random.Random(seed), "whole"), mode, partials=False)
    with_them = play(material, packets_of(material, random.Random(seed), way), mode, partials=True)
    assert decided(with_them) == decided(without)


@given(materials(), st.lists(st.integers(0, 3000), max_size=20))
def test_frames_of_20_ms_come_out_whatever_went_in(material: Material, sizes: list[int]) -> None:
    whole = Framer(RATE_HZ, material.channels).push(material.pcm)
    framer, at, cut = Framer(RATE_HZ, material.channels), 0, []
    for size in (*sizes, material.samples):
        cut += framer.push(material.between(at, at + size))
        at += size
    assert cut == whole
    assert all(len(plane) == 2 * framer.frame_samples for frame in cut for plane in frame)
    for channel in range(material.channels):
        together = b"".join(frame[channel] for frame in cut)
        assert together == material.of_channel(channel, 0, len(together) // 2)
