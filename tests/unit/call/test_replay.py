"""A call is a fold over its events: cut anywhere, rebuilt and carried on, it says what it would have said uncut."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call.channel import AnalysisSettings
from gateway.call.effects import ConfirmSpeech, Effect, Identify, Send, StoreAudio, Transcribe, UploadRecording
from gateway.call.events import (
    AudioArrived,
    AudioLost,
    AudioStored,
    ClientSpoke,
    Continued,
    Event,
    HeardWord,
    Hit,
    HungUp,
    Identified,
    Noted,
    NumbersSkipped,
    Paused,
    QcJudged,
    QcProgressed,
    SettlingExpired,
    Transcribed,
    Updated,
    Warned,
)
from gateway.call.machine import Call
from gateway.call.replay import CallHistory, Diverged, KeptEvent, Replayed, encode_event, replay
from gateway.call.segmenter import SegmenterSettings
from gateway.call.settings import CallSettings
from gateway.call.states import IllegalEvent, State
from gateway.call.vad import VadSettings
from protocol.codec import encode
from protocol.messages import Ack, ServerMessage
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import ACCEPTED
from tests.unit.call.sound import LoudnessGate, confirmed, make_call, quiet, silence, stereo, voice

RULES = RuleSet.from_categories(
    {"Money": ["refund", "refund&&!later"], "Manner": ["manager", "!goodbye"]}, 3, pinyin=True
)
SENTENCES = ("I want a refund", "later then", "your manager please", "goodbye", "")
SETTINGS = CallSettings(
    gate=LoudnessGate,
    vad=VadSettings("webrtc+silero"),
    segmenter=SegmenterSettings(split_ms=2000, split_search_ms=1000),
    analysis=AnalysisSettings(600, 1000, 1200, 700, 1500, 300),
)


@dataclass
class Journalled:
    """A call whose shell keeps what a journal would: a test cuts it off anywhere."""

    call: Call
    chance: random.Random
    events: list[tuple[int, bytes]] = field(default_factory=list)
    said: list[tuple[int, bytes]] = field(default_factory=list)
    pcm: bytearray = field(default_factory=bytearray)
    confirms: list[ConfirmSpeech] = field(default_factory=list)
    identifies: list[Identify] = field(default_factory=list)
    transcribes: list[Transcribe] = field(default_factory=list)
    uploads: int = 0

    def tell(self, event: Event) -> bool:
        """Let an event happen, if the call's state allows it."""
        at_sample = self.call.samples
        try:
            effects = self.call.receive(event)
        except IllegalEvent:
            return False
        if not isinstance(event, AudioArrived):
            self.events.append((len(self.events) + 1, encode_event(KeptEvent(at_sample, 0, event))))
        self.take(effects)
        return True

    def take(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    self.said.append((message.seq, encode(message)))
                case StoreAudio(_, pcm):
                    self.pcm += pcm
                case ConfirmSpeech():
                    self.confirms.append(effect)
                case Identify():
                    self.identifies.append(effect)
                case Transcribe():
                    self.transcribes.append(effect)
                case UploadRecording():
                    self.uploads += 1
                case _:
                    pass

    def step(self, pcm: bytes) -> None:
        """One thing happens, whichever chance picks: audio, or somebody says something."""
        chance = self.chance
        kind = chance.choice("aaaaaaaccccttttiisskupQnwl")
        if kind == "a":
            self.tell(AudioArrived(pcm))
        elif kind == "c" and self.confirms:
            # A channel's answers come in order, and the channels' in any.
            channel = chance.choice(self.confirms).channel
            asked = next(one for one in self.confirms if one.channel == channel)
            self.confirms.remove(asked)
            self.tell(confirmed(asked))
        elif kind == "t" and self.transcribes:
            self.tell(self._heard(self.transcribes.pop(chance.randrange(len(self.transcribes)))))
        elif kind == "i" and self.identifies:
            wanted = self.identifies.pop(chance.randrange(len(self.identifies)))
            hits = (Hit("Anna", chance.uniform(40, 90)), Hit("Ben", chance.uniform(10, 60)))
            self.tell(Identified(wanted.channel, wanted.ordinal, hits))
        elif kind == "s":
            self.tell(AudioStored(self.call.samples))
        else:
            self.tell(self._interjection(kind))

    def _heard(self, wanted: Transcribe) -> Transcribed:
        text = self.chance.choice(SENTENCES)
        words = tuple(HeardWord(f" {word}", 100 * at, 100 * at + 90) for at, word in enumerate(text.split()))
        return Transcribed(wanted.segment_id, wanted.ordinal, text, "en", words, superseded=self.chance.random() < 0.1)

    def _interjection(self, kind: str) -> Event:
        chance, now = self.chance, self.call.samples
        match kind:
            case "u":
                categories = chance.choice((None, (), ("Money",)))
                return Updated(chance.choice((None, "zh")), None, {"k": chance.random()}, categories)
            case "p":
                return Continued() if self.call.state is State.PAUSED else Paused()
            case "k":
                return ClientSpoke(0, chance.choice(SENTENCES), 0, 10)
            case "n":
                return Noted("mark", "here")
            case "l":
                return AudioLost(0, now, now + 160, "network")
            case _:
                return Warned("analysis_lagging", "late", 2000)

    def finish(self) -> None:
        """Hang up, answer everything, and let voice QC judge."""
        self.tell(HungUp("hangup"))
        while self.confirms or self.transcribes or self.identifies:
            while self.confirms:
                self.tell(confirmed(self.confirms.pop(0)))
            for wanted in self.transcribes[:]:
                self.transcribes.remove(wanted)
                self.tell(self._heard(wanted))
            for one in self.identifies[:]:
                self.identifies.remove(one)
                self.tell(Identified(one.channel, one.ordinal, ()))
        self.tell(AudioStored(self.call.samples))
        self.tell(SettlingExpired())
        self.tell(QcProgressed("c1", 1, "running"))
        hits = [{"category": "Money", "detail": [{"content": "refund", "keyword": ["refund"]}]}]
        self.tell(QcJudged("c1", {"detection_result": hits}))

    def history(self, pieces: random.Random | None = None) -> CallHistory:
        messages = [(seq, payload) for seq, payload in self.said if b'"type":"ack"' not in payload]
        width = 2 * self.call.terms.audio.channels
        return CallHistory(self.events, messages, len(self.pcm) // width, cut_up(bytes(self.pcm), pieces, width))


def cut_up(pcm: bytes, chance: random.Random | None, width: int) -> Iterator[bytes]:
    while pcm:
        size = width * (chance.choice((1, 77, 160, 1601, 9000)) if chance else len(pcm))
        yield pcm[:size]
        pcm = pcm[size:]


def rebuilt(history: CallHistory, channels: int = 1) -> tuple[Replayed, list[ServerMessage]]:
    messages: list[ServerMessage] = []
    call = make_call(RULES, SETTINGS, channels=channels)
    past = replay(call, history, lambda message, _: messages.append(msgspec.structs.replace(message)), lambda *_: None)
    return past, messages


def some_audio(seed: int, channels: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    while True:
        sound = chance.choice((voice, voice, quiet))
        ms = chance.choice((20, 60, 100, 700, 1500))
        one = sound(ms, chance.randrange(99)) + (silence(800) if chance.random() < 0.3 else b"")
        yield stereo(one, bytes(len(one)) if chance.random() < 0.5 else one) if channels == 2 else one


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 30), steps=st.integers(1, 60), rest=st.integers(0, 30), channels=st.integers(1, 2))
def test_a_call_cut_anywhere_and_rebuilt_goes_on_as_if_nothing_had_happened(
    seed: int, steps: int, rest: int, channels: int
) -> None:
    whole = Journalled(make_call(RULES, SETTINGS, channels=channels), random.Random(seed))
    whole.tell(ACCEPTED)
    audio = some_audio(seed, channels)
    for _ in range(steps):
        whole.step(next(audio))
    if seed % 5 == 0:
        whole.tell(HungUp("hangup"))

    past, said_again = rebuilt(whole.history(random.Random(seed)), channels)
    assert [(one.seq, encode(one)) for one in said_again] == whole.said
    assert past.unkept == []
    assert past.skipped_through == 0
    assert past.last_ordinal == len(whole.events)
    assert past.call.terms == whole.call.terms
    assert (past.upload is not None) == (whole.uploads > 0)
    if past.call.state not in (State.JUDGING, State.ENDED):
        assert sorted(map(repr, past.questions)) == sorted(
            map(repr, [*whole.confirms, *whole.identifies, *whole.transcribes])
        )

    # Both go on under the same chance; what the rebuilt one asks again is answered as the other's questions are.
    again = Journalled(past.call, random.Random(seed + 1), list(whole.events), list(whole.said), bytearray(whole.pcm))
    again.confirms, again.identifies, again.transcribes = whole.confirms[:], whole.identifies[:], whole.transcribes[:]
    whole.chance = random.Random(seed + 1)
    for piece in [next(audio) for _ in range(rest)]:
        whole.step(piece)
        again.step(piece)
    whole.finish()
    again.finish()
    assert again.said == whole.said
    assert again.events == whole.events


def played(seed: int = 3, steps: int = 60) -> Journalled:
    one = Journalled(make_call(RULES, SETTINGS), random.Random(seed))
    one.tell(ACCEPTED)
    audio = some_audio(seed, 1)
    for _ in range(steps):
        one.step(next(audio))
    return one


def test_messages_that_the_journal_does_not_have_yet_are_named() -> None:
    one = played()
    missing = [payload for _, payload in one.said if b'"type":"ack"' not in payload][-2:]
    history = one.history()
    past, _ = rebuilt(CallHistory(history.events, history.messages[:-2], history.samples, history.audio))
    assert [payload for _, payload in past.unkept] == missing


def test_a_call_that_would_now_say_something_else_does_not_go_on() -> None:
    history = played().history()
    seq, payload = history.messages[-1]
    changed = [*history.messages[:-1], (seq, payload.replace(b'"channel":0', b'"channel":1').replace(b"c1", b"c2"))]
    with pytest.raises(Diverged, match=f"message {seq} was"):
        rebuilt(CallHistory(history.events, changed, history.samples, history.audio))


def test_a_message_that_no_event_explains_stops_the_call() -> None:
    history = played().history()
    extra = encode(Ack(samples=1, call_id="c1", seq=10_000))
    with pytest.raises(Diverged, match="message 10000 was sent"):
        rebuilt(CallHistory(history.events, [*history.messages, (10_000, extra)], history.samples, history.audio))


def test_a_missing_event_that_was_safe_stops_the_call() -> None:
    one = played()
    one.tell(AudioStored(one.call.samples))
    history = one.history()
    events = [pair for pair in history.events if pair[0] != 4]
    with pytest.raises(Diverged, match="event 4 is missing"):
        rebuilt(CallHistory(events, history.messages, history.samples, history.audio))


def test_acknowledged_audio_that_is_missing_stops_the_call() -> None:
    one = played()
    one.tell(AudioStored(one.call.samples))
    history = one.history()
    with pytest.raises(Diverged, match="acknowledged"):
        rebuilt(CallHistory(history.events, history.messages, history.samples - 1, history.audio))


def test_what_a_power_cut_tore_off_is_dropped_and_its_numbers_are_not_used_again() -> None:
    one = played()
    one.tell(AudioStored(one.call.samples))
    safe, safe_samples = len(one.events), one.call.samples
    one.tell(Warned("code", "heard by the client, and lost with the power"))
    one.tell(AudioArrived(voice(100)))
    one.tell(Noted("mark", "lost too"))
    history = one.history()
    torn = [pair for pair in history.events if pair[0] != safe + 1]
    past, _ = rebuilt(CallHistory(torn, history.messages, history.samples, history.audio))
    assert (past.last_ordinal, past.call.samples) == (safe, safe_samples)
    assert past.skipped_through == history.messages[-1][0] > past.call.last_seq
    past.call.receive(NumbersSkipped(past.skipped_through))
    (effect,) = past.call.receive(Warned("code", "message"))
    assert isinstance(effect, Send)
    assert effect.message.seq == past.skipped_through + 1


UNKNOWN = b'{"at_sample":0,"wall_ms":0,"event":{"type":"Flown"}}'


@pytest.mark.parametrize("events", [[], [(2, b"{}")], [(1, b"{")], [(1, UNKNOWN)]])
def test_a_journal_without_a_beginning_that_can_be_read_stops_the_call(events: list[tuple[int, bytes]]) -> None:
    with pytest.raises(Diverged):
        rebuilt(CallHistory(events, [], 0, iter(())))
