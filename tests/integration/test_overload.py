"""More calls than the recogniser can serve: cores, questions, queue and load level together, on a clock of their own.

The engine costs a fixed time a job; time passes only where everybody waits, so that minutes take a second.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.call.cadence import HIGHEST_LEVEL
from gateway.call.effects import ConfirmSpeech, Effect, Send, Transcribe
from gateway.call.events import Accepted, AudioArrived, AudioStored, HungUp, LoadChanged
from gateway.call.machine import Call
from gateway.call.settings import CallSettings, CallTerms
from gateway.call.vad import VadSettings
from gateway.engines.adapters import WhisperRecognizer
from gateway.engines.load import TICK_S, PoolLoad
from gateway.engines.pool import Pool
from gateway.engines.worker import EngineSpec, Job
from gateway.ports import Transcription, Word
from gateway.session.engines import CallEngines, Engines, Voices
from gateway.telemetry import Metrics
from protocol.messages import Segment, Start, Transcript
from protocol.rules.matcher import RuleSet
from tests.unit.call.sound import RATE_HZ, LoudnessGate, silence, voice

COST_S = 0.25
SENTENCE = voice(2500) + silence(1200)
SENTENCE_S = 3.7
PACKET_S = 0.1
RULES = RuleSet.from_categories({"c": ["red"]}, 1, pinyin=True)


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time leaps to whatever is due next, as soon as nobody has anything to do."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_LeapingSelector(self))

    def time(self) -> float:
        return self.now_s


class _LeapingSelector(selectors.SelectSelector):
    def __init__(self, loop: LeapingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.now_s += max(0.0, timeout or 0.0)
        return super().select(0)


class Slow:
    """Stands for an engine process: every job takes the same time."""

    alive = True
    pid = 0

    @classmethod
    async def start(cls, spec: EngineSpec, timeout_s: float, name: str = "") -> Slow:
        return cls()

    async def run(self, job: Job, timeout_s: float) -> Transcription:
        await asyncio.sleep(COST_S)
        return Transcription("word", "en", (Word("word", 0, 100),))

    async def kill(self) -> None:
        pass


@dataclass
class Told:
    """What one call was told, and when."""

    at_s: list[tuple[float, Any]] = field(default_factory=list)

    def finals(self) -> list[str]:
        return [one.segment_id for _, one in self.at_s if isinstance(one, Transcript) and one.final]

    def closed(self) -> dict[str, float]:
        return {
            one.segment_id: at for at, one in self.at_s if isinstance(one, Segment) and one.state == "closed"
        }  # fmt: skip

    def lateness_s(self) -> list[float]:
        closed = self.closed()
        return [
            at - closed[one.segment_id] for at, one in self.at_s if isinstance(one, Transcript) and one.final
        ]  # fmt: skip

    def partials(self, from_s: float) -> int:
        return sum(isinstance(one, Transcript) and not one.final and at >= from_s for at, one in self.at_s)


class Clock:
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 0.0


class Line:
    """One call: its core, and what it asks."""

    def __init__(self, number: int, recognizer: WhisperRecognizer) -> None:
        settings = CallSettings(gate=LoudnessGate, vad=VadSettings("webrtc"))
        self.call = Call(CallTerms.of(f"c{number}", Start(rate=8000, roles=["agent"])), settings, RULES)
        self.told = Told()
        nobody: Any = None
        engines = Engines(nobody, recognizer, nobody)
        self._engines = CallEngines(engines, Voices("app", "app", None), f"c{number}", RATE_HZ, Clock(), Metrics())
        self._tasks: set[asyncio.Task[None]] = set()
        self.tell(Accepted("", 0.0, {}))

    def tell(self, event: Any) -> None:
        for effect in self.call.receive(event):
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        assert not isinstance(effect, ConfirmSpeech)
        if isinstance(effect, Send):
            self.told.at_s.append((asyncio.get_running_loop().time(), effect.message))
        elif isinstance(effect, Transcribe):
            task = asyncio.create_task(self._transcribe(effect))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _transcribe(self, effect: Transcribe) -> None:
        self.tell(await self._engines.transcribe(effect, lambda _: None))

    async def speak(self, sentences: int, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        step = 2 * int(PACKET_S * RATE_HZ)
        for at in range(0, sentences * len(SENTENCE), step):
            await asyncio.sleep(PACKET_S)
            place = at % len(SENTENCE)
            self.tell(AudioArrived((SENTENCE + SENTENCE)[place : place + step]))
            self.tell(AudioStored(self.call.samples))
        self.tell(HungUp("hangup"))
        while self._tasks:
            await asyncio.wait(self._tasks)


@pytest.fixture(autouse=True)
def slow_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("gateway.engines.pool.EngineProcess", Slow)
    yield


async def _played(calls: int, sentences: int, then_alone: int = 0) -> tuple[list[Told], list[int]]:
    loop = asyncio.get_running_loop()
    pool = Pool("recognizer", EngineSpec(""), queue_limit=2048, clock=loop.time)
    await pool.start()
    load, levels = PoolLoad(pool), []
    recognizer = WhisperRecognizer(pool, pool)
    lines = [Line(number, recognizer) for number in range(calls)]

    async def follow_load() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            levels.append(load.tick())
            for line in lines:
                line.tell(LoadChanged(levels[-1]))

    following = asyncio.create_task(follow_load())
    stagger_s = SENTENCE_S / calls
    await asyncio.gather(*(line.speak(sentences, stagger_s * number) for number, line in enumerate(lines)))
    if then_alone:
        lines.append(Line(calls, recognizer))
        await lines[-1].speak(then_alone, 0.0)
    following.cancel()
    await pool.stop()
    return [line.told for line in lines], levels


def played(calls: int, sentences: int, then_alone: int = 0) -> tuple[list[Told], list[int]]:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(_played(calls, sentences, then_alone))


def test_calls_within_capacity_have_all_their_partials() -> None:
    told, levels = played(calls=1, sentences=10)
    assert max(levels) == 0
    assert told[0].partials(0.0) >= 30


def test_calls_give_up_no_more_than_they_must() -> None:
    """4 calls with all partials need 1.6 of the engine, with half of them 0.9."""
    told, levels = played(calls=4, sentences=20)
    assert set(levels[-20:]) == {1}
    assert all(one.partials(0.0) >= 20 for one in told)


def test_what_partials_would_cost_too_much_for_still_has_every_final_in_time() -> None:
    """12 calls: their finals alone need four fifths of the engine, all partials would need three of it."""
    told, levels = played(calls=12, sentences=30)
    assert set(levels[-20:]) == {4}  # were the calls not told, it would go on to rise
    for one in told:
        assert one.finals() == [f"s{nth}" for nth in range(1, 31)]
        assert max(one.lateness_s()[15:]) <= 3.0


def test_with_more_calls_than_capacity_every_final_comes_late_but_in_order_and_no_call_starves() -> None:
    """24 calls: their finals alone need 1.6 of the engine."""
    told, levels = played(calls=24, sentences=20)
    assert levels[-1] == HIGHEST_LEVEL
    for one in told:
        assert one.finals() == [f"s{nth}" for nth in range(1, 21)]
    worst = [max(one.lateness_s()) for one in told]
    assert max(worst) > 3.0
    assert max(worst) - min(worst) <= 4 * COST_S * len(told)
    assert levels == sorted(levels)


def test_when_the_rush_is_over_partials_come_back() -> None:
    told, levels = played(calls=12, sentences=10, then_alone=60)
    assert max(levels) >= 3
    assert levels[-1] == 0
    alone = told[-1]
    assert alone.partials(alone.at_s[-1][0] - 10 * SENTENCE_S) >= 30
