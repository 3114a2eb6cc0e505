"""What takes calls, as the rest of a server sees it: this very process, or workers of it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.assembly.ingest import Ingest, IngestGround
from gateway.assembly.listening import listening
from gateway.doors.tls import Tls
from gateway.engines.engines import Engines
from gateway.ports import LiveCalls, QualityAnswer, QualityRules, VoiceprintApi
from gateway.ports.levels import LevelReader
from gateway.session.calls import Calls
from gateway.session.engines import Engines as CallEngines
from gateway.session.loop_lag import LoopLag
from gateway.session.telling import CallsHere
from gateway.settings import parse_address
from gateway.stores.disk_space import DiskSpace
from gateway.stores.erasure import Erasable
from gateway.stores.journal_folders import gather_journals
from gateway.stores.levels import StoredLevels
from gateway.stores.outbox import Outbox


class CallTaker(Protocol):
    """`open`, then `begin`, then `listen`, and in the end `drain`."""

    @property
    def live(self) -> LiveCalls:
        """The calls that are in memory."""

    @property
    def journal(self) -> Erasable:
        """Where a call's audio and messages are until it is sealed."""

    @property
    def levels(self) -> LevelReader:
        """How loud calls are and were."""

    @property
    def going_on(self) -> int:
        """How many calls are in memory and not over."""

    @property
    def not_ready(self) -> str:
        """What is amiss, or nothing."""

    async def open(self) -> None:
        """Make what calls are kept in. Raises StartFailed, OSError."""

    async def begin(self, engines: Engines, voices: VoiceprintApi, rules: QualityRules, box: Outbox) -> None:
        """Take up what earlier processes left. Raises StartFailed."""

    async def listen(self, tls: Tls | None, http_port: int) -> int:
        """Take calls, also from pages that `http_port` serves; the port. Raises StartFailed."""

    async def drain(self) -> None:
        """Let go of everything, and say so to clients."""

    async def note_verdict(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        """As `Calls.note_verdict`."""

    async def note_no_verdict(self, app_id: str, session_id: str, error: str) -> None:
        """As `Calls.note_no_verdict`."""

    def pace(self, level: int) -> None:
        """As `Calls.pace`."""

    def rules_changed(self) -> None:
        """Some app's rules are other ones now."""

    def reload_certificate(self) -> None:
        """Read the certificate again, where it is not this process's own. Raises nothing: what fails is logged."""


class OneProcess:
    """Calls are taken where all the rest is."""

    def __init__(self, ground: IngestGround, disk_space: DiskSpace, loop_lag: LoopLag) -> None:
        self._ground = ground
        self._ingest = Ingest(ground)
        self._disk_space = disk_space
        self._loop_lag = loop_lag

    @property
    def calls(self) -> Calls:
        return self._ingest.calls

    @property
    def live(self) -> LiveCalls:
        return CallsHere(self._ingest.calls)

    @property
    def journal(self) -> Erasable:
        return self._ingest.journal

    @property
    def levels(self) -> LevelReader:
        return StoredLevels(self._ingest.journal.reader, self._ingest.recordings)

    @property
    def going_on(self) -> int:
        return len(self._ingest.calls)

    @property
    def not_ready(self) -> str:
        return self._ingest.not_ready

    async def open(self) -> None:
        # What workers of an earlier start have left is ours.
        await asyncio.to_thread(gather_journals, self._ground.settings.data_path, 1)
        await self._ingest.open()

    async def begin(self, engines: Engines, voices: VoiceprintApi, rules: QualityRules, box: Outbox) -> None:
        def pressure() -> str:
            """Why no new call should begin, nothing when all is well: running ones must not suffer from it."""
            return self._disk_space.refusal or self._loop_lag.refusal or engines.overload

        self._ingest.begin(CallEngines(engines.confirmer, engines.recognizer, voices), rules, box, pressure)

    async def listen(self, tls: Tls | None, http_port: int) -> int:
        settings = self._ground.settings
        with listening("ws", settings.ws):
            return await self._ingest.listen(parse_address("ws", settings.ws), tls, http_port)

    async def drain(self) -> None:
        await self._ingest.drain()

    async def note_verdict(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        await self._ingest.calls.note_verdict(app_id, session_id, answer)

    async def note_no_verdict(self, app_id: str, session_id: str, error: str) -> None:
        await self._ingest.calls.note_no_verdict(app_id, session_id, error)

    def pace(self, level: int) -> None:
        self._ingest.calls.pace(level)

    def rules_changed(self) -> None:
        self._ingest.rule_changes.changed()

    def reload_certificate(self) -> None:
        """The listener has this process's certificate."""
