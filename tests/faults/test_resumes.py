"""Clients that come back in every way: too early in the audio or too late, over a live socket, with another's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from protocol.codec import encode_framed
from protocol.messages import Ack, Ended, Error, Hangup, Resume, Resumed, ServerMessage
from tests.faults.ledger import Ledger
from tests.faults.mutants import resume_skips
from tests.faults.softphone import whisper
from tests.integration.world import Wire, World, running

VOICE = whisper(30, 60_000)
FEW, SOME = st.integers(1, 1600), st.integers(1, 8000)
"""Samples at 8 kHz: up to 0.2 s, up to 1 s."""


@dataclass
class Tried:
    """Sums over all examples."""

    calls: int = 0
    samples: int = 0


def coming_back(runner: asyncio.Runner, world: World, tried: Tried) -> type[RuleBasedStateMachine]:
    class ComingBack(RuleBasedStateMachine):
        """One call in `framed` framing, and what its recording must be."""

        @initialize()
        def begin(self) -> None:
            self.sockets = AsyncExitStack()
            self.wire: Wire | None = runner.run(self._entered(world.call(framing="framed")))
            self.started = self.wire.started
            self.recorded = bytearray()
            self.frames = self.acked = 0
            self.seen: dict[int, ServerMessage] = {}

        # --- audio ---

        @precondition(lambda self: self.wire is not None)
        @rule(samples=SOME)
        def go_on(self, samples: int) -> None:
            self._send(self.end, samples)

        @precondition(lambda self: self.wire is not None)
        @rule(earlier=FEW, samples=SOME)
        def overlap(self, earlier: int, samples: int) -> None:
            self._send(max(0, self.end - earlier), samples)

        @precondition(lambda self: self.wire is not None)
        @rule(later=FEW, samples=SOME)
        def leave_a_hole(self, later: int, samples: int) -> None:
            self._send(self.end + later, samples)

        # --- sockets ---

        @precondition(lambda self: self.wire is not None)
        @rule()
        def break_off(self) -> None:
            assert self.wire is not None
            self._note(self.wire)
            self.wire.connection.transport.abort()
            self.wire = None

        @rule()
        def come_back(self) -> None:
            runner.run(self._resume())

        @rule(last_seq=st.integers(0, 5))
        def come_back_as_another_app(self, last_seq: int) -> None:
            assert runner.run(self._refused("other", self._resume_message(last_seq))) == "unknown_call"

        @rule(at=st.integers(0, 20))
        def come_back_with_a_forged_token(self, at: int) -> None:
            token = self.started.resume_token
            forged = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            message = Resume(call_id=self.started.call_id, resume_token=forged, last_seq=0)
            assert runner.run(self._refused("demo", message)) == "unknown_call"

        def teardown(self) -> None:
            if hasattr(self, "recorded"):
                runner.run(self._finish())

        # --- how ---

        @property
        def end(self) -> int:
            return len(self.recorded) // 2

        def _send(self, first: int, samples: int) -> None:
            assert self.wire is not None
            pcm = VOICE[2 * first : 2 * (first + samples)]
            self.recorded += bytes(2 * max(0, first - self.end))
            self.recorded += pcm[2 * (self.end - first) :]
            self.frames += 1
            runner.run(self.wire.send(encode_framed(pcm, self.frames, first)))

        async def _entered(self, wire: object) -> Wire:
            entered: Wire = await self.sockets.enter_async_context(wire)  # type: ignore[arg-type]
            return entered

        def _resume_message(self, last_seq: int) -> Resume:
            return Resume(call_id=self.started.call_id, resume_token=self.started.resume_token, last_seq=last_seq)

        async def _resume(self) -> Wire:
            if self.wire is not None:
                self._note(self.wire)
            wire = await self._entered(world.wire())
            await wire.send(self._resume_message(max(self.seen, default=1)))
            resumed = await wire.until(Resumed)
            assert self.acked <= resumed.samples <= self.end, "what was acked is there, and nothing that was not sent"
            del self.recorded[2 * resumed.samples :]  # the rest was lost with the old socket
            self.wire = wire
            return wire

        async def _refused(self, app_id: str, message: Resume) -> str:
            async with world.wire(app_id=app_id) as wire:
                await wire.send(message)
                return (await wire.until(Error)).code

        async def _finish(self) -> None:
            async with self.sockets:
                wire = self.wire or await self._resume()
                await wire.send(Hangup())
                ended = await wire.until(Ended)
                self._note(wire)
                assert ended.samples == self.end
                assert world.recorded_pcm(self.started.call_id) == self.recorded
                assert sorted(self.seen)[-1] == ended.seq
                tried.calls += 1
                tried.samples += self.end

        def _note(self, wire: Wire) -> None:
            """A number belongs to one message for ever."""
            for message in wire.log:
                if message.seq:
                    assert self.seen.setdefault(message.seq, message) == message
                if isinstance(message, Ack):
                    self.acked = max(self.acked, message.samples)

    return ComingBack


def come_back_in_every_way(folder: Path, examples: int) -> Tried:
    tried = Tried()
    with asyncio.Runner() as runner:
        server = running(folder)
        world = runner.run(server.__aenter__())
        try:
            run_state_machine_as_test(
                coming_back(runner, world, tried),
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=15,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                    phases=[Phase.generate],  # each step is real: what fails is not made smaller
                ),
            )
        finally:
            runner.run(server.__aexit__(None, None, None))
    return tried


@pytest.mark.row(30)
@pytest.mark.timeout(600)
def test_however_a_client_comes_back_the_recording_is_what_it_sent(
    ledger: Ledger, tmp_path: Path, tries: Callable[[int, int], int]
) -> None:
    tried = come_back_in_every_way(tmp_path, tries(12, 200))
    ledger.add(
        row=30,
        fault="resume: overlap, hole, live socket, other app, forged token",
        tried=tried.calls,
        acked_samples=tried.samples,
        lost_samples=0,
    )


@pytest.mark.row(30)
def test_that_check_sees_a_server_that_claims_more_than_it_has(tmp_path: Path) -> None:
    resume_skips.break_it()
    try:
        with pytest.raises(AssertionError, match="what was acked is there"):
            come_back_in_every_way(tmp_path, 12)
    finally:
        patch.stopall()
