"""From audio appended to audio acknowledged: one call's wait for the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.call.events import AudioStored, Warned
from gateway.ports import CallReplica, Clock, Journal, Unavailable
from gateway.telemetry import Metrics

log = structlog.get_logger(__name__)

STORE_RETRY_S = 1.0


class Acknowledgement:
    """Tells the call, as an event, how far its audio is safe; and once, when it cannot be made safe for now."""

    def __init__(
        self,
        call_id: str,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
        receive: Callable[[AudioStored | Warned], None],
        replica: CallReplica | None,
    ) -> None:
        """With `replica`, audio is safe once it is there too."""
        self._replica = replica
        self._call_id = call_id
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._receive = receive
        self._appended = asyncio.Event()
        self._pending: deque[_Appended] = deque()

    def note(self, position: int, samples: int) -> None:
        """Audio up to instant `samples` was appended, at the journal's `position`."""
        self._pending.append(_Appended(position, samples, self._clock.monotonic()))
        self._appended.set()

    async def run(self) -> None:
        """Wait and tell, until cancelled: one event for each commit that covers audio of this call."""
        degraded = False
        while True:
            await self._appended.wait()
            try:
                position = self._pending[0].position
                await self._journal.synced(position)
                safe_position = self._journal.safe_position
                if self._replica is not None:
                    safe_position = min(safe_position, await self._replica.synced(self._call_id, position))
            except (OSError, Unavailable) as fault:
                if not degraded:
                    log.warning("recording_not_safe", call_id=self._call_id, fault=str(fault))
                    self._receive(Warned("degraded", "Audio cannot be stored safely right now; acks pause."))
                degraded = True
                await asyncio.sleep(STORE_RETRY_S)
                continue
            degraded = False
            self._acknowledge(safe_position)

    def _acknowledge(self, safe_position: int) -> None:
        oldest = newest = self._pending.popleft()
        while self._pending and self._pending[0].position <= safe_position:
            newest = self._pending.popleft()
        if not self._pending:
            self._appended.clear()
        self._metrics.ack_lag_s.observe(self._clock.monotonic() - oldest.at_s)
        self._receive(AudioStored(newest.samples))


@dataclass(frozen=True, slots=True)
class _Appended:
    position: int
    samples: int
    at_s: float
