"""From audio appended to audio acknowledged: one call's wait for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gateway.call.events import AudioStored, Warned
from gateway.ports import Clock, Journal
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
    ) -> None:
        self._call_id = call_id
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._receive = receive
        self._appended = asyncio.Event()
        self._position = self._samples = 0
        self._oldest_at_s: float | None = None

    def note(self, position: int, samples: int) -> None:
        """Audio up to instant `samples` was appended, at the journal's `position`."""
        self._position, self._samples = position, samples
        if self._oldest_at_s is None:
            self._oldest_at_s = self._clock.monotonic()
        self._appended.set()

    async def run(self) -> None:
        """Wait and tell, until cancelled."""
        degraded = False
        while True:
            await self._appended.wait()
            self._appended.clear()
            position, samples, since_s = self._position, self._samples, self._oldest_at_s
            self._oldest_at_s = None
            try:
                await self._journal.synced(position)
            except OSError as fault:
                if not degraded:
                    log.warning("recording_not_safe", call_id=self._call_id, fault=str(fault))
                    self._receive(Warned("degraded", "Audio cannot be stored safely right now; acks pause."))
                degraded = True
                self._oldest_at_s = since_s
                self._appended.set()
                await asyncio.sleep(STORE_RETRY_S)
                continue
            degraded = False
            if since_s is not None:
                self._metrics.ack_lag_s.observe(self._clock.monotonic() - since_s)
            self._receive(AudioStored(samples))
