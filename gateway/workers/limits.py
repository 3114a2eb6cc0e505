"""Limits on calls that hold over all workers: the main process gives the places."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping

from gateway.ports import Unavailable
from gateway.session.admission import Limits, no_place, no_place_for
from gateway.workers.link import Link, LinkFault
from gateway.workers.questions import TAKE_PLACE, GoingOn, Place
from protocol.errors import ProtocolError

COUNT_TIMEOUT_S = 2.0
"""How long a worker may take to say what is going on there; then what was last known of it counts."""
UNASKED_S = 10.0
"""So long after that it is not asked again: everybody who wants a place would wait for it, one after another."""


class LinkedPlaces:
    """Fills the role Places in a worker."""

    def __init__(self, link: Link, going_on: Callable[[], Mapping[str, str]]) -> None:
        """`going_on`: whose each call is, by call id, of those in memory that still take audio."""
        self._link = link
        self._going_on = going_on
        self._taking: dict[str, str] = {}

    async def take(self, app_id: str, call_id: str) -> None:
        try:
            await self._link.ask(TAKE_PLACE, Place(app_id, call_id))
        except (Unavailable, LinkFault) as fault:
            raise ProtocolError("overloaded", f"the server cannot count its calls right now: {fault}") from fault
        # In the very step in which the answer is taken: whoever is asked to `count` after it was given has it.
        self._taking[call_id] = app_id

    def settle(self, call_id: str) -> None:
        self._taking.pop(call_id, None)

    def count(self) -> Mapping[str, str]:
        """Whose each call is that takes a place here now, by call id."""
        return {**self._going_on(), **self._taking}


class PlacesGiven:
    """The main process's book of places.

    A place that was given counts until its worker says otherwise, and workers are asked only when it matters: when
    there seems to be no place, and when one has begun: it has taken up calls that an earlier process left. So a
    refusal is right as of its moment, and an admission costs no more than one question. What a worker that died had
    counts until its successor has said what it took up.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._given: dict[int, dict[str, str]] = {}
        self._counting: dict[int, Callable[[], Awaitable[GoingOn]]] = {}
        self._uncounted: set[int] = set()
        """Workers that may have taken up calls of which nothing is known here."""
        self._unasked_until_s: dict[int, float] = {}
        self._turn = asyncio.Lock()

    def join(self, worker: int, count: Callable[[], Awaitable[GoingOn]]) -> None:
        """A worker can be asked from here on."""
        self._given.setdefault(worker, {})
        self._counting[worker] = count
        self._uncounted.add(worker)
        self._unasked_until_s.pop(worker, None)

    def leave(self, worker: int) -> None:
        self._counting.pop(worker, None)

    async def take(self, worker: int, place: Place) -> None:
        """Give a call its place. Raises ProtocolError (`overloaded`, `too_many_calls`)."""
        async with self._turn:  # nothing is given while workers are asked: their answers would lack it
            if self._uncounted:
                await self._count(self._uncounted)
            if self._refusal(place, worker) is not None:
                await self._count(self._counting)
            refusal = self._refusal(place, worker)
            if refusal is not None:
                raise refusal
            self._given.setdefault(worker, {})[place.call_id] = place.app_id

    def _refusal(self, place: Place, worker: int) -> ProtocolError | None:
        others = Counter[str]()
        for number, given in self._given.items():
            others.update(app_id for call_id, app_id in given.items() if (number, call_id) != (worker, place.call_id))
        if others.total() >= self._limits.max_calls:
            return no_place(others.total())
        most = self._limits.max_calls_per_app
        if most and others[place.app_id] >= most:
            return no_place_for(place.app_id, others[place.app_id])
        return None

    async def _count(self, workers: Collection[int]) -> None:
        now_s = asyncio.get_running_loop().time()
        asked = [
            (worker, self._counting[worker])
            for worker in workers
            if worker in self._counting and self._unasked_until_s.get(worker, now_s) <= now_s
        ]
        await asyncio.gather(*(self._count_one(worker, count) for worker, count in asked))

    async def _count_one(self, worker: int, count: Callable[[], Awaitable[GoingOn]]) -> None:
        try:
            async with asyncio.timeout(COUNT_TIMEOUT_S):
                told = await count()
        except TimeoutError:
            self._unasked_until_s[worker] = asyncio.get_running_loop().time() + UNASKED_S
        except (Unavailable, LinkFault):
            pass  # what was known of it counts
        else:
            # What is still to be taken up is among what was known, if anything was.
            self._given[worker] = dict(told.apps) if told.whole else {**self._given[worker], **told.apps}
            if told.whole:
                self._uncounted.discard(worker)
