"""What every bus between processes promises. Another kind joins by one more entry in `FLEETS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socket import socketpair

import pytest

from gateway.ports import Unavailable
from gateway.ports.bus import Bus
from gateway.stores.redis_bus import MAX_QUEUED, RedisBus
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.solitary_bus import SolitaryBus
from gateway.workers.bus import HubBus, LinkedBus
from gateway.workers.link import Link
from tests.redis_server import RedisServer

PATIENCE_S = 10.0
"""How long something may take that is sure to happen."""


@dataclass
class Fleet:
    """Processes on one bus: `join` makes the bus of one more, ready to hear and be heard."""

    join: Callable[[], Awaitable[Bus]]
    dropped: list[int] = field(default_factory=list)
    """How many payloads each drop took, of all of them."""
    interrupt: Callable[[], None] | None = None
    """Breaks every connection between them and lets them find each other again; None where there is none."""


@asynccontextmanager
async def through_redis(folder: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as begun:
        server = begun.enter_context(RedisServer(folder))
        dropped: list[int] = []

        async def join() -> Bus:
            connection = RedisConnection(server.url)
            begun.push_async_callback(connection.close)
            bus = RedisBus(connection, on_dropped=dropped.append)
            bus.start()
            begun.push_async_callback(bus.stop)
            return bus

        def restart() -> None:
            server.kill()
            server.start()

        yield Fleet(join, dropped, restart)


async def through_links(folder: Path) -> AsyncIterator[Fleet]:
    """Workers of one server, around its main process."""
    async with AsyncExitStack() as begun:
        hub, dropped = HubBus(), list[int]()
        yield Fleet(partial(joined, hub, dropped, begun), dropped)


async def through_links_and_at_the_hub(folder: Path) -> AsyncIterator[Fleet]:
    """As above; the first to join is the main process itself."""
    async with AsyncExitStack() as begun:
        hub, dropped = HubBus(), list[int]()
        first = iter([hub])

        async def join() -> Bus:
            return next(first, None) or await joined(hub, dropped, begun)

        yield Fleet(join, dropped)


async def joined(hub: HubBus, dropped: list[int], begun: AsyncExitStack) -> Bus:
    """One worker more."""
    hubs_end, workers_end = socketpair()
    at_hub = await Link.over(hubs_end, "a worker", dropped.append)
    at_worker = await Link.over(workers_end, "the main process", dropped.append)
    begun.callback(at_hub.close)
    begun.callback(at_worker.close)
    hub.join(at_hub)
    bus = LinkedBus(at_worker)
    at_hub.listen()
    at_worker.listen()
    return bus


FLEETS: dict[str, Callable[[Path], AbstractAsyncContextManager[Fleet]]] = {
    "redis": through_redis,
    "workers": asynccontextmanager(through_links),
    "workers and their hub": asynccontextmanager(through_links_and_at_the_hub),
}


@pytest.fixture(params=sorted(FLEETS))
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with FLEETS[request.param](tmp_path / "fleet") as made:
        yield made


class Ear:
    """Hears one topic, one payload at a time."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.hear = self._heard.put_nowait

    async def next(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self._heard.get()

    @property
    def waiting(self) -> int:
        return self._heard.qsize()


async def listening(bus: Bus, topic: str) -> Ear:
    ear = Ear()
    await bus.subscribe(topic, ear.hear)
    return ear


async def answered(bus: Bus, question: str, payload: bytes) -> bytes:
    """The answer, once the others have got as far as to hear the question."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                answer = await bus.ask(question, payload, timeout_s=PATIENCE_S)
            except Unavailable:
                answer = None
            if answer is not None:
                return answer
            await asyncio.sleep(0)


def says(text: bytes) -> Callable[[bytes], Awaitable[bytes | None]]:
    async def answer(payload: bytes) -> bytes | None:
        return text + b" to " + payload

    return answer


async def knows_nothing(payload: bytes) -> bytes | None:
    return None


async def test_what_one_publishes_every_other_listener_hears_in_order_and_whole(fleet: Fleet) -> None:
    a, b, c = await fleet.join(), await fleet.join(), await fleet.join()
    at_b, at_c = await listening(b, "calls/shop"), await listening(c, "calls/shop")
    payloads = [bytes([number]) * (number * 100) + b"\r\n\x00" for number in range(50)]
    for payload in payloads:
        a.publish("calls/shop", payload)
    for ear in (at_b, at_c):
        assert [await ear.next() for _ in payloads] == payloads


async def test_a_process_does_not_hear_itself(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    at_a, at_b = await listening(a, "t"), await listening(b, "t")
    a.publish("t", b"mine")
    assert await at_b.next() == b"mine"
    b.publish("t", b"theirs")
    assert await at_a.next() == b"theirs"
    assert at_a.waiting == 0


async def test_topics_are_kept_apart_even_when_one_begins_like_another(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    ear, other = await listening(b, "calls/shop"), await listening(b, "calls/shop2 ü*")
    a.publish("calls/shop2 ü*", b"second")
    a.publish("calls/shop", b"first")
    assert await ear.next() == b"first"
    assert await other.next() == b"second"
    assert ear.waiting == other.waiting == 0


async def test_two_listeners_in_a_process_hear_the_same_and_leave_one_by_one(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    first, second = Ear(), Ear()
    subscription = await b.subscribe("t", first.hear)
    await b.subscribe("t", second.hear)
    a.publish("t", b"both")
    assert await first.next() == await second.next() == b"both"
    await subscription.close()
    await subscription.close()
    a.publish("t", b"one")
    assert await second.next() == b"one"
    assert first.waiting == 0


async def test_who_has_left_a_topic_may_come_back_to_it_at_once(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    for number in range(20):
        ear = Ear()
        subscription = await b.subscribe("t", ear.hear)
        a.publish("t", b"%d" % number)
        assert await ear.next() == b"%d" % number
        await subscription.close()


async def test_a_listener_that_fails_costs_no_other_anything(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()

    def fail(payload: bytes) -> None:
        raise ValueError(payload)

    await b.subscribe("t", fail)
    ear = await listening(b, "t")
    a.publish("t", b"one")
    a.publish("t", b"two")
    assert [await ear.next(), await ear.next()] == [b"one", b"two"]


async def test_a_question_gets_the_answer_of_the_one_who_knows(fleet: Fleet) -> None:
    a, b, c = await fleet.join(), await fleet.join(), await fleet.join()
    b.answers("who has it", knows_nothing)
    c.answers("who has it", says(b"c"))
    assert await answered(a, "who has it", b"x\x00y") == b"c to x\x00y"


async def test_nobody_asks_itself(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    a.answers("q", says(b"a"))
    b.answers("q", says(b"b"))
    assert await answered(a, "q", b"1") == b"b to 1"
    assert await answered(b, "q", b"2") == b"a to 2"


async def test_all_answers_come_and_nobody_is_waited_for_who_has_none(fleet: Fleet) -> None:
    a, b, c, d = [await fleet.join() for _ in range(4)]
    a.answers("q", says(b"a"))
    b.answers("q", says(b"b"))
    c.answers("q", says(b"c"))
    d.answers("q", knows_nothing)
    async with asyncio.timeout(PATIENCE_S):  # far less than the question may take
        everybody, answers = {b"a to ?", b"b to ?", b"c to ?"}, set[bytes]()
        while answers != everybody:  # not all of them hear the question yet
            answers = set(await d.ask_all("q", b"?", timeout_s=100 * PATIENCE_S))


async def test_a_question_that_nobody_answers_ends_without_an_answer(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    await listening(a, "ready")
    b.answers("q", knows_nothing)
    async with asyncio.timeout(PATIENCE_S):
        assert await a.ask("no such question", b"", timeout_s=100 * PATIENCE_S) is None
        assert await a.ask_all("no such question", b"", timeout_s=100 * PATIENCE_S) == []


async def test_one_who_does_not_answer_is_waited_for_no_longer_than_asked(fleet: Fleet) -> None:
    a, b, c = await fleet.join(), await fleet.join(), await fleet.join()
    asked = asyncio.Event()

    async def never(payload: bytes) -> bytes | None:
        asked.set()
        await asyncio.Event().wait()
        return b"never"

    c.answers("q", says(b"c"))
    assert await answered(a, "q", b"") == b"c to "
    b.answers("q", never)
    while not asked.is_set():
        assert await a.ask_all("q", b"", timeout_s=0.2) == [b"c to "]


async def test_an_answerer_that_fails_is_one_who_does_not_know(fleet: Fleet) -> None:
    a, b, c = await fleet.join(), await fleet.join(), await fleet.join()

    async def fail(payload: bytes) -> bytes | None:
        raise ValueError(payload)

    b.answers("q", fail)
    c.answers("q", says(b"c"))
    assert await answered(a, "q", b"") == b"c to "
    async with asyncio.timeout(PATIENCE_S):
        assert await a.ask_all("q", b"", timeout_s=100 * PATIENCE_S) == [b"c to "]


async def test_many_questions_at_once_each_get_their_own_answer(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    b.answers("q", says(b"b"))
    await answered(a, "q", b"")
    answers = await asyncio.gather(*(a.ask("q", b"%d" % number, timeout_s=PATIENCE_S) for number in range(100)))
    assert answers == [b"b to %d" % number for number in range(100)]


async def test_a_question_that_is_given_up_does_no_harm_to_the_next(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    b.answers("q", says(b"b"))
    await answered(a, "q", b"")
    for number in range(30):
        given_up = asyncio.create_task(a.ask("q", b"gone", timeout_s=PATIENCE_S))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert await a.ask("q", b"%d" % number, timeout_s=PATIENCE_S) == b"b to %d" % number


async def test_what_is_too_much_to_be_told_is_dropped_and_counted_and_nobody_waits(fleet: Fleet) -> None:
    a, b = await fleet.join(), await fleet.join()
    ear = await listening(b, "t")
    await listening(a, "ready")
    published = MAX_QUEUED * 2
    for number in range(published):
        a.publish("t", b"%d" % number)  # the loop does not get a turn, so nothing can be told meanwhile
    assert sum(fleet.dropped) > 0
    told = [await ear.next() for _ in range(published - sum(fleet.dropped))]
    assert told == [b"%d" % number for number in range(len(told))]


async def test_a_bus_that_was_interrupted_is_heard_again(fleet: Fleet) -> None:
    if fleet.interrupt is None:
        pytest.skip("there is nothing to interrupt")
    a, b = await fleet.join(), await fleet.join()
    ear = await listening(b, "t")
    b.answers("q", says(b"b"))
    await answered(a, "q", b"")
    fleet.interrupt()
    assert await answered(a, "q", b"again") == b"b to again"
    late = await listening(b, "late")
    for topic, heard in (("late", late), ("t", ear)):
        await _told_until_heard(a, topic, heard)


async def _told_until_heard(bus: Bus, topic: str, ear: Ear) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while ear.waiting == 0:
            bus.publish(topic, b"still there?")
            await asyncio.sleep(0.01)


async def test_a_bus_without_others_says_so_and_asks_nobody() -> None:
    bus = SolitaryBus()
    assert bus.alone
    ear = Ear()
    subscription = await bus.subscribe("t", ear.hear)
    bus.answers("q", says(b"me"))
    bus.publish("t", b"?")
    assert await bus.ask("q", b"", timeout_s=PATIENCE_S) is None
    assert await bus.ask_all("q", b"", timeout_s=PATIENCE_S) == []
    assert ear.waiting == 0
    await subscription.close()


async def test_others_are_said_to_be_possible_where_they_are(fleet: Fleet) -> None:
    assert not (await fleet.join()).alone


async def test_databases_of_one_redis_do_not_hear_each_other(tmp_path: Path) -> None:
    async with AsyncExitStack() as begun:
        server = begun.enter_context(RedisServer(tmp_path))
        buses = []
        for database in (0, 1, 1):
            connection = RedisConnection(f"{server.url}?db={database}")
            begun.push_async_callback(connection.close)
            bus = RedisBus(connection)
            bus.start()
            begun.push_async_callback(bus.stop)
            buses.append(bus)
        ear, foreign = await listening(buses[1], "t"), await listening(buses[0], "t")
        buses[2].publish("t", b"ours")
        assert await ear.next() == b"ours"
        buses[0].publish("t", b"yours")
        buses[2].publish("t", b"ours again")
        assert await ear.next() == b"ours again"
        assert foreign.waiting == 0


async def test_without_redis_a_question_says_that_it_could_not_be_asked(tmp_path: Path) -> None:
    connection = RedisConnection(f"unix://{tmp_path / 'nowhere.sock'}")
    bus = RedisBus(connection)
    bus.start()
    try:
        with pytest.raises(Unavailable):
            await bus.ask("q", b"", timeout_s=0.05)
    finally:
        await bus.stop()
        await connection.close()
