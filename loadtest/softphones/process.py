"""A process of softphones: takes orders on standard input, tells on standard output what they see. Run as a module."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

import uvloop

from gateway.terminal.softphone import NotAudio
from loadtest.softphones.fleet import Fleet
from loadtest.softphones.orders import (
    Finish,
    Finished,
    HangUp,
    Order,
    Prepare,
    Ready,
    SetCalls,
    Told,
    Unfit,
    Unpacking,
    order,
    packed,
)

TELL_EVERY_S: Final = 1.0


class _Orders(asyncio.Protocol):
    """What comes on standard input, in order; None when whoever gives orders is gone."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Order | None] = asyncio.Queue()
        self._unpacking = Unpacking()

    def data_received(self, data: bytes) -> None:
        for body in self._unpacking.feed(data):
            self.queue.put_nowait(order(body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.queue.put_nowait(None)


class _Answers(asyncio.BaseProtocol):
    """The pipe's end that we write to."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()

    async def close(self, pipe: asyncio.WriteTransport) -> None:
        """Everything said has gone out, or nobody takes it any more."""
        pipe.close()
        await self._closed.wait()


async def carry_out(tell_to: int) -> None:
    """Everything, from the first order to the last."""
    loop = asyncio.get_running_loop()
    _, orders = await loop.connect_read_pipe(_Orders, sys.stdin)
    pipe, answers = await loop.connect_write_pipe(_Answers, os.fdopen(tell_to, "wb"))

    def tell(message: Told) -> None:
        pipe.write(packed(message))

    plan = await orders.queue.get()
    if not isinstance(plan, Prepare):
        return
    try:
        fleet = Fleet(plan)
        await fleet.__aenter__()
    except (NotAudio, OSError) as fault:
        tell(Unfit(reason=str(fault)))
        await answers.close(pipe)
        return
    # What is made by now stays: the collector need not look at a hundred thousand frames again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    tell(Ready(cpu_s=time.process_time()))
    try:
        await _obey(fleet, orders.queue, tell)
    finally:
        await fleet.__aexit__()
    tell(fleet.second())
    for outcome in fleet.outcomes:
        tell(outcome)
    tell(Finished())
    await answers.close(pipe)


async def _obey(fleet: Fleet, orders: asyncio.Queue[Order | None], tell: Callable[[Told], None]) -> None:
    telling = asyncio.create_task(_tell_seconds(fleet, tell))
    try:
        while True:
            match await orders.get():
                case SetCalls(calls=calls, over_s=over_s):
                    fleet.set_calls(calls, over_s)
                case HangUp(within_s=within_s):
                    fleet.hang_up(within_s)
                case Finish() | None:
                    return
                case Prepare():
                    raise AssertionError("prepared already")
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _tell_seconds(fleet: Fleet, tell: Callable[[Told], None]) -> None:
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        if fleet.fault is not None:
            tell(Unfit(reason=f"a fault of the harness: {fleet.fault!r}"))
        tell(fleet.second())


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then says what to do
    tell_to = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not print into the orders' answers
    uvloop.run(carry_out(tell_to))


if __name__ == "__main__":
    main()
