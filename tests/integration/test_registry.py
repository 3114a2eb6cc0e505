"""The registry of calls: limits that hold in a burst, and a recovery that one bad call cannot stop."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.call.events import Event, LoadChanged
from gateway.session.rebuilding import CallHeader
from gateway.session.session import CallSession
from protocol.errors import ProtocolError
from protocol.messages import Start
from tests.integration.world import Options, World, running


@dataclass(frozen=True)
class LeftBehind:
    """A call as an earlier process left it."""

    call_id: str
    messages: tuple[tuple[int, bytes], ...]
    epoch: int = 1
    rate_hz: int = 8000
    samples: int = 0
    end_sample: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    events: tuple[tuple[int, bytes], ...] = ()

    def read_audio(self) -> Iterator[bytes]:
        return iter(())

    @property
    def header(self) -> bytes:
        return msgspec.json.encode(
            CallHeader(rate_hz=16000, channels=1, app_id="demo", began_at_ms=1, start=Start(rate=16000))
        )


async def test_a_burst_of_calls_does_not_pass_the_limit(tmp_path: Path) -> None:
    async with running(tmp_path, Options(max_calls=1)) as world:
        outcomes = await asyncio.gather(*(world.calls.open("demo", Start()) for _ in range(3)), return_exceptions=True)
        refused = [one.code for one in outcomes if isinstance(one, ProtocolError)]
        assert refused == ["overloaded", "overloaded"]
        assert len(world.calls) == 1


async def test_calls_that_go_on_and_calls_to_come_hear_how_loaded_the_recogniser_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, int]] = []
    receive = CallSession.receive

    def noting(session: CallSession, event: Event) -> None:
        if isinstance(event, LoadChanged):
            heard.append((session.call_id, event.level))
        receive(session, event)

    monkeypatch.setattr(CallSession, "receive", noting)
    early = await world.calls.open("demo", Start())
    for level in (2, 2, 3):
        world.calls.pace(level)
    assert heard == [(early.call_id, 2), (early.call_id, 3)]
    late = await world.calls.open("demo", Start())
    assert heard[2:] == [(late.call_id, 3)]


async def test_a_call_that_cannot_be_recovered_does_not_keep_the_others_from_it(world: World) -> None:
    unreadable = LeftBehind("of-the-future", ((1, b'{"type":"telepathy"}'),))
    unsealable = LeftBehind("unsealable", ())

    async def no_room(call_id: str) -> Path:
        if call_id == "another":
            return Path("another.wav")
        raise OSError(28, f"no space left for {call_id}")

    world.journal.seal = no_room  # type: ignore[method-assign]
    another = LeftBehind("another", ())

    async def find() -> list[LeftBehind]:
        return [unreadable, unsealable, another]

    with capture_logs() as logs:
        world.calls.take_up(find)
        await world.calls.recovery.all_taken_up()
    failed = [entry["call_id"] for entry in logs if entry["event"] == "call_not_recovered"]
    assert failed == ["of-the-future", "unsealable"]
    assert "another" in world.tasks.tasks
