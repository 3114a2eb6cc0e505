"""Which calls are this node's: leases taken, renewed, lost, and let go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog

from gateway.ports import CallLeases, CallReplica, Clock, HeldCall, Lease, Progress, RuleBooks, Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")
FIRST_RETRY_S, MOST_RETRY_S = 0.2, 5.0
HAND_OVER_S = 5.0
FINISHED_KEPT = 10_000
ADOPTED_AT_ONCE = 20
"""Calls of a lost node that one look-round takes up: the other nodes want some too."""


@dataclass(slots=True)
class _Held:
    lease: Lease
    app_id: str
    header: bytes
    rules: Callable[[], Collection[str]]
    progress: Callable[[], tuple[int, int]]
    over: bool = False
    """It has hung up."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's place in its cluster."""

    lease_s: float
    resume_window_s: float
    replicated: bool
    """Acks say that audio is in the tail too."""
    alone: bool = False
    """There is no cluster: what this node does not know, nobody knows."""
    node: str = ""
    """Its name."""


class Ownership:
    """One for each node, with one task for all leases. Belongs to one event loop.

    While the registry cannot be reached, calls go on: nobody can take them over then. What must not happen twice, the
    handing in of a recording, waits until it can be asked.
    """

    def __init__(
        self,
        leases: CallLeases,
        replica: CallReplica | None,
        books: RuleBooks,
        clock: Clock,
        standing: Standing,
    ) -> None:
        self.standing = standing
        self.leases = leases
        self._replica = replica if standing.replicated else None
        self._hand_over = None if standing.replicated else replica
        self._books = books
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._began_s = clock.monotonic()
        self._stopping = asyncio.Event()
        self._finished: dict[str, None] = {}
        """Calls that are ours to hand in, however often that takes to try."""
        self._well_since_s: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._on_lost: Callable[[str], None] = lambda call_id: None

    @property
    def replica(self) -> CallReplica | None:
        return self._replica

    def start(
        self,
        on_lost: Callable[[str], None],
        on_abandoned: Callable[[str], Awaitable[None]],
        look_after: Callable[[], Awaitable[None]],
    ) -> None:
        """Renew leases from now on. `on_lost` hears of each call that is no longer ours; `on_abandoned` of those whose
        node is gone and whose client stayed away, where this node may take them up; `look_after` is called each time
        the registry was found well."""
        self._on_lost = on_lost
        self._on_abandoned = on_abandoned
        self._look_after = look_after
        self._task = asyncio.get_running_loop().create_task(self._run(), name="leases")

    def stop_waiting(self) -> None:
        """The server is going: what could not be asked until now is left to the next start."""
        self._stopping.set()

    async def hand_over(self) -> None:
        """Before the end, give other nodes all that this one has of its calls, where they do not have it already."""
        replica = self._hand_over
        if replica is None or self.standing.alone or not self._held:
            return
        held = list(self._held.values())
        for one in held:
            replica.follow(one.lease, one.app_id, one.header, whole=False)
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await asyncio.gather(*(replica.synced(one.lease.call_id, 1) for one in held))
        except (Unavailable, TimeoutError) as fault:
            log.warning("calls_not_handed_over", fault=str(fault) or f"not done within {HAND_OVER_S:g} s")

    async def stop(self) -> None:
        """Let the leases go: other nodes may take the calls up at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            await self.leases.release([held.lease for held in self._held.values()])
        except Unavailable as fault:
            log.warning("leases_run_out_by_themselves", fault=str(fault))
        self._held.clear()

    # --- one call ---

    async def open(self, call_id: str, app_id: str, header: bytes, *, most: int = 0) -> Lease:
        """Enter a new call. Raises Unavailable where its acks would have to wait for the registry anyway, Rejected when
        the app has `most` calls going on over all nodes (0: any number); while the registry is away nobody knows."""
        lease = Lease(call_id, 1)
        try:
            await self.leases.register(lease, app_id, header, most=most)
        except Unavailable as fault:
            if self.standing.replicated:
                raise
            log.warning("call_not_registered_yet", call_id=call_id, fault=str(fault))
        return lease

    async def withdraw(self, lease: Lease) -> None:
        """The call that was entered never came to be."""
        with suppress(Unavailable):  # then it is abandoned, has no tail, and is forgotten with time
            await self.leases.finish(lease)

    def hold(
        self,
        lease: Lease,
        app_id: str,
        header: bytes,
        rules: Callable[[], Collection[str]],
        progress: Callable[[], tuple[int, int]],
        *,
        whole: bool,
        done: bool = False,
    ) -> None:
        """The call is ours from here on. `progress` tells its latest seq and acked samples, `rules` the digests
        of the rules that another node needs to go on with it; `whole` as in `CallReplica.follow`; `done`: it was sealed
        already, and no other node will take it up."""
        self._held[lease.call_id] = _Held(lease, app_id, header, rules, progress)
        if self._replica is not None and not done:
            self._replica.follow(lease, app_id, header, whole=whole)

    def holds(self, call_id: str) -> bool:
        return call_id in self._held

    async def confirm(self, call_id: str) -> None:
        """Ask whether a call that we hold is ours still, and lose it if not. While the registry is away nobody can
        take it from us."""
        held = self._held.get(call_id)
        if held is None:
            return
        with suppress(Unavailable):
            renewal = await self.leases.renew([Progress(held.lease, *held.progress())])
            if call_id in renewal.lost and self._held.get(call_id) is held:
                self._lose(call_id)

    def forget(self, call_id: str) -> None:
        """The call is not ours any more, or never came to be."""
        self._held.pop(call_id, None)
        if self._replica is not None:
            self._replica.forget(call_id)

    async def note_over(self, call_id: str) -> None:
        """The call has hung up: its app may have another in its place."""
        held = self._held.get(call_id)
        if held is not None:
            held.over = True
            with suppress(Unavailable):  # then it counts until it is sealed, which comes soon
                await self.leases.note_over(held.lease)

    async def finish(self, call_id: str) -> bool:
        """Ask, until there is an answer, whether the call is ours to hand in; True for one node only, once or more.

        From then on no other node takes it up. Raises Unavailable when the server is to stop before there is one.
        """
        held = self._held.get(call_id)
        if held is None:
            return call_id in self._finished
        lease = held.lease
        ours = await self._patiently(lambda: self.leases.finish(lease), "handing_in_waits_for_the_registry", call_id)
        if ours:
            self.forget(call_id)
            self._finished[call_id] = None
            if len(self._finished) > FINISHED_KEPT:
                del self._finished[next(iter(self._finished))]
        else:
            self.lose(call_id)
        return ours

    async def reclaim(self, call_id: str, app_id: str, epoch: int) -> tuple[Lease | None, HeldCall | None]:
        """A call that our own journal has, last written under `epoch`: a lease under a higher one if nobody else took
        it meanwhile. Else None, and the call as the registry has it. Asks until there is an answer."""
        known = await self._find(call_id)
        if known is None and not self.standing.alone:
            # It may have lost its memory: whoever holds the call enters it again within the time of a lease.
            await asyncio.sleep(max(0.0, self._began_s + self.standing.lease_s - self._clock.monotonic()))
            known = await self._patiently(
                lambda: self.leases.find(call_id), "taking_up_waits_for_the_registry", call_id
            )
        if known is None:
            return Lease(call_id, epoch + 1), None
        if known.epoch > epoch:
            return None, known
        if known.done:
            return Lease(call_id, known.epoch), known
        taken = await self._patiently(
            lambda: self.leases.take_over(app_id, call_id, even_if_held=True),
            "taking_up_waits_for_the_registry",
            call_id,
        )
        if taken.outcome == "taken" and taken.call is not None:
            return Lease(call_id, taken.call.epoch), taken.call
        return None, taken.call

    async def _find(self, call_id: str) -> HeldCall | None:
        return await self._patiently(lambda: self.leases.find(call_id), "taking_up_waits_for_the_registry", call_id)

    async def _patiently(self, ask: Callable[[], Awaitable[T]], what: str, call_id: str) -> T:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                return await ask()
            except Unavailable as fault:
                if self._stopping.is_set():
                    raise
                log.warning(what, call_id=call_id, fault=str(fault))
            pause_s = random.uniform(retry_s / 2, retry_s)  # noqa: S311 - spreads nodes, hides nothing
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            retry_s = min(MOST_RETRY_S, retry_s * 2)

    # --- all calls ---

    async def _run(self) -> None:
        pause_s = self.standing.lease_s / 3
        while True:
            await asyncio.sleep(random.uniform(pause_s * 0.8, pause_s))  # noqa: S311 - spreads nodes
            try:
                await self.look_round()
            except Unavailable as fault:
                if self._well_since_s is not None:
                    log.warning("leases_not_renewed", fault=str(fault))
                self._well_since_s = None
            except Exception:
                log.exception("leases_not_renewed")
                self._well_since_s = None

    async def look_round(self) -> None:
        """Renew every lease, enter again what was forgotten, and take up what is abandoned. Raises Unavailable."""
        held = list(self._held.values())
        renewal = await self.leases.renew([Progress(one.lease, *one.progress()) for one in held])
        for one in held:
            call_id = one.lease.call_id
            if self._held.get(call_id) is not one:
                continue
            if call_id in renewal.lost:
                self._lose(call_id)
            elif call_id in renewal.unknown:
                await self._enter_again(one)
        for digest in (
            {digest for one in self._held.values() for digest in one.rules()} if not self.standing.alone else ()
        ):
            await self._share(digest)
        await self._look_after()
        now_s = self._clock.monotonic()
        if self._well_since_s is None:
            self._well_since_s = now_s
        # After an outage every lease has run out: each node gets the time of a lease to say that it is still there.
        if self.standing.replicated and now_s - self._well_since_s >= self.standing.lease_s:
            await self._take_up_abandoned()

    def lose(self, call_id: str) -> None:
        """The tail says that another node has the call."""
        if call_id in self._held:
            self._lose(call_id)

    def _lose(self, call_id: str) -> None:
        self._held.pop(call_id, None)
        log.warning("call_taken_over_by_another_node", call_id=call_id)
        self._on_lost(call_id)
        if self._replica is not None:
            self._replica.forget(call_id)

    async def _enter_again(self, one: _Held) -> None:
        if self._replica is not None:
            self._replica.send_again(one.lease.call_id)
        elif not await self.leases.register(one.lease, one.app_id, one.header):
            self._lose(one.lease.call_id)
        if one.over:
            await self.leases.note_over(one.lease)

    async def share_rules(self, call_id: str) -> None:
        """See to it that other nodes find the rules of a call. Raises Unavailable."""
        held = self._held.get(call_id)
        if held is not None:
            for digest in held.rules():
                await self._share(digest)

    async def _share(self, digest: str) -> None:
        book = await self._books.get(digest)
        if book is not None:
            await self._books.keep(digest, book)

    async def _take_up_abandoned(self) -> None:
        patience_ms = round(self.standing.resume_window_s * 1000)
        for call_id in await self.leases.abandoned(expired_for_ms=patience_ms, limit=ADOPTED_AT_ONCE):
            if call_id not in self._held:
                await self._on_abandoned(call_id)
