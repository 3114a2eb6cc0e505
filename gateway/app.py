"""The composition root: the only place that names who fills which role."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from time import time
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from gateway.assembly.background import in_background
from gateway.assembly.browsers import browsers
from gateway.assembly.bus import join_bus
from gateway.assembly.call_shelves import call_shelves
from gateway.assembly.clock import SystemClock
from gateway.assembly.folder import LEAVING_GRACE_S, StartFailed, refuse_to_share, sweep_spool, take_over
from gateway.assembly.ingest import IngestGround, goodbye_s
from gateway.assembly.listening import listen_http
from gateway.assembly.passages import passages
from gateway.assembly.quality_work import quality_stores
from gateway.assembly.services import Ground, Quality, quality, usage_meter, voiceprint
from gateway.assembly.taking import CallTaker, OneProcess
from gateway.assembly.upkeep import follow_load, keep_gauges, keep_retention, refresh_apps
from gateway.assembly.workers import Workers
from gateway.clients.fetch_targets import FetchTargets
from gateway.clients.fetcher import GuardedFetcher
from gateway.credentials import Credentials
from gateway.doors.deletion import DeletionRoutes
from gateway.doors.http import HttpDoor
from gateway.doors.levels import LevelRoutes
from gateway.doors.limits import MIB
from gateway.doors.quality_callback import CallbackAddresses, QualityCallbacks
from gateway.doors.recording_links import RecordingLinks
from gateway.doors.report import ReportRoutes
from gateway.doors.tls import Tls
from gateway.doors.usage import UsageRoutes
from gateway.engines.engines import Engines
from gateway.keys import cluster_key, local_app, server_key, subkey
from gateway.ports.bus import Bus
from gateway.screen.assets import installed_assets
from gateway.screen.pages import ScreenPages
from gateway.session.calls import Calls
from gateway.session.loop_lag import LoopLag
from gateway.settings import Settings, in_url, is_loopback, parse_address, parse_apps, parse_fetch_allow, parse_quotas
from gateway.stores import (
    apps,
    call_versions,
    calls,
    erasure,
    outbox,
    quality_rules,
    rule_books,
    rule_outcomes,
    spent,
    usage,
    voiceprints,
)
from gateway.stores import passages as passage_tables
from gateway.stores import quality as quality_tasks
from gateway.stores.apps import Apps
from gateway.stores.disk_space import DiskSpace
from gateway.stores.dispatch import Dispatcher
from gateway.stores.erasure import Eraser, Kept, Shelves
from gateway.stores.outbox import Outbox
from gateway.stores.ownership import DataFolderLock
from gateway.stores.sqlite import Database, Schema
from gateway.telemetry import Metrics

log = structlog.get_logger(__name__)

SCHEMAS: tuple[Schema, ...] = (
    apps.SCHEMA, calls.SCHEMA, outbox.SCHEMA, rule_books.SCHEMA, voiceprints.SCHEMA, quality_tasks.SCHEMA,
    erasure.SCHEMA, call_versions.SCHEMA,
    quality_rules.SCHEMA, rule_outcomes.SCHEMA, usage.SCHEMA, passage_tables.SCHEMA, spent.SCHEMA,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started server listens."""

    http: str
    """Base URL."""
    ws: str
    """URL of the native socket."""


@contextmanager
def stored_apps(settings: Settings) -> Iterator[Apps]:
    """The apps of the data folder and of the settings, for a command beside the server."""
    database = Database(settings.data_path / "earshot.db", SCHEMAS)
    try:
        yield Apps(database, parse_apps(settings.apps))
    finally:
        database.close()


class EarshotServer:
    """Everything one process runs. `start` returns once it is ready for calls; `stop` loses nothing that was acked."""

    def __init__(
        self, settings: Settings, on_progress: Callable[[str], None] = lambda _: None, *, replace: bool = False
    ) -> None:
        """`on_progress` hears, in words, what start-up is doing; `replace` takes over from a server that runs.

        Raises StartFailed, ModelMissing, BadCertificate.
        """
        self.metrics = Metrics()
        self.settings = settings
        self._on_progress = on_progress
        self._replace = replace
        self._draining = False
        self._clock = SystemClock()
        data = settings.data_path
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.engines = Engines(
            settings.models_path,
            data / "spool" / str(os.getpid()),
            recognizer_model=settings.recognizer,
            voiceprint_model=settings.voiceprint_model,
            recognizer_processes=settings.recognizer_processes or None,
            recording_processes=settings.quality_workers,
            live_text=settings.live_text,
            on_ready=lambda engine: on_progress(f"{engine} ready"),
        )
        self._folder = DataFolderLock(data)
        self._database = Database(data / "earshot.db", SCHEMAS)
        self._begun = AsyncExitStack()
        """What `start` has begun, to be ended in the opposite order."""
        self.uses_local_app = False
        self._configured = self._configured_apps()
        self.apps = Apps(self._database, self._configured)
        self._credentials = Credentials(self.apps, skew_s=settings.clock_skew_s, now=time)
        self._tls = Tls(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        self._addresses: Addresses | None = None
        self._key = cluster_key(settings.cluster_key) if settings.cluster_key else server_key(data)
        self.disk_space = DiskSpace(
            data,
            low_bytes=settings.disk_low_mb * MIB,
            warn_bytes=settings.disk_warn_mb * MIB,
            on_free=self.metrics.disk_free_bytes.set,
        )
        self._loop_lag = LoopLag(self._clock, self.metrics, most_ms=settings.max_loop_lag_ms)

    def _configured_apps(self) -> dict[str, tuple[str, ...]]:
        configured = parse_apps(self.settings.apps)
        with_stored = Apps(self._database, configured)
        if with_stored.app_ids:
            return configured
        for name in ("http", "ws"):
            host, _ = parse_address(name, getattr(self.settings, name))
            if not is_loopback(host):
                raise StartFailed(
                    f"{name} listens on {host}, but there is no app: make one with `earshot app create`, "
                    "or name some in EARSHOT_APPS"
                )
        self.uses_local_app = True
        app_id, secret = local_app(self.settings.data_path)
        return {app_id: (secret,)}

    @property
    def addresses(self) -> Addresses:
        assert self._addresses is not None, "start first"
        return self._addresses

    # --- starting ---

    async def start(self) -> Addresses:
        """Load the engines, take up what an earlier process left, listen.

        Raises StartFailed, OSError, or Unavailable for an engine that cannot load; nothing is left running then.
        """
        try:
            await self._start()
        except BaseException:
            await self._begun.aclose()
            raise
        return self.addresses

    async def _start(self) -> None:
        settings = self.settings
        self._begun.callback(self._folder.release)
        self._begun.callback(self._database.close)
        alone = self._folder.take()
        if not alone:
            refuse_to_share(settings.data_path, replace=self._replace)
        self._on_progress("loading the engines")
        await self.engines.start()
        self._begun.push_async_callback(self.engines.stop)
        if not alone:
            self._on_progress(f"waiting for process {self._folder.holder()} to let go of {settings.data_path}")
            patience_s = settings.drain_s + LEAVING_GRACE_S
            await take_over(self._folder, settings.data_path, replace=self._replace, patience_s=patience_s)
        await asyncio.to_thread(sweep_spool, settings.data_path / "spool")
        self._http_client = await self._begun.enter_async_context(aiohttp.ClientSession())
        self._shelves = shelves = call_shelves(settings, self._database, self._clock, self._begun)
        records, recordings = shelves.own, shelves.recordings
        await asyncio.to_thread(recordings.tidy)
        self._browsers = browsers(settings, self._database, self._key, self.apps, self._clock, self._begun)
        self._bus, self._taking = self._call_taker()
        taking = self._taking
        await taking.open()
        await self.disk_space.look()
        self._run("disk-space", self.disk_space.run())
        self._run("loop-lag", self._loop_lag.run())
        self._outbox = box = Outbox(
            self._database, self._clock, data_dir=settings.data_path, recordings_dir=recordings.root
        )
        self._fetcher = GuardedFetcher(FetchTargets(parse_fetch_allow(settings.fetch_allow)))
        callbacks = self._callbacks()
        stores = quality_stores(settings, self._database, self._clock, self._begun, rules_changed=taking.rules_changed)
        self._usage = stores.usage
        ground = self._ground()
        voiceprint_routes, voices, own_voices = await voiceprint(ground, lambda request: door.caller(request))
        qc = quality(ground, stores, voices, callbacks)
        self._worker = qc.worker
        await taking.begin(self.engines, voices, stores.rules, box)
        dispatcher = Dispatcher(
            box,
            qc.api,
            self._clock,
            on_status=taking.note_verdict,
            on_dead=taking.note_no_verdict,
            poll_s=settings.qc_poll_s,
        )
        dispatcher.start()
        self._begun.push_async_callback(dispatcher.stop)
        self._run("apps-refresh", refresh_apps(self.apps))
        self._run("outbox-gauges", keep_gauges(box, self._clock, self.metrics))
        if settings.live_text:
            self._run("load", follow_load(self.engines, taking, self.metrics))
        links = RecordingLinks(subkey(self._key, "recordings"), now=time)
        live = shelves.live(taking.live, self._bus)
        door = HttpDoor(
            *(live, shelves.store, recordings.path, self._credentials, self.metrics, self._not_ready, links),
            elsewhere=shelves.elsewhere,
            incomplete=lambda: shelves.fault,
        )
        routes = [*door.routes(), *voiceprint_routes, *qc.routes, *qc.rule_routes(ground, shelves.store, door.caller)]
        passage_routes, self.passages = await passages(
            ground, own_voices, records, recordings, door.caller, lambda: taking.going_on > 0
        )
        routes += passage_routes
        routes += self._browsers.routes(self._credentials, self.metrics, door.caller, lambda: self._ws_port)
        routes += UsageRoutes(usage_meter(ground), parse_quotas(settings.quotas), self._clock, door.caller).routes()
        if callbacks is not None:
            routes += QualityCallbacks(callbacks, dispatcher.deliver_callback).routes()
        levels = shelves.levels(taking.levels, self._bus)
        routes += LevelRoutes(door.told, levels, door.no_recording).routes()
        routes += ReportRoutes(door.told, qc.task_result, recordings.path, links, door.caller).routes()
        routes += ScreenPages(await asyncio.to_thread(installed_assets), self._socket_url).routes()
        self.eraser = eraser = self._eraser(dispatcher, qc)
        routes += DeletionRoutes(live, shelves.store, eraser.erase_call, eraser.erase_task, door.caller).routes()
        shelves.keep_in_step(eraser, taking.live, self._run)
        kept = Kept(settings.retain_recordings_days, settings.retain_results_days)
        self._run("retention", keep_retention(eraser, kept))
        await self._listen(routes)

    def _eraser(self, dispatcher: Dispatcher, qc: Quality) -> Eraser:
        records, recordings = self._shelves.store, self._shelves.recordings
        box, forget_task = self._outbox, qc.service.forget
        shelves = Shelves(
            *(self._database, records, recordings, self._taking.journal, box, dispatcher, qc.tasks),
            forget_passages=self.passages.forget,
            forget_task=forget_task,
        )
        return Eraser(shelves, self._clock, lambda what, count: self.metrics.erased.labels(what).inc(count))

    def _callbacks(self) -> CallbackAddresses | None:
        """Where a vendor may deliver verdicts; None when there is no vendor, or it has no way to reach us."""
        if not (self.settings.quality_url and self.settings.public_url):
            return None
        return CallbackAddresses(subkey(self._key, "qc-callback"), self.settings.public_url)

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until this server stops."""
        return in_background(name, work, self._begun)

    def _ground(self) -> Ground:
        return Ground(
            settings=self.settings,
            database=self._database,
            engines=self.engines,
            clock=self._clock,
            key=self._key,
            http=self._http_client,
            fetcher=self._fetcher,
            credentials=self._credentials,
            apps=self.apps,
            public_url=self._public_url,
            usage=self._usage,
            no_space=lambda: self.disk_space.refusal,
            begun=self._begun,
            run=self._run,
        )

    def _call_taker(self) -> tuple[Bus, CallTaker]:
        """Also the bus by which this process hears of calls elsewhere."""
        settings = self.settings
        bus = join_bus(settings, self.metrics, self._begun)
        ground = IngestGround(
            *(settings, self._database, self._clock, self._key, self._credentials, self.metrics),
            browsers=self._browsers,
            folder=settings.data_path,
            bus=bus,
            shelves=self._shelves,
            begun=self._begun,
            run=self._run,
        )
        if settings.workers > 1:
            workers = Workers(ground, self.disk_space, self._loop_lag, self._folder, self._configured)
            return (workers.bus if bus.alone else bus), workers
        self._one_process = OneProcess(ground, self.disk_space, self._loop_lag)
        return bus, self._one_process

    @property
    def calls_going_on(self) -> int:
        return self._taking.going_on

    @property
    def calls(self) -> Calls:
        """Those of this process; workers have theirs."""
        return self._one_process.calls

    async def _listen(self, routes: list[web.RouteDef]) -> None:
        settings = self.settings
        tls = self._tls.context if self._tls else None
        http_port = await listen_http(
            settings,
            routes,
            [self._browsers.middleware],
            tls,
            self.metrics,
            self._begun,
            goodbye_s=goodbye_s(settings),
        )
        http_host, _ = parse_address("http", settings.http)
        ws_host, _ = parse_address("ws", settings.ws)
        ws_port = self._ws_port = await self._taking.listen(self._tls, http_port)
        secure = "s" if self._tls else ""
        self._addresses = Addresses(
            f"http{secure}://{in_url(http_host)}:{http_port}", f"ws{secure}://{in_url(ws_host)}:{ws_port}/v1/calls"
        )

    def _socket_url(self) -> str:
        return self.settings.public_ws_url or self.addresses.ws

    def _public_url(self) -> str:
        return self.settings.public_url or self.addresses.http

    def _not_ready(self) -> str:
        if self._draining:
            return "the server is shutting down"
        if not self.engines.ready:
            return "an engine is being restarted"
        if fault := self._taking.not_ready:
            return fault
        if self._worker is not None and self._worker.done():
            return "the voice QC worker has ended"
        return self.disk_space.refusal or self._loop_lag.refusal or self.engines.overload

    # --- stopping ---

    async def stop(self) -> None:
        """Tell clients, let go of calls (the journal has them), finish what is being kept, stop listening.

        New calls are refused from the first moment, and both listeners answer until the clients are gone: whoever asks
        hears that the server is going away. A client that does not close its socket is cut off.
        """
        self._draining = True
        await self._taking.drain()
        await self._begun.aclose()

    def reload_certificate(self) -> None:
        """Read the TLS certificate again; connections from now on get it. Raises BadCertificate."""
        if self._tls is not None:
            self._tls.reload()
            self._taking.reload_certificate()
