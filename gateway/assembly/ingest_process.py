"""A worker: one of several processes that take a server's calls. The server's main process starts it, and it ends with
that."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from time import time
from typing import Any

import msgspec
import structlog
import uvloop

from gateway.assembly.background import in_background
from gateway.assembly.browsers import browsers
from gateway.assembly.bus import join_bus
from gateway.assembly.call_shelves import call_shelves
from gateway.assembly.clock import SystemClock
from gateway.assembly.cluster import node_name
from gateway.assembly.folder import StartFailed
from gateway.assembly.garbage import collect_garbage, leave_full_collections_to_us
from gateway.assembly.ingest import Ingest, IngestGround
from gateway.assembly.listening import listening
from gateway.assembly.quality_work import quality_stores
from gateway.assembly.upkeep import refresh_apps
from gateway.credentials import Credentials
from gateway.doors.relay import Relaying
from gateway.doors.tls import BadCertificate, Tls
from gateway.keys import cluster_key, server_key
from gateway.ports import QualityTask, Unavailable
from gateway.ports.bus import Bus
from gateway.session.engines import Engines
from gateway.session.loop_lag import LoopLag
from gateway.session.telling import CallsHere
from gateway.settings import Settings, parse_address
from gateway.stores.apps import Apps
from gateway.stores.calls import CallRecords
from gateway.stores.journal_folders import ingest_folder
from gateway.stores.levels import StoredLevels
from gateway.stores.outbox import Outbox
from gateway.stores.sqlite import Database
from gateway.telemetry import Metrics, configure_logging, samples_of
from gateway.workers.bus import LinkedBus
from gateway.workers.desk import CallDesk
from gateway.workers.engines import LinkedConfirmer, LinkedRecognizer, LinkedVoiceprint
from gateway.workers.limits import LinkedPlaces
from gateway.workers.link import Link, LinkFault
from gateway.workers.questions import (
    BEGAN,
    CALL_STORED,
    DRAIN,
    HELLO,
    LOCATE,
    OUTBOX_CHANGED,
    RELOAD,
    REPORT,
    RULES_CHANGED,
    WEIGHT,
    Began,
    OneCall,
    Report,
    Setup,
    Weight,
)
from gateway.workers.wire import Nothing
from protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

REPORT_EVERY_S = 1.0
MAIN = "the main process"


class LinkedSiblings:
    """Fills the role Siblings: the main process knows whom to ask."""

    def __init__(self, link: Link, relaying: Relaying) -> None:
        self._link = link
        self.relaying = relaying

    async def locate(self, call_id: str) -> str | None:
        try:
            return (await self._link.ask(LOCATE, OneCall("", call_id))).relay or None
        except (Unavailable, LinkFault) as fault:
            raise ProtocolError("recovering", f"the server cannot tell where the call is: {fault}") from fault


class NudgingOutbox:
    """Fills the role TaskQueue: the table is everybody's, and the main process works it off."""

    def __init__(self, outbox: Outbox, link: Link) -> None:
        self._outbox = outbox
        self._link = link

    async def put(self, task: QualityTask, call_id: str) -> bool:
        added = await self._outbox.put(task, call_id)
        self._link.tell(OUTBOX_CHANGED, Nothing())
        return added


class IngestProcess:
    """Everything one worker runs."""

    def __init__(self, link: Link, setup: Setup, bus: Bus) -> None:
        """`bus` is the one among this server's processes."""
        self._link = link
        self._setup = setup
        self._settings: Settings = setup.settings
        self._begun = AsyncExitStack()
        self._metrics = Metrics()
        link.on_dropped = self._metrics.bus_dropped.inc
        self._clock = SystemClock()
        self._level, self._pressure = setup.level, setup.pressure
        self._drained = asyncio.Event()
        self.bus = bus
        """Among this server's processes, or through Redis those of all nodes."""

    async def run(self) -> None:
        """Take calls until the main process says to drain. Raises StartFailed, BadCertificate, OSError."""
        async with self._begun:
            await self._start()
            leave_full_collections_to_us()
            self._run("garbage", collect_garbage(lambda: len(self._ingest.calls), self._clock))
            self._link.tell(BEGAN, Began(""))
            await self._drained.wait()

    async def _start(self) -> None:
        settings, setup, link, begun = self._settings, self._setup, self._link, self._begun
        self._tls = Tls(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        database = Database(settings.data_path / "earshot.db", ())  # the main process has made its tables
        begun.callback(database.close)
        apps = Apps(database, {app_id: tuple(known) for app_id, known in setup.configured_apps.items()})
        key = cluster_key(settings.cluster_key) if settings.cluster_key else server_key(settings.data_path)
        places = LinkedPlaces(link, self._going_on)
        shelves = call_shelves(settings, database, self._clock, begun)
        own = CallRecords(database, saved=lambda: link.tell(CALL_STORED, Nothing()))
        # To a cluster each worker is a node; what is kept of calls is the server's.
        as_node = msgspec.structs.replace(settings, node=f"{node_name(settings)}/{setup.number}")
        ground = IngestGround(
            *(as_node, database, self._clock, key),
            Credentials(apps, skew_s=settings.clock_skew_s, now=time),
            self._metrics,
            browsers(settings, database, key, apps, self._clock, begun),
            bus=self.bus,
            shelves=replace(shelves, own=own),
            folder=ingest_folder(settings.data_path, setup.number),
            begun=begun,
            run=self._run,
            siblings=LinkedSiblings(link, Relaying(setup.relay, setup.relay_secret)),
            places=places,
        )
        if settings.redis_url:
            self.bus = join_bus(settings, self._metrics, begun)
        self._lag = LoopLag(self._clock, self._metrics, most_ms=settings.max_loop_lag_ms)
        self._run("loop-lag", self._lag.run())
        self._ingest = ingest = Ingest(ground)
        await ingest.open()
        stores = quality_stores(
            settings, database, self._clock, begun, rules_changed=lambda: ingest.rule_changes.changed()
        )
        outbox = Outbox(database, self._clock, data_dir=settings.data_path, recordings_dir=shelves.recordings.root)
        engines = Engines(LinkedConfirmer(link), LinkedRecognizer(link), LinkedVoiceprint(link))
        ingest.begin(engines, stores.rules, NudgingOutbox(outbox, link), self._weighs)
        ingest.calls.pace(self._level)
        self._run("apps-refresh", refresh_apps(apps))
        levels = StoredLevels(ingest.journal.reader, ingest.recordings)
        CallDesk(ingest.calls, CallsHere(ingest.calls), ingest.journal, levels, places).open(link)
        link.hears(WEIGHT, self._take_weight)
        link.hears(RULES_CHANGED, lambda _: ingest.rule_changes.changed())
        link.hears(RELOAD, self._reload)
        link.answers(DRAIN, self._drain)
        host, _ = parse_address("ws", settings.ws)
        with listening("ws", settings.ws):
            await ingest.listen((host, setup.port), self._tls, setup.http_port)
        self._run("report", self._report())

    def _going_on(self) -> dict[str, str]:
        return {session.call_id: session.app_id for session in self._ingest.calls.sessions if session.live}

    def _weighs(self) -> str:
        return self._lag.refusal or self._pressure

    def _take_weight(self, told: Weight) -> None:
        self._pressure = told.pressure
        self._ingest.calls.pace(told.level)

    def _reload(self, _: Nothing) -> None:
        if self._tls is None:
            return
        try:
            self._tls.reload()
        except BadCertificate as fault:
            log.error("certificate_not_reloaded", fault=str(fault))  # noqa: TRY400 - the text says it all
        else:
            log.info("certificate_reloaded")

    async def _drain(self, _: Nothing) -> Nothing:
        log.info("stopping", calls=len(self._ingest.calls))
        try:
            await self._ingest.drain()
        finally:
            self._drained.set()
        return Nothing()

    async def _report(self) -> None:
        while True:
            growing = tuple(samples_of(self._metrics.registry, only_growing=True))
            measured = tuple(samples_of(self._metrics.registry).items())
            amiss = self._ingest.not_ready or self._lag.refusal
            self._link.tell(REPORT, Report(len(self._ingest.calls), amiss, measured, growing))
            await asyncio.sleep(REPORT_EVERY_S)

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return in_background(name, work, self._begun)


async def _work(descriptor: int) -> int:
    """The exit status: 1 when it could not begin."""
    link = await Link.over(socket.socket(fileno=descriptor), MAIN)
    bus = LinkedBus(link)  # questions may be there already: others know what we do not
    link.listen()
    setup = await link.ask(HELLO, Nothing())
    configure_logging(setup.settings.log_level, setup.settings.log_format)
    structlog.contextvars.bind_contextvars(worker=setup.number)
    try:
        await IngestProcess(link, setup, bus).run()
    except (StartFailed, BadCertificate, OSError) as fault:
        link.tell(BEGAN, Began(str(fault)))
        link.close()
        await link.gone.wait()
        return 1
    link.close()
    return 0


def _end_with_the_main_process() -> None:
    """Its end, however it came, closes our input. What was acknowledged is in the journal."""
    os.read(0, 1)  # not by sys.stdin, whose lock would be held when the interpreter ends
    os._exit(0)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the main process drives our end
    os.setpgid(0, 0)  # see `engines/worker`
    threading.Thread(target=_end_with_the_main_process, daemon=True).start()
    sys.exit(uvloop.run(_work(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
