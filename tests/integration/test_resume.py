"""A call outlives its sockets: resuming on a new one, by hand and by the client SDK."""

import asyncio
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from protocol.client import CallClient, CallLost, CallRefused
from protocol.codec import SUBPROTOCOL, encode, encode_framed
from protocol.errors import ProtocolError
from protocol.messages import (
    Ack,
    Ended,
    Error,
    Gap,
    Hangup,
    Replaced,
    Resume,
    Resumed,
    Segment,
    ServerMessage,
    Start,
    Started,
)
from tests.integration.world import SECRETS, Options, Wire, World, running
from tests.unit.call.sound import silence, voice

SPEECH = silence(300) + voice(2000) + silence(1000)


def resume_of(wire: Wire, **changes: object) -> Resume:
    fields = {"call_id": wire.started.call_id, "resume_token": wire.started.resume_token, "last_seq": 1, **changes}
    return Resume(**fields)  # type: ignore[arg-type]


async def test_a_new_socket_takes_the_call_over_and_the_old_one_closes_as_replaced(world: World) -> None:
    async with world.call() as first, world.wire() as second:
        await first.send(SPEECH)
        await first.until(Segment, lambda segment: segment.state == "closed")
        await second.send(resume_of(first))
        resumed = await second.until(Resumed)
        assert await first.closed() == (1000, "replaced")
        await second.send(SPEECH)
        await second.send(Hangup())
        ended = await second.until(Ended)
    replaced = first.log[-1]
    assert isinstance(replaced, Replaced)
    assert (replaced.seq, replaced.call_id) == (0, first.started.call_id)
    assert (resumed.samples, resumed.seq) == (len(SPEECH) // 2, 0)
    again = [message.seq for message in second.log if message.seq]
    assert again == sorted(set(again))
    assert second.logged(Segment)[:2] == first.logged(Segment)
    assert ended.samples == len(SPEECH)
    assert world.recorded_pcm(first.started.call_id) == SPEECH * 2


async def test_audio_still_unread_on_the_old_socket_is_not_recorded_twice(world: World) -> None:
    pcm = voice(20_000)
    world.confirmer.free.clear()  # the call takes 10 s, then waits; the rest stays in the buffers of the socket
    async with world.call() as first, world.wire() as second:
        for at in range(0, len(pcm), 8000):
            await first.send(pcm[at : at + 8000])
        await first.until(Ack, lambda ack: ack.samples >= 80_000)
        await second.send(resume_of(first))
        resumed = await second.until(Resumed)
        world.confirmer.free.set()
        await second.send(pcm[2 * resumed.samples :])
        await second.send(Hangup())
        await second.until(Ended)
    assert world.recorded_pcm(first.started.call_id) == pcm


async def test_only_the_newest_ack_is_sent_again(world: World) -> None:
    async with world.call() as first:
        for _ in range(3):
            await first.send(silence(100))
            await first.until(Ack)
        async with world.wire() as second:
            await second.send(resume_of(first))
            ack = await second.until(Ack)
    assert (ack.samples, ack.seq) == (2400, first.logged(Ack)[-1].seq)
    assert len(second.logged(Ack)) == 1


@pytest.mark.parametrize("wrong", [{"resume_token": "forged"}, {"call_id": "nocall"}])
async def test_a_wrong_token_resumes_nothing_and_the_call_goes_on(world: World, wrong: dict[str, str]) -> None:
    async with world.call() as first:
        async with world.wire() as second:
            await second.send(resume_of(first, **wrong))
            error = await second.until(Error)
            assert await second.closed() == (1008, "unknown_call")
        await first.send(silence(100))
        await first.until(Ack)
    assert error.code == "unknown_call"


async def test_another_app_cannot_resume_even_with_the_right_token(world: World) -> None:
    async with world.call() as first, world.wire(app_id="other") as second:
        await second.send(resume_of(first))
        error = await second.until(Error)
        await first.send(silence(100))
        await first.until(Ack)
    assert error.message == f"no call {first.started.call_id} can be resumed with this token"


async def test_a_call_whose_client_stays_away_is_hung_up_and_judged(tmp_path: Path) -> None:
    async with running(tmp_path, Options(resume_window_s=0.01)) as world:
        async with world.call() as wire:
            await wire.send(SPEECH)
            await wire.until(Ack, lambda ack: ack.samples == len(SPEECH) // 2)
        call_id = wire.started.call_id
        await world.records.judged.wait()
    assert world.records.records["demo", call_id].document["reason"] == "lost"
    assert world.recorded_pcm(call_id) == SPEECH


async def test_a_client_whose_socket_broke_before_ended_comes_back_for_it(world: World) -> None:
    async with world.call() as wire:
        await wire.send(SPEECH)
        await wire.until(Ack, lambda ack: ack.samples == len(SPEECH) // 2)
        await wire.send(Hangup())
    await world.records.judged.wait()
    async with world.wire() as late:
        await late.send(resume_of(wire))
        ended = await late.until(Ended)
    assert ended.reason == "hangup"
    assert late.logged(Resumed)


async def test_framed_audio_sent_twice_is_recorded_once(world: World) -> None:
    async with world.call(framing="framed") as first:
        await first.send(encode_framed(SPEECH, 0, 0))
        await first.until(Ack, lambda ack: ack.samples == len(SPEECH) // 2)
        async with world.wire() as second:
            await second.send(resume_of(first))
            await second.until(Resumed)
            await second.send(encode_framed(SPEECH, 0, 0))
            await second.send(encode_framed(SPEECH, 1, len(SPEECH) // 2))
            await second.send(Hangup())
            await second.until(Ended)
    assert second.logged(Gap) == []
    assert world.recorded_pcm(first.started.call_id) == SPEECH * 2


# --- the client SDK ----------------------------------------------------------------------------------------------


def client(world: World, start: Start, app_id: str = "demo") -> CallClient:
    return CallClient(world.url, start, app_id=app_id, secret=SECRETS[app_id])


async def test_the_client_sends_a_call_and_yields_each_message_once(world: World) -> None:
    log: list[ServerMessage] = []
    async with client(world, Start(rate=8000)) as call:
        await call.send_audio(SPEECH)
        await call.hang_up()
        log.extend([message async for message in call])
        assert call.acked_samples == len(SPEECH) // 2
    assert [message.seq for message in log] == list(range(1, len(log) + 1))
    assert isinstance(log[0], Started)
    assert isinstance(log[-1], Ended)
    assert world.recorded_pcm(call.call_id) == SPEECH


@pytest.mark.parametrize(("channels", "size"), [(1, 3201), (2, 1599)])
async def test_the_client_comes_back_by_itself_and_nothing_is_lost(world: World, channels: int, size: int) -> None:
    sent = bytearray()
    log: list[ServerMessage] = []
    pcm = voice(4000) + silence(2000)
    async with client(world, Start(rate=8000, channels=channels)) as call:  # type: ignore[arg-type]

        async def listen() -> None:
            log.extend([message async for message in call])

        listening = asyncio.get_running_loop().create_task(listen())
        for number, at in enumerate(range(0, len(pcm), size)):
            piece = pcm[at : at + size]
            await call.send_audio(piece)
            sent += piece
            if number % 7 == 3:
                world.cut_connections()
        await call.hang_up()
        await listening
    seqs = [message.seq for message in log if message.seq]
    assert seqs == sorted(set(seqs))
    ended = log[-1]
    assert isinstance(ended, Ended)
    assert ended.samples == len(pcm) // (2 * channels)
    assert world.recorded_pcm(call.call_id) == bytes(sent)


async def test_a_hangup_that_the_break_swallowed_is_sent_again(tmp_path: Path) -> None:
    async with running(tmp_path, Options(audio_timeout_s=60)) as world:
        async with client(world, Start(rate=8000)) as call:
            await call.send_audio(SPEECH)
            world.cut_connections()
            await call.hang_up()
            log = [message async for message in call]
        ended = log[-1]
        assert isinstance(ended, Ended)
        assert (ended.samples, ended.reason) == (len(SPEECH) // 2, "hangup")
        assert world.recorded_pcm(call.call_id) == SPEECH


async def test_a_client_with_the_wrong_secret_is_refused_with_the_server_s_code(world: World) -> None:
    with pytest.raises(CallRefused, match="access_denied") as refused:
        async with CallClient(world.url, Start(), app_id="demo", secret="wrong"):
            pass
    assert (refused.value.code, refused.value.retryable) == ("access_denied", False)


async def test_a_client_is_told_why_its_start_was_refused(world: World) -> None:
    with pytest.raises(CallRefused) as refused:
        async with client(world, Start(channels=1, roles=["agent", "customer"])):
            pass
    assert refused.value.code == "bad_message"


async def test_a_client_whose_call_another_socket_took_does_not_fight_for_it(world: World) -> None:
    async with client(world, Start(rate=8000)) as call, world.wire() as other:
        assert call.started is not None
        token = call.started.resume_token
        await other.send(Resume(call_id=call.call_id, resume_token=token, last_seq=0))
        await other.until(Resumed)
        with pytest.raises(CallLost, match="another socket"):
            [message async for message in call]
        await other.send(Hangup())
        await other.until(Ended)


async def test_a_client_hears_of_a_server_that_breaks_the_protocol() -> None:
    async def babble(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(encode(Started(
            resume_token="t", resume_window_s=60, rate=8000, channels=1, limits={}, call_id="c", seq=1
        )), text=True)  # fmt: skip
        await connection.send('{"type":"surprise"}')
        await connection.wait_closed()

    async with serve(babble, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)]) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/calls"
        async with CallClient(url, Start(), app_id="demo", secret="s") as call:
            with pytest.raises(ProtocolError, match="surprise"):
                [message async for message in call]


async def test_a_client_that_cannot_come_back_in_time_says_that_the_call_is_lost(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as world,
        CallClient(world.url, Start(rate=8000), app_id="demo", secret=SECRETS["demo"], patience_s=0) as call,
    ):
        await call.send_audio(silence(100))
        world.server.close(close_connections=False)
        world.cut_connections()
        with pytest.raises(CallLost, match="no connection within 0 s"):
            [message async for message in call]
