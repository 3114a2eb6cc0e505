"""Workers take the calls: what the main process of a server does for them, and asks of them."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog

from gateway.assembly.folder import StartFailed
from gateway.assembly.ingest import IngestGround
from gateway.assembly.listening import listening
from gateway.doors.tls import Tls
from gateway.engines.engines import Engines
from gateway.ports import QualityAnswer, QualityRules, Unavailable, VoiceprintApi
from gateway.session.admission import Limits
from gateway.session.loop_lag import LoopLag
from gateway.session.verdicts import StoredVerdicts
from gateway.settings import parse_address
from gateway.stores.calls import CallRecords
from gateway.stores.disk_space import DiskSpace
from gateway.stores.journal_folders import gather_journals
from gateway.stores.levels import StoredLevels
from gateway.stores.outbox import Outbox
from gateway.stores.ownership import DataFolderLock
from gateway.stores.rule_outcomes import SqliteRuleOutcomes
from gateway.telemetry import SampleKey
from gateway.workers.bus import HubBus
from gateway.workers.calls import WorkersCalls
from gateway.workers.engines import answer_for_engines
from gateway.workers.limits import PlacesGiven
from gateway.workers.link import Link
from gateway.workers.questions import (
    CALL_STORED,
    GOING_ON,
    LOCATE,
    OUTBOX_CHANGED,
    RELOAD,
    RULES_CHANGED,
    TAKE_PLACE,
    WEIGHT,
    GoingOn,
    OneCall,
    Place,
    Setup,
    Weight,
    Whereabouts,
)
from gateway.workers.slot import WorkerSlot
from gateway.workers.wire import Nothing

log = structlog.get_logger(__name__)

WEIGHT_EVERY_S = 1.0
LAST_S = 0.5
"""Of a shutdown's time, what is left when workers that hang are killed."""


class Workers:
    """Fills the role CallTaker with processes of their own."""

    def __init__(
        self,
        ground: IngestGround,
        disk_space: DiskSpace,
        loop_lag: LoopLag,
        folder: DataFolderLock,
        configured_apps: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._ground = ground
        self._disk_space = disk_space
        self._loop_lag = loop_lag
        self._folder = folder
        self._configured_apps = configured_apps
        settings = ground.settings
        self._relay, self._relay_secret = f"earshot-{secrets.token_hex(8)}", secrets.token_hex(32)
        self._level = 0
        self._places = PlacesGiven(Limits(settings.max_calls, settings.max_call_s, settings.max_calls_per_app))
        self._slots: list[WorkerSlot] = []
        self._port = self._http_port = 0
        self.bus = HubBus()
        records = CallRecords(ground.database)
        verdicts = StoredVerdicts(records, SqliteRuleOutcomes(ground.database), ground.clock)
        assert ground.shelves is not None, "they are the server's"
        sealed = StoredLevels(None, ground.shelves.recordings)
        self._calls = WorkersCalls(self._slots, verdicts, self._relay_name, sealed.recorded)

    # --- starting ---

    async def open(self) -> None:
        settings = self._ground.settings
        if not sys.platform.startswith("linux"):
            raise StartFailed(f"workers is {settings.workers}, which needs Linux: start with 1")
        gathered = await asyncio.to_thread(gather_journals, settings.data_path, settings.workers)
        if gathered:
            log.info("journals_gathered", journals=gathered)
        host, port = parse_address("ws", settings.ws)
        with listening("ws", settings.ws):
            reserved, self._port = _reserved(host, port)
        for one in reserved:
            self._ground.begun.callback(one.close)

    async def begin(self, engines: Engines, voices: VoiceprintApi, rules: QualityRules, box: Outbox) -> None:
        """Nothing is taken up before `listen`: workers do that when they begin."""
        self._engines = engines

        def attach(slot: WorkerSlot, link: Link) -> None:
            answer_for_engines(link, engines.confirmer, engines.recognizer, voices)
            link.hears(OUTBOX_CHANGED, lambda _: box.changed.set())
            link.hears(CALL_STORED, lambda _: self._share())
            self._attend(slot, link)

        kept_open = (self._folder.fileno(),)
        for number in range(1, self._ground.settings.workers + 1):
            self._slots.append(WorkerSlot(number, self._setup, attach, self._detach, kept_open, self._ground.clock))

    async def listen(self, tls: Tls | None, http_port: int) -> int:
        """Returns when every worker takes calls, or has failed at its first try while others do."""
        self._http_port = http_port
        for slot in self._slots:
            self._ground.run(f"worker-{slot.number}", slot.run())
        await asyncio.gather(*(slot.tried.wait() for slot in self._slots))
        if not any(slot.up.is_set() for slot in self._slots):
            raise StartFailed(f"no worker could start: {self._slots[0].fault}")
        self._ground.metrics.elsewhere = self._measured
        self._ground.run("workers-weight", self._tell_weight())
        return self._port

    def _share(self) -> None:
        shelves = self._ground.shelves
        if shelves is not None and shelves.shared is not None:
            shelves.shared.wake()

    def _setup(self, number: int) -> Setup:
        return Setup(
            number,
            self._ground.settings,
            self._configured_apps,
            self._port,
            self._http_port,
            self._relay_name(number),
            self._relay_secret,
            self._level,
            self._weighs(),
        )

    def _relay_name(self, number: int) -> str:
        return f"{self._relay}-{number}"

    def _attend(self, slot: WorkerSlot, link: Link) -> None:
        async def take_place(asked: Place) -> Nothing:
            await self._places.take(slot.number, asked)
            return Nothing()

        async def locate(asked: OneCall) -> Whereabouts:
            return Whereabouts(await self._calls.locate(asked.call_id, but=slot))

        async def going_on() -> GoingOn:
            if not slot.up.is_set():
                raise Unavailable("it is starting")
            return await link.ask(GOING_ON, Nothing())

        link.on_dropped = self._ground.metrics.bus_dropped.inc
        link.answers(TAKE_PLACE, take_place)
        link.answers(LOCATE, locate)
        self.bus.join(link)
        self._places.join(slot.number, going_on)

    def _detach(self, slot: WorkerSlot, link: Link) -> None:
        self.bus.leave(link)
        self._places.leave(slot.number)

    # --- as the rest of the server sees them ---

    @property
    def live(self) -> WorkersCalls:
        return self._calls

    @property
    def journal(self) -> WorkersCalls:
        return self._calls

    @property
    def levels(self) -> WorkersCalls:
        return self._calls

    @property
    def going_on(self) -> int:
        return sum(slot.report.going_on for slot in self._slots if slot.report is not None)

    @property
    def not_ready(self) -> str:
        return "; ".join(f"ingest worker {slot.number} {slot.amiss}" for slot in self._slots if slot.amiss)

    async def note_verdict(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        await self._calls.note_verdict(app_id, session_id, answer)

    async def note_no_verdict(self, app_id: str, session_id: str, error: str) -> None:
        await self._calls.note_no_verdict(app_id, session_id, error)

    def pace(self, level: int) -> None:
        if level != self._level:
            self._level = level
            self._tell_all_weight()

    def rules_changed(self) -> None:
        for link in self._links():
            link.tell(RULES_CHANGED, Nothing())

    def reload_certificate(self) -> None:
        for link in self._links():
            link.tell(RELOAD, Nothing())

    async def drain(self) -> None:
        patience_s = max(LAST_S, self._ground.settings.drain_s - LAST_S)
        await asyncio.gather(*(slot.stop(patience_s) for slot in self._slots))

    # --- what they are told, and tell ---

    def _links(self) -> Sequence[Link]:
        return [slot.link for slot in self._slots if slot.link is not None and slot.up.is_set()]

    def _weighs(self) -> str:
        return self._disk_space.refusal or self._loop_lag.refusal or self._engines.overload

    async def _tell_weight(self) -> None:
        while True:
            self._tell_all_weight()
            for slot in self._slots:
                slot.look()
            await asyncio.sleep(WEIGHT_EVERY_S)

    def _tell_all_weight(self) -> None:
        weight = Weight(self._level, self._weighs())
        for link in self._links():
            link.tell(WEIGHT, weight)

    def _measured(self) -> Mapping[SampleKey, float]:
        sums: defaultdict[SampleKey, float] = defaultdict(float)
        for slot in self._slots:
            measured = slot.report.measured if slot.report is not None else ()
            for key, value in (*slot.counted.items(), *measured):
                sums[key] += value
        return sums


def _reserved(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Sockets that keep a port for our workers, which listen beside them, and the port. Raises OSError.

    The workers' own sockets share the port by SO_REUSEPORT: the kernel spreads connections over them by their
    addresses, evenly however many come at once, where processes that accept from one queue take what each is quick
    enough to take, and calls last long. Ours are bound and do not listen: they get no connection, hold the port while a
    worker is restarted, and tell at the start that it is free.
    """
    reserved: list[socket.socket] = []
    known = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, address in dict.fromkeys(known):
            at = (address[0], port, *address[2:])
            with socket.socket(family, kind, protocol) as alone:
                # Without sharing: another server of ours on this port would not mind, and take half of the calls.
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                alone.bind(at)
                if port == 0:
                    port = alone.getsockname()[1]
                    at = (address[0], port, *address[2:])
            one = socket.socket(family, kind, protocol)
            reserved.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(at)
    except BaseException:
        for one in reserved:
            one.close()
        raise
    return reserved, port
