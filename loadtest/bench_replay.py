"""What rebuilding a call costs: `python -m loadtest.bench_replay`.

A made-up conversation (half of it speech) is run through the core of a call with the real gate and 100 rules, every
question answered; then the call is replayed from its events and audio, as after a restart. Prints CPU time and
journalled events for each minute of call. The engines are not asked in a replay, so none is needed here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gateway.call.effects import ConfirmSpeech, Effect, Identify, Send, StoreAudio, Transcribe
from gateway.call.events import (
    Accepted,
    AudioArrived,
    AudioStored,
    Event,
    HeardWord,
    Hit,
    Identified,
    SpeechConfirmed,
    Transcribed,
)
from gateway.call.machine import Call
from gateway.call.replay import CallHistory, KeptEvent, encode_event, replay
from gateway.call.settings import CallSettings, CallTerms
from gateway.engines.webrtc import WebrtcGate
from protocol.codec import encode
from protocol.messages import Ack, Start
from protocol.rules.matcher import RuleSet

MINUTES = 3
PACKET_MS = 20
ACK_MS = 100
PIECE_MS = 200
WORDS = (
    "I",
    "would",
    "like",
    "to",
    "have",
    "my",
    "money",
    "back",
    "and",
    "speak",
    "to",
    "your",
    "manager",
    "it",
    "please",
)


def conversation(rate_hz: int, channels: int, seconds: int, dice: random.Random) -> bytes:
    """Interleaved s16le: turns of 1 to 5 s of shaped noise, and as much quiet; on two channels by turns."""
    made = np.random.default_rng(1)
    samples = (made.normal(0, 40, (seconds * rate_hz, channels))).astype(np.int16)
    at, turn = 0, 0
    while at < len(samples):
        length = min(int(dice.uniform(1, 5) * rate_hz), len(samples) - at)
        envelope = 3000 * (1 + np.sin(2 * np.pi * 4 * np.arange(length) / rate_hz))
        noise = np.convolve(made.normal(0, 1, length), np.ones(8) / 3, "same")
        samples[at : at + length, turn % channels] += (noise * envelope).astype(np.int16)
        at += length + int(dice.uniform(1, 5) * rate_hz)
        turn += 1
    return samples.tobytes()


@dataclass
class Recording:
    """Runs a call and keeps what a journal would."""

    call: Call
    dice: random.Random
    events: list[tuple[int, bytes]] = field(default_factory=list)
    messages: list[tuple[int, bytes]] = field(default_factory=list)
    pcm: bytearray = field(default_factory=bytearray)
    _answers: list[Event] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        at_sample = self.call.samples
        effects = self.call.receive(event)
        if not isinstance(event, AudioArrived):
            self.events.append((len(self.events) + 1, encode_event(KeptEvent(at_sample, 0, event))))
        self._take(effects)

    def settle(self) -> None:
        """Answer what was asked."""
        while self._answers:
            answers, self._answers = self._answers, []
            for answer in answers:
                self.tell(answer)

    def _take(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    if not isinstance(message, Ack):
                        self.messages.append((message.seq, encode(message)))
                case StoreAudio(_, pcm):
                    self.pcm += pcm
                case ConfirmSpeech():
                    windows = np.frombuffer(effect.pcm, "<i2").reshape(-1, self.call.terms.audio.ms_to_samples(32))
                    loud = np.abs(windows.astype(np.int32)).mean(axis=1) > 300
                    probabilities = tuple(np.where(loud, 0.97, 0.02).tolist())
                    self._answers.append(SpeechConfirmed(effect.channel, effect.ordinal, probabilities))
                case Identify():
                    hits = tuple(Hit(f"voice {number}", self.dice.uniform(20, 80)) for number in range(10))
                    self._answers.append(Identified(effect.channel, effect.ordinal, hits))
                case Transcribe():
                    count = max(1, len(effect.pcm) // (2 * self.call.terms.audio.rate_hz) * 3)
                    said = [self.dice.choice(WORDS) for _ in range(count)]
                    words = tuple(HeardWord(f" {word}", 300 * at, 300 * at + 280) for at, word in enumerate(said))
                    text = " ".join(said)
                    self._answers.append(Transcribed(effect.segment_id, effect.ordinal, text, "en", words))
                case _:
                    pass


def new_call(rate_hz: int, channels: int) -> Call:
    start = Start(rate=rate_hz, channels=channels)  # type: ignore[arg-type]
    rules = [f"{WORDS[number % 7]}&&unheard{number}" for number in range(95)] + [
        "money",
        "manager",
        "refund",
        "it",
        "back",
    ]
    ruleset = RuleSet.from_categories({"bench": rules}, 1, pinyin=True)
    return Call(CallTerms.of("bench", start), CallSettings(gate=WebrtcGate), ruleset)


def recorded(rate_hz: int, channels: int) -> Recording:
    """A call of MINUTES, run once."""
    dice = random.Random(7)
    pcm = conversation(rate_hz, channels, MINUTES * 60, dice)
    recording = Recording(new_call(rate_hz, channels), dice)
    recording.tell(Accepted("token", 60.0, {}))
    step = 2 * channels * rate_hz * PACKET_MS // 1000
    for number, at in enumerate(range(0, len(pcm), step)):
        recording.tell(AudioArrived(pcm[at : at + step]))
        recording.settle()
        if number % (ACK_MS // PACKET_MS) == 0:
            recording.tell(AudioStored(recording.call.samples))
    return recording


def in_pieces(pcm: bytes, piece_bytes: int) -> Iterator[bytes]:
    return (pcm[at : at + piece_bytes] for at in range(0, len(pcm), piece_bytes))


def main() -> None:
    """Print the table."""
    print(f"a call of {MINUTES} minutes, half of it speech; for each minute of call:")
    print(f"{'call':>16} {'replay ms':>10} {'events':>7} {'events kB':>10} {'messages':>9} {'audio kB':>9}")
    for rate_hz, channels in ((8000, 1), (16000, 1), (16000, 2)):
        one = recorded(rate_hz, channels)
        piece_bytes = 2 * channels * rate_hz * PIECE_MS // 1000
        spent_s = []
        for _ in range(3):
            audio = in_pieces(bytes(one.pcm), piece_bytes)
            history = CallHistory(one.events, one.messages, one.call.samples, audio)
            call = new_call(rate_hz, channels)
            begin_s = time.process_time()
            replay(call, history, lambda *_: None, lambda *_: None)
            spent_s.append(time.process_time() - begin_s)
        events_kb = sum(len(payload) for _, payload in one.events) / 1000
        name = f"{rate_hz // 1000} kHz {'stereo' if channels == 2 else 'mono'}"
        print(
            f"{name:>16} {min(spent_s) * 1000 / MINUTES:>10.0f} {len(one.events) / MINUTES:>7.0f} "
            f"{events_kb / MINUTES:>10.0f} {len(one.messages) / MINUTES:>9.0f} {len(one.pcm) / 1000 / MINUTES:>9.0f}"
        )


if __name__ == "__main__":
    main()
