"""What a client meets when a server takes up the calls of the one before it; and what the client SDK does about it."""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from gateway.ports import QualityAnswer
from gateway.session import calls as calls_module
from gateway.session.recovery import Recovery
from gateway.stores.journal import FileJournal
from protocol.client import CallClient, CallLost
from protocol.codec import SUBPROTOCOL, encode
from protocol.errors import ProtocolError
from protocol.messages import Ack, Dtmf, Ended, Error, Hangup, Mark, Resume, Resumed, Segment, Start, Started
from tests.integration.hummed import eventually
from tests.integration.test_registry import LeftBehind
from tests.integration.world import SECRETS, Options, Wire, World, running
from tests.unit.call.sound import silence, voice
from tests.unit.stores.test_journal import segments

SPEECH = silence(300) + voice(2000) + silence(1000)


def resume_of(wire: Wire, last_seq: int) -> Resume:
    return Resume(call_id=wire.started.call_id, resume_token=wire.started.resume_token, last_seq=last_seq)


async def left_behind(world: World, wait_for: type = Segment) -> Wire:
    """A call whose audio is safe, and whose server then stops."""
    async with world.call() as wire:
        await wire.send(SPEECH)
        await wire.until(wait_for)
        await wire.until(Ack, lambda ack: ack.samples == len(SPEECH) // 2)
    return wire


async def test_a_resume_waits_while_its_call_is_rebuilt_and_is_then_asked_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options()
    async with running(tmp_path, options) as world:
        first = await left_behind(world)
    options = replace(options, may_look=asyncio.Event())
    async with running(tmp_path, options) as world:
        with monkeypatch.context() as patch:
            patch.setattr(calls_module, "RECOVERY_WAIT_S", 0.01)
            async with world.wire() as early:
                await early.send(resume_of(first, first.log[-1].seq))
                error = await early.until(Error)
                assert await early.closed() == (1013, "recovering")
        assert (error.code, error.retryable, error.retry_after_ms) == ("recovering", True, 500)
        async with world.wire() as second:
            await second.send(resume_of(first, first.log[-1].seq))
            assert options.may_look is not None
            options.may_look.set()
            resumed = await second.until(Resumed)
            await second.send(Hangup())
            ended = await second.until(Ended)
    assert (resumed.samples, ended.samples) == (len(SPEECH) // 2, len(SPEECH) // 2)


async def test_new_calls_are_taken_while_old_ones_are_rebuilt(tmp_path: Path) -> None:
    async with running(tmp_path, Options(may_look=asyncio.Event())) as world, world.call() as wire:
        await wire.send(SPEECH)
        await wire.until(Ack, lambda ack: ack.samples == len(SPEECH) // 2)


@pytest.mark.parametrize(("before", "now"), [(3, 0), (0, 3), (3, 3)])
async def test_a_call_that_is_taken_up_goes_by_the_load_of_now(tmp_path: Path, before: int, now: int) -> None:
    options = Options()
    async with running(tmp_path, options) as world:
        first = await left_behind(world)
        world.calls.pace(before)
    options = replace(options, may_look=asyncio.Event())
    async with running(tmp_path, options) as world:
        world.calls.pace(now)
        assert options.may_look is not None
        options.may_look.set()
        await world.calls.recovery.all_taken_up()
        session = world.calls.find("demo", first.started.call_id)
        assert session is not None
        assert session.load == now


async def test_numbers_that_a_power_cut_took_with_their_messages_are_not_used_again(tmp_path: Path) -> None:
    options = Options()
    async with running(tmp_path, options) as world:
        first = await left_behind(world)
    seen = first.log[-1].seq + 5
    async with running(tmp_path, options) as world, world.wire() as second:
        await second.send(resume_of(first, seen))
        resumed = await second.until(Resumed)
        await second.send(SPEECH)
        await second.until(Segment)
        await second.send(Hangup())
        ended = await second.until(Ended)
    assert resumed.next_seq == seen + 1
    numbers = [message.seq for message in second.log if message.seq]
    assert numbers == list(range(seen + 1, seen + 1 + len(numbers)))
    assert ended.reason == "hangup"


async def test_a_call_that_had_ended_tells_its_client_after_a_restart_and_keeps_a_later_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_released(self: FileJournal, call_id: str) -> None: ...

    options = Options(qc_result=None)
    with monkeypatch.context() as patch:
        patch.setattr(FileJournal, "release", not_released)
        async with running(tmp_path, options) as world:
            async with world.call() as first:
                await first.send(SPEECH)
                await first.until(Ack, lambda ack: ack.samples == len(SPEECH) // 2)
                await first.send(Hangup(wait_qc_ms=0))
                await first.until(Ended)
            call_id = first.started.call_id
            await world.calls.note_verdict("demo", call_id, QualityAnswer(2, "done", {"detection_result": []}))
            assert options.records.records["demo", call_id].state == "judged"
    async with running(tmp_path, options) as world:
        async with world.wire() as second:
            await second.send(resume_of(first, 1))
            ended = await second.until(Ended)
            assert await second.closed() == (1000, "ended")
        assert ended == first.log[-1]
        await world.calls.filed(call_id)
        record = options.records.records["demo", call_id]
        assert (record.state, record.document["qc"]["missed"]) == ("judged", [])
    assert not segments(tmp_path), "nothing of it is left for another start"


async def test_what_is_awaited_is_taken_up_first_and_one_that_fails_stops_nobody() -> None:
    taken: list[str] = []
    may_go = asyncio.Event()

    async def take_up(call: object) -> None:
        assert isinstance(call, LeftBehind)
        await may_go.wait()
        taken.append(call.call_id)
        if call.call_id == "b":
            raise RuntimeError("a fault of its own")

    async def find() -> Iterable[LeftBehind]:
        return [LeftBehind(name, ()) for name in "abcde"]

    recovery = Recovery(take_up)
    await recovery.taken_up("nobody looks yet")
    recovery.start(find)
    waits: list[Awaitable[None]] = [asyncio.ensure_future(recovery.taken_up(name)) for name in "db"]
    await asyncio.sleep(0)
    may_go.set()
    await asyncio.gather(*waits)
    await recovery.all_taken_up()
    assert taken in (["a", "d", "b", "c", "e"], ["d", "b", "a", "c", "e"])
    assert recovery.finished


async def test_a_fault_in_looking_is_told_and_keeps_nobody_waiting() -> None:
    async def take_up(call: object) -> None: ...

    async def find() -> Iterable[LeftBehind]:
        raise OSError(5, "Input/output error")

    recovery = Recovery(take_up)
    recovery.start(find)
    await recovery.taken_up("any")
    assert isinstance(recovery.fault, OSError)


# --- the client SDK ----------------------------------------------------------------------------------------------


async def test_control_messages_that_breaks_swallow_arrive_once_and_in_their_place(world: World) -> None:
    async with CallClient(world.url, Start(rate=8000), app_id="demo", secret=SECRETS["demo"]) as call:

        async def listen() -> None:
            async for _ in call:
                pass

        listening = asyncio.get_running_loop().create_task(listen())
        for number in range(12):
            await call.send_audio(silence(50))
            await call.send(Dtmf(digit=str(number % 10)))
            if number % 3 == 1:
                world.cut_connections()
            await call.send(Mark(name=f"mark {number}"))
        await call.hang_up()
        await listening
        call_id = call.call_id
    await world.calls.filed(call_id)
    notes = world.records.records["demo", call_id].document["notes"]
    expected = [(value, 50 * number + 50) for number in range(12) for value in (str(number % 10), f"mark {number}")]
    assert [(note["value"], note["at_ms"]) for note in notes] == expected


async def test_a_control_message_that_the_server_took_before_a_break_is_not_sent_again(world: World) -> None:
    async with CallClient(world.url, Start(rate=8000), app_id="demo", secret=SECRETS["demo"]) as call:
        await call.send_audio(silence(50))
        await call.send(Dtmf(digit="1"))
        session = world.calls.find("demo", call.call_id)
        assert session is not None

        async def taken() -> bool:
            return session.told == 1

        await eventually(taken)
        world.cut_connections()
        await call.send(Dtmf(digit="2"))
        await call.hang_up()
        assert isinstance([message async for message in call][-1], Ended)
    assert [note["value"] for note in session.document.content["notes"]] == ["1", "2"]


async def test_a_message_that_the_server_would_refuse_to_read_is_refused_here(world: World) -> None:
    async with CallClient(world.url, Start(rate=8000), app_id="demo", secret=SECRETS["demo"]) as call:
        with pytest.raises(ProtocolError, match="name"):
            await call.send(Mark(name=""))
        await call.hang_up()
        assert isinstance([message async for message in call][-1], Ended)


async def test_a_server_that_lost_what_it_had_acknowledged_is_found_out() -> None:
    sockets = 0

    async def forgetful(connection: ServerConnection) -> None:
        nonlocal sockets
        sockets += 1
        await connection.recv()
        if sockets > 1:
            await connection.send(encode(Resumed(samples=10, next_seq=3, call_id="c")), text=True)
            await connection.wait_closed()
            return
        started = Started(resume_token="t", resume_window_s=60, rate=8000, channels=1, limits={}, call_id="c", seq=1)
        await connection.send(encode(started), text=True)
        await connection.recv()
        await connection.send(encode(Ack(samples=100, call_id="c", seq=2)), text=True)

    async with serve(forgetful, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/calls"
        async with CallClient(url, Start(rate=8000), app_id="demo", secret="s") as call:
            await call.send_audio(bytes(200))
            with pytest.raises(CallLost, match="acknowledged 100 samples and now has 10"):
                [message async for message in call]


async def test_a_handshake_that_breaks_off_on_the_way_back_is_tried_again(world: World) -> None:
    async with CallClient(world.url, Start(rate=8000), app_id="demo", secret=SECRETS["demo"]) as call:
        await call.send_audio(SPEECH)
        broken = 0

        async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal broken
            broken += 1
            writer.close()
            call._urls = [world.url]  # the next try finds the server in its place

        async with await asyncio.start_server(break_off, "127.0.0.1", 0) as dying:
            call._urls = [f"ws://127.0.0.1:{dying.sockets[0].getsockname()[1]}/v1/calls"]
            world.cut_connections()
            await call.hang_up()
            assert isinstance([message async for message in call][-1], Ended)
        assert broken == 1
    assert world.recorded_pcm(call.call_id) == SPEECH
