"""The call that the end-to-end tests play: who says what and when, and what the rules should make of it."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import soxr
from numpy.typing import NDArray

from gateway.ports import StoredCategory
from tests.client import Account
from tests.e2e.speech import HIGH_VOICE, LOW_VOICE, RATE_HZ, spoken

AGENT = "Morgan Lee"
ENROLMENT = "Welcome to our service desk. We are always happy to talk to our customers and to solve their problems."
VOICES = (LOW_VOICE, HIGH_VOICE)
"""By channel: agent, customer."""
LINES = (
    (0, "Good morning, this is Northern Electric. How can I help you today?"),
    (1, "Hello. My heating has been broken since last Thursday, and the house is freezing cold."),
    (0, "I am very sorry to hear that. Let me look at your account right away."),
    (1, "I am very angry. You must send me the refund, or I will cancel my contract."),
    (0, "Please do not worry. I can offer you a discount on your next bill."),
    (1, "That sounds fair, but I would also like to speak to your manager."),
    (0, "Of course. An engineer will visit your house tomorrow morning to repair the heating."),
    (1, "Okay. Tomorrow morning is fine with me. Thank you for your help."),
)
LEAD_MS, PAUSE_MS = 600, 900

REFUND, ESCALATION, VISIT = "refund", "supervisor||manager", "heating&&engineer"
LEAVING, NOTICE, LEGAL, COLD = "cancel&&!discount", "!recorded", "lawyer||court", "freezing"
RULES = tuple(
    StoredCategory(name, f"What becomes of {rule}", (rule,))
    for name, rule in {
        "Money back": REFUND,
        "Escalation": ESCALATION,
        "Engineer": VISIT,
        "Leaving": LEAVING,
        "Recording notice": NOTICE,
        "Legal threat": LEGAL,
    }.items()
)
LATE_RULE = StoredCategory("Cold house", "Added when its word has been said: early alerts cannot know it", (COLD,))


@dataclass(frozen=True, slots=True)
class Turn:
    channel: int
    text: str
    begin_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Recital:
    """The script as sound: `samples` is int16, shape (n, 2), at `rate_hz`."""

    samples: NDArray[np.int16]
    rate_hz: int
    turns: tuple[Turn, ...]
    enrolment: NDArray[np.int16]
    """Another sentence of the agent's voice, shape (n,), at the same rate."""

    def at(self, rate_hz: int) -> Recital:
        """The same call and enrolment at another rate."""
        samples, enrolment = (
            np.clip(soxr.resample(one.astype(np.float32), self.rate_hz, rate_hz), -32768, 32767).astype(np.int16)
            for one in (self.samples, self.enrolment)
        )
        return Recital(samples, rate_hz, self.turns, enrolment)

    @property
    def enrolment_wav(self) -> bytes:
        file = io.BytesIO()
        with wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(self.rate_hz)
            wav.writeframes(self.enrolment.tobytes())
        return file.getvalue()

    @property
    def mono(self) -> NDArray[np.int16]:
        """Both parties on one line, shape (n,)."""
        mixed: NDArray[np.int16] = np.clip(self.samples.astype(np.int32).sum(axis=1), -32768, 32767).astype(np.int16)
        return mixed

    def turn_of(self, channel: int, at_ms: int, slack_ms: int = 0) -> Turn:
        """Who speaks then. `slack_ms` counts what surrounds a turn as part of it."""
        return next(
            turn
            for turn in self.turns
            if turn.channel == channel and turn.begin_ms - slack_ms <= at_ms <= turn.end_ms + slack_ms
        )


@cache
def recital() -> Recital:
    """The script, spoken at 16 kHz. Takes about half a second for each line."""
    with ThreadPoolExecutor(2) as speakers:
        clips = list(speakers.map(lambda line: _trimmed(spoken(line[1], VOICES[line[0]])), LINES))
        enrolment = speakers.submit(spoken, ENROLMENT, VOICES[0]).result()
    turns = []
    at_ms = LEAD_MS
    for (channel, text), clip in zip(LINES, clips, strict=True):
        end_ms = at_ms + len(clip) * 1000 // RATE_HZ
        turns.append(Turn(channel, text, at_ms, end_ms))
        at_ms = end_ms + PAUSE_MS
    samples = np.zeros((at_ms * RATE_HZ // 1000, 2), np.int16)
    for turn, clip in zip(turns, clips, strict=True):
        begin = turn.begin_ms * RATE_HZ // 1000
        samples[begin : begin + len(clip), turn.channel] = clip
    return Recital(samples, RATE_HZ, tuple(turns), enrolment)


def _trimmed(clip: NDArray[np.int16]) -> NDArray[np.int16]:
    """Without the silence around it, so that a turn's times are those of its sound."""
    loud = np.flatnonzero(np.abs(clip) > 200)
    return clip[loud[0] : loud[-1] + 1]


async def prepare(account: Account, recital: Recital, rules: Iterable[StoredCategory]) -> None:
    """Enrol the agent and add the rules."""
    await account.voices.register(account.app_id, account.app_id, "agents", AGENT, recital.enrolment_wav)
    for rule in rules:
        await account.quality.add_rule(account.app_id, rule)
