"""When a peer that answers no ping is given up."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

from websockets.asyncio.server import ServerConnection

from gateway.doors.connection import keep_alive
from gateway.doors.limits import DoorLimits

LIMITS = DoorLimits(10, 15, 3600, ping_interval_s=0.001, ping_timeout_s=0.001)


class Peer:
    """Answers a ping, leaves it unanswered, or does not even take it; `answers` says which, one for each ping."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.closed = ""
        self.aborted = False
        self.transport = SimpleNamespace(abort=self.abort)

    def abort(self) -> None:
        self.aborted = True

    async def ping(self) -> asyncio.Future[float]:
        answer = self.answers.pop(0)
        if answer == "stuck":
            await asyncio.get_running_loop().create_future()
        pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        if answer == "pong":
            pong.set_result(0.0)
        return pong

    async def close(self, code: int, reason: str) -> None:
        self.closed = f"{code} {reason}"


async def watched(peer: Peer, held: Callable[[], bool] = lambda: False) -> None:
    async with asyncio.timeout(20):
        await keep_alive(cast(ServerConnection, peer), LIMITS, held)


async def test_a_peer_that_answers_is_asked_again_and_one_that_does_not_is_closed() -> None:
    peer = Peer("pong", "pong", "silence")
    await watched(peer)
    assert peer.answers == []
    assert peer.closed == "1011 keepalive ping timeout"
    assert peer.aborted


async def test_a_peer_that_takes_no_ping_is_closed_too() -> None:
    peer = Peer("stuck")
    await watched(peer)
    assert peer.closed
    assert peer.aborted


async def test_while_nothing_is_read_no_answer_is_missed() -> None:
    peer, asked = Peer("silence"), iter([True, True, True, False])
    await watched(peer, lambda: next(asked))
    assert list(asked) == [], "it waited for as long as nothing was read"
    assert peer.closed


async def test_a_ping_that_was_not_taken_while_nothing_was_read_is_tried_again() -> None:
    peer, asked = Peer("stuck", "pong", "silence"), iter([True, False])
    await watched(peer, lambda: next(asked))
    assert peer.answers == []
