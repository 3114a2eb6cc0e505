"""Places for calls are given once, whoever asks, and taken back when it matters."""

from __future__ import annotations

import asyncio

import pytest

from gateway.ports import Unavailable
from gateway.session.admission import Limits
from gateway.workers import limits
from gateway.workers.limits import LinkedPlaces, PlacesGiven
from gateway.workers.questions import GOING_ON, TAKE_PLACE, GoingOn, Place
from gateway.workers.wire import Nothing
from protocol.errors import ProtocolError
from tests.unit.workers.links import linked


class Worker:
    """What a worker has going on, as it says when asked."""

    def __init__(self) -> None:
        self.apps: dict[str, str] = {}
        self.asked = 0
        self.answers = True
        self.whole = True
        self.hangs = False

    async def count(self) -> GoingOn:
        self.asked += 1
        if not self.answers:
            raise Unavailable("it is gone")
        if self.hangs:
            await asyncio.Event().wait()
        return GoingOn(dict(self.apps), whole=self.whole)


def book(most: int, most_per_app: int = 0) -> tuple[PlacesGiven, Worker, Worker]:
    places, one, two = PlacesGiven(Limits(most, 60, most_per_app)), Worker(), Worker()
    places.join(1, one.count)
    places.join(2, two.count)
    return places, one, two


async def begin(places: PlacesGiven, worker: int, at: Worker, app_id: str, call_id: str) -> None:
    await places.take(worker, Place(app_id, call_id))
    at.apps[call_id] = app_id


async def refused(places: PlacesGiven, app_id: str) -> str:
    with pytest.raises(ProtocolError) as refusal:
        await places.take(1, Place(app_id, "one more"))
    return refusal.value.code


async def test_a_worker_that_goes_as_it_is_about_to_be_asked_costs_nobody_a_place() -> None:
    places, _, two = book(3)
    two.answers = False
    taking = asyncio.create_task(places.take(1, Place("shop", "a")))
    await asyncio.sleep(0)
    places.leave(2)
    await taking


async def test_the_limit_is_of_all_workers_and_nobody_is_asked_twice_below_it() -> None:
    places, one, two = book(3)
    await begin(places, 1, one, "shop", "a")
    await begin(places, 2, two, "shop", "b")
    await begin(places, 2, two, "bank", "c")
    assert (one.asked, two.asked) == (1, 1)
    assert await refused(places, "shop") == "overloaded"
    del two.apps["b"]
    await begin(places, 1, one, "shop", "d")
    assert await refused(places, "bank") == "overloaded"


async def test_an_app_has_its_own_limit() -> None:
    places, one, two = book(10, most_per_app=2)
    await begin(places, 1, one, "shop", "a")
    await begin(places, 2, two, "shop", "b")
    assert await refused(places, "shop") == "too_many_calls"
    await begin(places, 1, one, "bank", "c")


async def test_what_a_dead_worker_had_counts_until_its_successor_says_otherwise() -> None:
    places, one, two = book(2)
    await begin(places, 1, one, "shop", "a")
    await begin(places, 2, two, "shop", "b")
    two.answers = False
    places.leave(2)
    assert await refused(places, "shop") == "overloaded"
    successor = Worker()
    places.join(2, successor.count)
    await begin(places, 1, one, "shop", "c")


async def test_calls_that_a_worker_has_taken_up_have_their_places() -> None:
    places, one, two = book(3)
    one.whole = False
    one.apps["left"] = "shop"
    await begin(places, 2, two, "shop", "a")
    one.apps["left too"] = "shop"  # which took longer to rebuild
    assert await refused(places, "shop") == "overloaded"
    one.whole = True
    del one.apps["left"]
    await places.take(2, Place("shop", "b"))


async def test_a_worker_that_hangs_does_not_hold_up_all_who_want_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COUNT_TIMEOUT_S", 0.01)
    places, one, two = book(1)
    await begin(places, 1, one, "shop", "a")
    one.hangs = True
    for _ in range(3):
        assert await refused(places, "shop") == "overloaded"
    assert (one.asked, two.asked) == (2, 4)


async def test_a_burst_over_links_gets_as_many_places_as_there_are() -> None:
    places = PlacesGiven(Limits(5, 60))
    async with linked() as (main, worker):

        async def take(asked: Place) -> Nothing:
            await places.take(1, asked)
            return Nothing()

        live: dict[str, str] = {}
        own = LinkedPlaces(worker, lambda: live)

        async def count(_: Nothing) -> GoingOn:
            return GoingOn(own.count())

        main.answers(TAKE_PLACE, take)
        worker.answers(GOING_ON, count)
        places.join(1, lambda: main.ask(GOING_ON, Nothing()))
        main.listen()
        worker.listen()

        async def opened(call_id: str) -> bool:
            try:
                await own.take("shop", call_id)
            except ProtocolError:
                return False
            await asyncio.sleep(0)  # as long as opening takes
            live[call_id] = "shop"
            own.settle(call_id)
            return True

        outcomes = await asyncio.gather(*(opened(f"call{number}") for number in range(30)))
        assert sum(outcomes) == 5
        live.clear()
        assert await opened("later")
