"""What crosses between the main process and a worker arrives whole, in order, and as the fault that it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import Rejected, Unavailable
from gateway.workers.link import LinkFault
from gateway.workers.wire import (
    LENGTH,
    MAX_FRAME_BYTES,
    Answered,
    Asked,
    BadFrame,
    Frame,
    FrameReader,
    GivenUp,
    Notice,
    Question,
    Refused,
    Told,
    framed,
    packed,
)
from protocol.errors import ProtocolError
from tests.unit.workers.links import linked

ECHO = Question("echo", bytes, bytes)
NOTE = Notice("note", int)

FRAMES = st.one_of(
    st.builds(Asked, st.integers(0, 2**40), st.text(), st.binary().map(packed)),
    st.builds(Answered, st.integers(0, 2**40), st.dictionaries(st.text(), st.integers(-5, 5)).map(packed)),
    st.builds(GivenUp, st.integers(0, 2**40)),
    st.builds(Told, st.text(), st.lists(st.floats(allow_nan=False)).map(packed)),
    st.builds(Refused, st.integers(0, 9), st.just("unavailable"), st.text(), st.text(), st.none() | st.floats(0, 9)),
)


@given(st.lists(FRAMES), st.lists(st.integers(1, 50)))
def test_frames_are_read_however_their_bytes_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(framed(frame) for frame in frames)
    reader, read, begin = FrameReader(), list[Frame](), 0
    for size in [*cuts, len(data)]:
        read += reader.feed(data[begin : begin + size])
        begin += size
    assert [msgspec.msgpack.encode(frame) for frame in read] == [msgspec.msgpack.encode(frame) for frame in frames]


@pytest.mark.parametrize("data", [LENGTH.pack(MAX_FRAME_BYTES + 1), LENGTH.pack(3) + b"abc"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        list(FrameReader().feed(data))


async def test_either_side_asks_the_other_and_many_questions_cross() -> None:
    async with linked() as (main, worker):

        async def echo(body: bytes) -> bytes:
            return body[::-1]

        for end in (main, worker):
            end.answers(ECHO, echo)
            end.listen()
        large = bytes(range(256)) * 20_000  # more than a socket takes at once
        questions = [large, *(b"%d!" % number for number in range(200))]
        for end in (main, worker):
            answers = await asyncio.gather(*(end.ask(ECHO, body) for body in questions))
            assert answers == [body[::-1] for body in questions]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Unavailable("busy", retry_after_s=2.5), lambda got: got.retry_after_s == 2.5),
        (Rejected("too poor", code="10107"), lambda got: got.code == "10107"),
        (ProtocolError("too_many_calls", "ten"), lambda got: (got.code, got.message) == ("too_many_calls", "ten")),
        (OSError(28, "No space left on device"), lambda got: got.errno == 28),
    ],
)
async def test_a_fault_is_raised_where_it_was_asked_for(fault: Exception, told: Callable[[Exception], bool]) -> None:
    async with linked() as (main, worker):

        async def fail(_: bytes) -> bytes:
            raise fault

        main.answers(ECHO, fail)
        main.listen()
        worker.listen()
        with pytest.raises(type(fault)) as raised:
            await worker.ask(ECHO, b"")
        assert told(raised.value)


async def test_a_fault_that_should_not_be_is_told_apart_and_harms_no_other_question() -> None:
    async with linked() as (main, worker):

        async def fail_at_times(body: bytes) -> bytes:
            if not body:
                raise KeyError("nothing")
            return body

        main.answers(ECHO, fail_at_times)
        main.listen()
        worker.listen()
        with pytest.raises(LinkFault, match="KeyError"):
            await worker.ask(ECHO, b"")
        with pytest.raises(LinkFault):
            await worker.ask(Question("nobody knows", bytes, bytes), b"")
        assert await worker.ask(ECHO, b"well") == b"well"


async def test_who_gives_up_ends_the_work_that_was_asked_for() -> None:
    async with linked() as (main, worker):
        begun, ended = asyncio.Event(), asyncio.Event()

        async def never(_: bytes) -> bytes:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return b""

        main.answers(ECHO, never)
        main.listen()
        worker.listen()
        asking = asyncio.create_task(worker.ask(ECHO, b""))
        await begun.wait()
        asking.cancel()
        async with asyncio.timeout(10):
            await ended.wait()


async def test_when_one_side_goes_the_other_knows_and_works_for_it_no_more() -> None:
    async with linked() as (main, worker):
        begun, ended = asyncio.Event(), asyncio.Event()

        async def never(_: bytes) -> bytes:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return b""

        main.answers(ECHO, never)
        main.listen()
        worker.listen()
        asking = asyncio.create_task(worker.ask(ECHO, b""))
        await begun.wait()
        worker.close()
        with pytest.raises(Unavailable):
            await asking
        async with asyncio.timeout(10):
            await ended.wait()
        with pytest.raises(Unavailable):
            await main.ask(ECHO, b"")


async def test_notices_come_in_order_also_those_from_before_anybody_listened() -> None:
    async with linked() as (main, worker):
        heard: list[int] = []
        last = asyncio.Event()

        def hear(number: int) -> None:
            heard.append(number)
            if number == 3:
                raise ValueError("of this notice alone")
            if number == 9:
                last.set()

        for number in range(5):
            worker.tell(NOTE, number)
        main.hears(NOTE, hear)
        main.listen()
        worker.listen()
        for number in range(5, 10):
            worker.tell(NOTE, number)
        async with asyncio.timeout(10):
            await last.wait()
        assert heard == list(range(10))


async def test_a_peer_that_is_not_one_of_ours_is_cut_off() -> None:
    async with linked() as (main, worker):
        main.listen()
        assert worker._transport is not None
        worker._transport.write(b"GET / HTTP/1.1\r\n\r\n" * 20)
        async with asyncio.timeout(10):
            await main.gone.wait()
