"""Rebuilding a call from what its journal kept: it is a fold over its events, and folding them again gives it back.

Where an event stands is its position in the audio, not its place in a file: an event at sample n comes after the audio
before n and before the audio from n on, and events at the same position come by their ordinals, which count from 1
over the whole call. Audio itself is no journalled event: its samples are kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.call.effects import ConfirmSpeech, Effect, Identify, KeepInShadow, Send, Transcribe, UploadRecording
from gateway.call.events import (
    AudioArrived,
    AudioStored,
    Event,
    HungUp,
    Identified,
    Noted,
    SpeechConfirmed,
    Transcribed,
)
from gateway.call.machine import Call
from gateway.call.states import IllegalEvent, State
from protocol.codec import decode_server, encode
from protocol.errors import ProtocolError
from protocol.messages import Ack, Alert, AlertUpdate, ServerMessage

Question = ConfirmSpeech | Identify | Transcribe


class KeptEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as the journal keeps it."""

    at_sample: int
    """How many instants the call had received."""
    wall_ms: int
    """Wall clock, ms since the Unix epoch: for the times that people read, never for what the call decides."""
    event: Event
    told: int = 0
    """How many of the client's messages the call had taken by then, this one included."""


_decoder = msgspec.json.Decoder(KeptEvent)


def encode_event(kept: KeptEvent) -> bytes:
    """One event as the journal's bytes."""
    return msgspec.json.encode(kept)


class Diverged(Exception):
    """The call cannot be rebuilt as it was: something that was promised is missing, or this program decides otherwise
    than the one that ran before. It must not go on live."""


@dataclass(frozen=True, slots=True)
class CallHistory:
    """What the journal has of one call."""

    events: Sequence[tuple[int, bytes]]
    """(ordinal, event), by ordinal."""
    messages: Sequence[tuple[int, bytes]]
    """(seq, message), by seq: the truth of what the client has seen. Acks are not among them."""
    samples: int
    """Instants from the call's start to the first hole."""
    audio: Iterator[bytes]
    """Those instants, s16le interleaved, in pieces of any size."""


@dataclass(slots=True)
class Replayed:
    """A call as it was when its process ended, and what it still waited for."""

    call: Call
    last_ordinal: int = 0
    told: int = 0
    """How many of the client's messages it had taken."""
    hung_up: tuple[HungUp, int] | None = None
    """How, and when (wall clock, ms)."""
    upload: UploadRecording | None = None
    """It was handed in, or was about to be: to hand it in again changes nothing."""
    skipped_through: int = 0
    """The highest number of a message whose event a power cut has torn off; 0: there is none."""
    unkept: list[tuple[int, bytes]] = field(default_factory=list)
    """(seq, message) of those that follow from the events and are not journalled yet: the process ended just before."""
    confirms: dict[tuple[int, int], Question] = field(default_factory=dict)
    identifies: dict[int, Question] = field(default_factory=dict)
    transcribes: dict[int, Question] = field(default_factory=dict)

    @property
    def questions(self) -> list[Question]:
        """What was asked and is not answered, in the order it was asked; nothing once no answer matters."""
        if self.call.state in (State.JUDGING, State.ENDED):
            return []
        return [*self.confirms.values(), *self.identifies.values(), *self.transcribes.values()]


OnMessage = Callable[[ServerMessage, bytes], None]
OnNote = Callable[[Noted, int], None]
OnShadow = Callable[[Alert | AlertUpdate], None]


def replay(
    call: Call,
    history: CallHistory,
    on_message: OnMessage,
    on_note: OnNote,
    on_shadow: OnShadow = lambda _: None,
) -> Replayed:
    """Fold a history into a new `call`. Blocking, and as long as it takes: see BENCHMARKS.md, replay.

    `on_message` gets each message of the call anew, with its bytes, in order; `on_note` each key and mark with its
    position in ms, `on_shadow` what a rule in shadow would have sent. Raises Diverged: the call is then of no use.
    """
    try:
        events, samples = _unbroken(history)
        past = _Replay(call, history, on_message, on_note, on_shadow).run(events, samples)
    except (msgspec.DecodeError, ProtocolError, IllegalEvent) as fault:
        raise Diverged(f"its journal does not fit this program: {fault}") from fault
    last_seq = history.messages[-1][0] if history.messages else 0
    if last_seq > call.last_seq:
        if len(events) == len(history.events):
            raise Diverged(f"message {last_seq} was sent, and its events bring none after {call.last_seq}")
        past.skipped_through = last_seq
    return past


def _unbroken(history: CallHistory) -> tuple[list[KeptEvent], int]:
    """The events up to the first that is missing or whose audio is, and the samples that go with them.

    What a power cut tears off was never acknowledged, and comes again. Raises Diverged when it was.
    """
    events = [(ordinal, _decoder.decode(payload)) for ordinal, payload in history.events]
    whole: list[KeptEvent] = []
    for ordinal, kept in events:
        if ordinal != len(whole) + 1 or kept.at_sample > history.samples:
            break
        whole.append(kept)
    if not whole:
        raise Diverged("its first event is missing")
    dropped = [kept.event for _, kept in events[len(whole) :]]
    acks = [kept.event.samples for _, kept in events if isinstance(kept.event, AudioStored)]
    if acks and max(acks) > history.samples:
        raise Diverged(f"{max(acks)} samples were acknowledged, {history.samples} are there without a hole")
    if any(isinstance(event, AudioStored) for event in dropped):
        raise Diverged(f"event {len(whole) + 1} is missing, and was safe")
    return whole, whole[-1].at_sample if dropped else history.samples


class _Replay:
    def __init__(
        self, call: Call, history: CallHistory, on_message: OnMessage, on_note: OnNote, on_shadow: OnShadow
    ) -> None:
        self._call = call
        self._audio = history.audio
        self._rest = b""
        self._instant_bytes = 2 * call.terms.audio.channels
        self._journalled: Mapping[int, bytes] = dict(history.messages)
        self._on_message = on_message
        self._on_note = on_note
        self._on_shadow = on_shadow
        self._past = Replayed(call)

    def run(self, events: Iterable[KeptEvent], samples: int) -> Replayed:
        past = self._past
        for kept in events:
            self._hear(kept.at_sample)
            self._happen(kept.event)
            past.last_ordinal += 1
            past.told = max(past.told, kept.told)
            if isinstance(kept.event, HungUp) and past.hung_up is None:
                past.hung_up = kept.event, kept.wall_ms
        self._hear(samples)
        return past

    def _hear(self, until_sample: int) -> None:
        while self._call.samples < until_sample:
            self._rest = self._rest or next(self._audio, b"")
            if not self._rest:
                raise Diverged(f"its audio ends at sample {self._call.samples}, expected {until_sample}")
            wanted_bytes = (until_sample - self._call.samples) * self._instant_bytes
            pcm, self._rest = self._rest[:wanted_bytes], self._rest[wanted_bytes:]
            self._take(self._call.receive(AudioArrived(pcm)))

    def _happen(self, event: Event) -> None:
        past = self._past
        match event:
            case SpeechConfirmed():
                past.confirms.pop((event.channel, event.ordinal), None)
            case Identified():
                past.identifies.pop(event.ordinal, None)
            case Transcribed():
                past.transcribes.pop(event.ordinal, None)
            case Noted():
                self._on_note(event, self._call.terms.audio.samples_to_ms(self._call.samples))
            case _:
                pass
        self._take(self._call.receive(event))

    def _take(self, effects: Iterable[Effect]) -> None:
        past = self._past
        for effect in effects:
            match effect:
                case Send(message):
                    self._said(message)
                case KeepInShadow(message):
                    self._on_shadow(message)
                case ConfirmSpeech():
                    past.confirms[effect.channel, effect.ordinal] = effect
                case Identify():
                    past.identifies[effect.ordinal] = effect
                case Transcribe():
                    past.transcribes[effect.ordinal] = effect
                case UploadRecording():
                    past.upload = effect
                case _:
                    pass  # the audio is stored already; what is left of an ended call is seen by its state

    def _said(self, message: ServerMessage) -> None:
        payload = encode(message)
        journalled = self._journalled.get(message.seq)
        if journalled is None:
            if not isinstance(message, Ack):
                self._past.unkept.append((message.seq, payload))
        elif journalled != payload and decode_server(journalled) != message:
            raise Diverged(f"message {message.seq} was {journalled[:200]!r}, and would now be {payload[:200]!r}")
        self._on_message(message, payload)
