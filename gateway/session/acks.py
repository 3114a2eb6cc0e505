"""From audio appended to audio acknowledged: what commits mean to calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import structlog

from gateway.call.effects import Effect
from gateway.ports import AudioListener, CallReplica, Journal, Unavailable

log = structlog.get_logger(__name__)

STORE_RETRY_S = 1.0
ACKED_AT_A_TIME = 8
"""A commit concerns every call: between so many, the audio of all gets its turn."""
MANY_CALLS = 256
"""Of more calls, half are told of a commit and the others of the next: an ack costs as much as two packets."""
LATEST_S = 0.2
"""No call waits longer for another commit."""


class Acknowledged(Protocol):
    """A call that wants to know how far its audio is safe."""

    @property
    def call_id(self) -> str: ...

    @property
    def unacked_samples(self) -> int: ...

    @property
    def live(self) -> bool:
        """Whether it has not hung up."""

    def stored(self, samples: int) -> Sequence[Effect]:
        """Take note and journal it; what is to be done about it, once the journal has handed that over."""

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Do what `stored` has answered."""

    def note_degraded(self) -> None:
        """Audio cannot be made safe for now."""

    def fail(self, fault: BaseException) -> None:
        """The server failed, in this call alone."""


class Acknowledgements(AudioListener):
    """Tells all calls of a process, once for each commit, how far their audio is safe; and once that it cannot be."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._calls: dict[str, Acknowledged] = {}
        self._degraded: set[str] = set()
        self._safe: dict[str, int] = {}
        """What calls are still to be told, those that wait the longest in front."""
        self._due = 0
        """So many of them now, the others with the next commit."""
        self._latest: asyncio.TimerHandle | None = None
        self._in_replica: dict[str, _Waiting] = {}
        journal.tell(self)

    def enter(self, call: Acknowledged) -> None:
        """Tell this call from here on; see `replicate`."""
        self._calls[call.call_id] = call

    def leave(self, call: Acknowledged) -> None:
        """Tell it no more."""
        call_id = call.call_id
        if self._calls.get(call_id) is call:
            del self._calls[call_id]
            self._degraded.discard(call_id)
            self._safe.pop(call_id, None)
            self._in_replica.pop(call_id, None)

    def note_safe(self, samples: Mapping[str, int], position: int) -> None:
        """See AudioListener."""
        if self._latest is not None:
            self._latest.cancel()
            self._latest = None
        under_way, waiting = self._due > 0, len(self._safe)
        over: list[tuple[Acknowledged, int]] = []
        for call_id, safe_samples in samples.items():
            if call_id in self._in_replica:
                self._in_replica[call_id].note(position, safe_samples)
            elif call_id in self._calls:
                call = self._calls[call_id]
                if call.live:
                    self._safe[call_id] = safe_samples
                else:
                    self._safe.pop(call_id, None)
                    over.append((call, safe_samples))
        if over:
            self._tell(over)
        known = len(self._safe)
        self._due = known if known <= MANY_CALLS else max(waiting, known // 2)
        if self._due and not under_way:
            self._tell_some()

    def tell_now(self, call: Acknowledged) -> None:
        """The call hangs up: what it is still to be told it hears at once."""
        samples = self._safe.pop(call.call_id, None)
        if samples is not None:
            self._tell([(call, samples)])

    def note_fault(self, fault: str) -> None:
        """See AudioListener."""
        for call in list(self._calls.values()):
            if call.unacked_samples:
                self._degrade(call, fault)

    def _degrade(self, call: Acknowledged, fault: str) -> None:
        if call.call_id in self._degraded:
            return
        self._degraded.add(call.call_id)
        log.warning("recording_not_safe", call_id=call.call_id, fault=fault)
        try:
            call.note_degraded()
        except Exception as failure:
            call.fail(failure)

    def _tell_some(self) -> None:
        now = dict(islice(self._safe.items(), min(ACKED_AT_A_TIME, self._due)))
        for call_id in now:
            del self._safe[call_id]
        self._due = min(self._due - len(now), len(self._safe))
        if now:
            self._tell((self._calls[call_id], samples) for call_id, samples in now.items())
        if self._due:
            asyncio.get_running_loop().call_soon(self._tell_some)
        elif self._safe:
            self._latest = asyncio.get_running_loop().call_later(LATEST_S, self._tell_the_rest)

    def _tell_the_rest(self) -> None:
        self._latest = None
        under_way, self._due = self._due > 0, len(self._safe)
        if self._due and not under_way:
            self._tell_some()

    def _tell(self, stored: Iterable[tuple[Acknowledged, int]]) -> None:
        """Journal all of it first and hand it over once: a number that a client has seen is never used again."""
        told: list[tuple[Acknowledged, Sequence[Effect]]] = []
        for call, samples in stored:
            self._degraded.discard(call.call_id)
            try:
                told.append((call, call.stored(samples)))
            except Exception as fault:
                call.fail(fault)
        self._journal.hand_over(call.call_id for call, _ in told)
        for call, effects in told:
            try:
                call.carry_out(effects)
            except Exception as fault:
                call.fail(fault)

    async def replicate(self, call: Acknowledged, replica: CallReplica) -> None:
        """Tell `call` of its audio once it is in the replica too, until cancelled."""
        waiting = self._in_replica[call.call_id] = _Waiting()
        while True:
            await waiting.there.wait()
            try:
                reached = await replica.synced(call.call_id, waiting.commits[0].position)
            except (OSError, Unavailable) as fault:
                self._degrade(call, str(fault))
                await asyncio.sleep(STORE_RETRY_S)
                continue
            samples = waiting.take(reached)
            self._tell([(call, samples)])


class _Commit(NamedTuple):
    position: int
    samples: int


class _Waiting:
    """What is on this node's disk and waits for the replica, of one call."""

    def __init__(self) -> None:
        self.there = asyncio.Event()
        self.commits: deque[_Commit] = deque()

    def note(self, position: int, samples: int) -> None:
        self.commits.append(_Commit(position, samples))
        self.there.set()

    def take(self, reached: int) -> int:
        """The samples that are in the replica, which has the first commit at least."""
        samples = self.commits.popleft().samples
        while self.commits and self.commits[0].position <= reached:
            samples = self.commits.popleft().samples
        if not self.commits:
            self.there.clear()
        return samples
