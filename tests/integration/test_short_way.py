"""Audio is taken where its frame is parsed; what a call makes of it is what it made of it as a message."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from gateway.doors.hearing import Hearing
from protocol.codec import encode, encode_framed
from protocol.messages import Ack, ClientMessage, Continue, Ended, Error, Hangup, Mark, Pause, Ping, Pong
from tests.integration.world import World
from tests.unit.call.sound import silence, voice


def together(*said: bytes | ClientMessage) -> bytes:
    """Messages as the bytes of one packet."""
    frames = [Frame(Opcode.BINARY, one) if isinstance(one, bytes) else Frame(Opcode.TEXT, encode(one)) for one in said]
    return b"".join(frame.serialize(mask=True) for frame in frames)


async def test_plain_audio_never_becomes_a_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hear(self: Hearing, payload: bytes) -> None:
        raise AssertionError("went the long way")

    async with world.call() as wire:
        await wire.send(Ping(id="the conversation listens"))
        await wire.until(Pong)
        monkeypatch.setattr(Hearing, "hear", hear)
        for _ in range(20):
            await wire.send(silence(100))
        ack = await wire.until(Ack, lambda ack: ack.samples >= 16000)
    assert ack.samples <= 32000


async def test_what_comes_in_one_packet_is_taken_in_its_order(world: World) -> None:
    before, inside, after = voice(500), voice(300, seed=2), voice(400, seed=3)
    async with world.call() as wire:
        wire.connection.transport.write(
            together(before, Pause(), inside, Continue(), after, Mark(name="end of the packet"), Hangup())
        )
        ended = await wire.until(Ended)
    assert ended.duration_ms == 1200
    assert world.recorded_pcm(wire.started.call_id) == before + bytes(len(inside)) + after


async def test_fragments_and_whole_frames_are_taken_in_their_order(world: World) -> None:
    one, two, three = voice(200), voice(300, seed=2), voice(400, seed=3)
    halves = [Frame(Opcode.BINARY, two[:5000], fin=False), Frame(Opcode.CONT, two[5000:])]
    async with world.call() as wire:
        wire.connection.transport.write(
            together(one) + b"".join(half.serialize(mask=True) for half in halves) + together(three, Hangup())
        )
        await wire.until(Ended)
    assert world.recorded_pcm(wire.started.call_id) == one + two + three


async def test_audio_that_cannot_be_true_closes_the_call_s_socket_with_its_code(world: World) -> None:
    async with world.call(framing="framed") as wire:
        await wire.send(Ping(id="the conversation listens"))
        await wire.until(Pong)
        await wire.send(encode_framed(silence(20), 0, 0))
        await wire.send(encode_framed(silence(20), 1, 16000 * 3600))
        await wire.send(encode_framed(silence(20), 2, 320))
        assert (await wire.closed())[1] == "bad_audio"
    (error,) = wire.logged(Error)
    assert "over 120 s missing" in error.message
