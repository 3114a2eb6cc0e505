"""What a call asks for, carried out by hand: a test decides which answers come, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from gateway.call.effects import (
    ConfirmSpeech,
    Effect,
    EndCall,
    Identify,
    KeepInShadow,
    Send,
    StoreAudio,
    Transcribe,
    UploadRecording,
)
from gateway.call.events import (
    Accepted,
    AudioArrived,
    AudioStored,
    Event,
    HeardWord,
    Hit,
    HungUp,
    Identified,
    Transcribed,
)
from gateway.call.machine import Call
from gateway.call.states import State
from protocol.messages import ServerMessage
from tests.unit.call.sound import confirmed

M = TypeVar("M", bound=ServerMessage)
ACCEPTED = Accepted("token", 60.0, {"max_call_s": 14_400})


class Shell:
    """A call, everything it wanted done, and the questions that are still open."""

    def __init__(self, call: Call, *, accepted: bool = True) -> None:
        self.call = call
        self.effects: list[Effect] = []
        self.messages: list[ServerMessage] = []
        self.confirms: dict[int, deque[ConfirmSpeech]] = {0: deque(), 1: deque()}
        self.identifies: list[Identify] = []
        self.transcribes: list[Transcribe] = []
        if accepted:
            self.tell(ACCEPTED)

    def tell(self, *events: Event) -> list[ServerMessage]:
        """Let events happen; returns the messages they brought."""
        before = len(self.messages)
        for event in events:
            for effect in self.call.receive(event):
                self._take(effect)
        return self.messages[before:]

    def _take(self, effect: Effect) -> None:
        self.effects.append(effect)
        match effect:
            case Send(message):
                self.messages.append(message)
            case ConfirmSpeech():
                self.confirms[effect.channel].append(effect)
            case Identify():
                self.identifies.append(effect)
            case Transcribe():
                self.transcribes.append(effect)
            case KeepInShadow() | StoreAudio() | UploadRecording() | EndCall():
                pass

    def hear(self, pcm: bytes) -> list[ServerMessage]:
        """Let audio arrive, stored and confirmed at once."""
        before = len(self.messages)
        self.tell(AudioArrived(pcm))
        self.confirm_all()
        self.tell(AudioStored(self.call.samples))
        return self.messages[before:]

    def confirm_all(self) -> None:
        while any(self.confirms.values()):
            for waiting in self.confirms.values():
                if waiting:
                    self.tell(confirmed(waiting.popleft()))

    def say(self, text: str, *, kind: str = "final", words: Iterable[HeardWord] = ()) -> list[ServerMessage]:
        """Answer the oldest open request of a kind with a text; `words` default to the text as one word."""
        wanted = next(one for one in self.transcribes if one.kind == kind)
        self.transcribes.remove(wanted)
        heard = tuple(words) or ((HeardWord(text, 0, 10),) if text else ())
        return self.tell(Transcribed(wanted.segment_id, wanted.ordinal, text, "en", heard))

    def know(self, *hits: Hit, refused: str = "") -> list[ServerMessage]:
        """Answer the oldest open identification."""
        wanted = self.identifies.pop(0)
        return self.tell(Identified(wanted.channel, wanted.ordinal, hits, refused))

    def answer_all(self) -> None:
        """Confirm and transcribe (with nothing heard) and identify (nobody) all that is open."""
        self.confirm_all()
        while self.transcribes:
            self.say("", kind=self.transcribes[0].kind)
        while self.identifies:
            self.know()

    def hang_up(self) -> list[ServerMessage]:
        """Hang up and let every answer come."""
        before = len(self.messages)
        self.tell(HungUp("hangup"))
        self.answer_all()
        return self.messages[before:]

    def sent(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    def is_in(self, *states: State) -> bool:
        return self.call.state in states

    def done(self, kind: type[Effect]) -> int:
        return sum(isinstance(effect, kind) for effect in self.effects)
