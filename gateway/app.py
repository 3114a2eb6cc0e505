"""The composition root: the only place that names who fills which role."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import Any

import aiohttp
import structlog
from aiohttp import web
from websockets.asyncio.server import Server

from gateway.clients.fetch_targets import FetchTargets
from gateway.clients.fetcher import GuardedFetcher
from gateway.clients.quality_http import QualityHttp
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.credentials import Credentials
from gateway.doors.http import HttpDoor
from gateway.doors.http_guard import GuardedSite, HttpLimits, guard_requests
from gateway.doors.limits import MIB, door_limits
from gateway.doors.native import NativeDoor
from gateway.doors.quality_callback import CallbackAddresses, QualityCallbacks
from gateway.doors.tls import Tls
from gateway.engines.engines import Engines
from gateway.engines.load import TICK_S
from gateway.engines.webrtc import WebrtcGate
from gateway.keys import cluster_key, local_app, server_key, subkey
from gateway.ports import QualityApi, Unavailable, VoiceprintApi
from gateway.quality.api import QualityEndpoints
from gateway.quality.audio import AudioFolder, RecordingReader
from gateway.quality.push import ResultPusher
from gateway.quality.record_routes import RecordRoutes
from gateway.quality.rule_routes import RuleRoutes
from gateway.quality.rulebook import Rulebook
from gateway.quality.service import QualityService
from gateway.quality.tokens import AccessTokens
from gateway.quality.transcribe import Transcriber
from gateway.quality.trial import Trials
from gateway.quality.trial_routes import TrialRoutes
from gateway.quality.vendor_rules import VendorRulebook
from gateway.quality.vendor_sync import VendorSync
from gateway.quality.worker import QualityWorker
from gateway.session.admission import Limits
from gateway.session.calls import Calls
from gateway.session.engines import Engines as CallEngines
from gateway.session.loop_lag import LoopLag
from gateway.session.moving import Moving
from gateway.session.ownership import Standing
from gateway.session.rule_changes import RuleChanges
from gateway.session.rulesets import RuleSets
from gateway.session.session import Keeping, Patience
from gateway.session.settings import call_settings
from gateway.settings import Settings, in_url, is_loopback, parse_address, parse_apps, parse_fetch_allow
from gateway.stores import apps, calls, outbox, quality, quality_rules, rule_books, rule_outcomes, voiceprints
from gateway.stores.apps import Apps
from gateway.stores.calls import CallRecords
from gateway.stores.cluster import Cluster, solitary, through_redis
from gateway.stores.disk_space import DiskSpace
from gateway.stores.dispatch import Dispatcher
from gateway.stores.journal import FileJournal, JournalLimits, RecoveredCall
from gateway.stores.outbox import Outbox, OutboxState
from gateway.stores.ownership import DataFolderLock
from gateway.stores.quality import SqliteQualityTasks
from gateway.stores.quality_pushes import SqliteQualityPushes
from gateway.stores.quality_rules import SqliteQualityRules
from gateway.stores.recordings import Recordings
from gateway.stores.redis_connection import RedisConnection, Unsuitable, check_suitable
from gateway.stores.rule_books import SqliteRuleBooks
from gateway.stores.rule_outcomes import SqliteRuleOutcomes
from gateway.stores.serving import served_at
from gateway.stores.sqlite import Database, Schema
from gateway.stores.voiceprints import SqliteVoiceprints
from gateway.telemetry import Metrics
from gateway.voiceprint.api import VoiceprintRoutes
from gateway.voiceprint.clip import ClipReader
from gateway.voiceprint.links import SignedLinks
from gateway.voiceprint.local import LocalVoiceprintApi
from gateway.voiceprint.service import VoiceprintService
from protocol.quality import MAX_AUDIO_BYTES

log = structlog.get_logger(__name__)

SCHEMAS: tuple[Schema, ...] = (
    apps.SCHEMA, calls.SCHEMA, outbox.SCHEMA, rule_books.SCHEMA, voiceprints.SCHEMA, quality.SCHEMA,
    quality_rules.SCHEMA, rule_outcomes.SCHEMA,
)  # fmt: skip
MAX_RECORDING_S = 6 * 3600
APPS_REFRESH_S = 30.0
"""How often a running server looks for apps that `earshot app create` has added."""
GAUGES_REFRESH_S = 5.0
LEAVING_GRACE_S = 5.0
"""How much longer than a shutdown may take a successor waits for its predecessor."""
MOST_GOODBYE_S = 2.0
"""How long a shutdown waits for clients to close their sockets, and again for their HTTP requests."""
WATCHED_STATES: tuple[OutboxState, ...] = ("pending", "submitted", "dead")


class StartFailed(Exception):
    """The server cannot start; the text says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started server listens."""

    http: str
    """Base URL."""
    ws: str
    """URL of the native socket."""


def create_app(settings: Settings, app_id: str | None) -> tuple[str, str]:
    """A new app and its secret, in the data folder. Raises ValueError for an id that is taken or malformed."""
    database = Database(settings.data_path / "earshot.db", SCHEMAS)
    try:
        return Apps(database, parse_apps(settings.apps)).create(app_id)
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
            recognizer_processes=settings.recognizer_processes or None,
            on_ready=lambda engine: on_progress(f"{engine} ready"),
        )
        self._folder = DataFolderLock(data)
        self._database = Database(data / "earshot.db", SCHEMAS)
        self._begun = AsyncExitStack()
        """What `start` has begun, to be ended in the opposite order."""
        self.uses_local_app = False
        self.apps = Apps(self._database, self._configured_apps())
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
        self._load_level = 0

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
            self._refuse_to_share()
        self._on_progress("loading the engines")
        await self.engines.start()
        self._begun.push_async_callback(self.engines.stop)
        if not alone:
            await self._take_over()
        await asyncio.to_thread(_sweep_spool, settings.data_path / "spool")
        self._http_client = await self._begun.enter_async_context(aiohttp.ClientSession())
        recordings = Recordings(settings.data_path)
        cluster = await self._join_cluster()
        self._journal = FileJournal(
            settings.data_path,
            recordings,
            limits=JournalLimits(commit_interval_ms=settings.commit_interval_ms),
            follower=cluster.replication,
        )
        self._begun.push_async_callback(cluster.owners.stop)
        self._begun.push_async_callback(cluster.replication.stop)
        await self._journal.start()
        self._begun.push_async_callback(self._journal.stop)
        cluster.replication.start(self._journal.read_back)
        self.metrics.journal_backlog_bytes.set_function(lambda: self._journal.backlog_bytes)
        await self.disk_space.look()
        self._run("disk-space", self.disk_space.run())
        self._run("loop-lag", self._loop_lag.run())
        records = CallRecords(self._database)
        self._outbox = box = Outbox(self._database, self._clock, data_dir=settings.data_path)
        self._fetcher = GuardedFetcher(FetchTargets(parse_fetch_allow(settings.fetch_allow)))
        callbacks = self._callbacks()
        rules = SqliteQualityRules(self._database, changed=lambda: rule_changes.changed())
        voiceprint_routes, voices = await self._voiceprint()
        quality_routes, qc = self._quality(rules, callbacks)
        rulesets = RuleSets(rules, cluster.books)
        moving = Moving(cluster.owners, self._journal, cluster.tail, cluster.late, records)
        self.calls = self._calls(voices, rulesets, records, box, cluster, moving)
        rule_changes = RuleChanges(lambda: self.calls.sessions, rulesets, rules)
        dispatcher = Dispatcher(
            box,
            qc,
            self._clock,
            on_status=self.calls.note_verdict,
            on_dead=self.calls.note_no_verdict,
            poll_s=settings.qc_poll_s,
        )
        self.calls.take_up(self._left_behind)
        cluster.owners.start(self.calls.lose, self.calls.adopt, moving.look_after)
        self._run("rule-changes", rule_changes.run())
        dispatcher.start()
        self._begun.push_async_callback(dispatcher.stop)
        self._run("apps-refresh", self._refresh_apps())
        self._run("outbox-gauges", self._refresh_gauges())
        self._run("load", self._follow_load())
        door = HttpDoor(self.calls, records, recordings.path, self._credentials, self.metrics, self._not_ready)
        routes = [*door.routes(), *voiceprint_routes, *quality_routes]
        routes += self._rule_routes(records, door.caller)
        if callbacks is not None:
            routes += QualityCallbacks(callbacks, dispatcher.deliver_callback).routes()
        await self._listen(routes)

    def _refuse_to_share(self) -> None:
        """Another process has the data folder. That one is leaving, or told to leave later, or the start ends here."""
        serving = served_at(self.settings.data_path)
        if serving is not None and not self._replace:
            raise StartFailed(
                f"process {serving.pid} serves the data folder {self.settings.data_path} at {serving.http}: "
                "stop it, start with --replace to take over from it, or choose another folder with --data"
            )

    async def _take_over(self) -> None:
        """Wait, ready to serve, until the predecessor has let go of the data folder; with `replace`, tell it to."""
        predecessor = self._folder.holder()
        if self._replace and predecessor is not None and served_at(self.settings.data_path) is not None:
            with suppress(ProcessLookupError):
                os.kill(predecessor, signal.SIGTERM)
        self._on_progress(f"waiting for process {predecessor} to let go of {self.settings.data_path}")
        patience_s = self.settings.drain_s + LEAVING_GRACE_S
        try:
            async with asyncio.timeout(patience_s):
                await self._folder.wait()
        except TimeoutError:
            raise StartFailed(
                f"process {predecessor} has not let go of the data folder {self.settings.data_path} "
                f"in {patience_s:g} s: stop it, or choose another folder with --data"
            ) from None

    def _callbacks(self) -> CallbackAddresses | None:
        """Where a vendor may deliver verdicts; None when there is no vendor, or it has no way to reach us."""
        if not (self.settings.quality_url and self.settings.public_url):
            return None
        return CallbackAddresses(subkey(self._key, "qc-callback"), self.settings.public_url)

    async def _join_cluster(self) -> Cluster:
        """What this node shares with others, through Redis; without one it is alone. Raises StartFailed."""
        settings = self.settings
        books = SqliteRuleBooks(self._database)
        if not settings.redis_url:
            self._cluster = solitary(self._clock, books, resume_window_s=settings.resume_window_s)
            return self._cluster
        connection = RedisConnection(settings.redis_url)
        self._begun.push_async_callback(connection.close)
        try:
            doubts = await check_suitable(connection, replicated=settings.replicated)
        except Unsuitable as fault:
            raise StartFailed(str(fault)) from fault
        except Unavailable as fault:
            doubts = [f"{fault}; this node goes on alone until it can be"]
        for doubt in doubts:
            log.warning("cluster_doubtful", doubt=doubt)
        standing = Standing(settings.lease_s, settings.resume_window_s, settings.replicated)
        node = settings.node or f"{socket.gethostname()}-{secrets.token_hex(3)}"
        self._cluster = through_redis(connection, node, self._clock, books, standing, self._note_replication)
        log.info(
            "node_of_a_cluster",
            node=node,
            redis=connection.shown_url,
            ack="replica" if standing.replicated else "local",
        )
        return self._cluster

    def _note_replication(self, fault: str | None) -> None:
        if fault is None:
            log.info("replication_is_well")
        else:
            log.warning("replication_is_not_well", fault=fault)

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until this server stops."""
        task = asyncio.create_task(work, name=name)
        self._begun.push_async_callback(_cancelled, task)
        return task

    async def _voiceprint(self) -> tuple[list[web.RouteDef], VoiceprintApi]:
        """Our own service always serves its routes; calls ask it, or the one that a setting names."""
        settings = self.settings
        self._voices = VoiceprintService(
            store=SqliteVoiceprints(self._database),
            embedder=self.engines.embedder,
            speech=self.engines.confirmer,
            no_space=lambda: self.disk_space.refusal,
        )
        await self._voices.start()
        self._begun.push_async_callback(self._voices.close)
        links = SignedLinks(subkey(self._key, "links"), public_url=self._public_url, now=time)
        routes = VoiceprintRoutes(
            self._voices,
            ClipReader(self.engines.decoder, self._fetcher),
            self._credentials,
            links,
            max_requests_per_app=settings.max_requests_per_app,
        ).routes()
        if not settings.voiceprint_url:
            return routes, LocalVoiceprintApi(self._voices)
        app_id, _, secret = settings.voiceprint_app.partition(":")
        return routes, VoiceprintHttp(
            settings.voiceprint_url, self._http_client, credentials=lambda _: (app_id, secret), now=time
        )

    def _quality(
        self, rules: SqliteQualityRules, callbacks: CallbackAddresses | None
    ) -> tuple[list[web.RouteDef], QualityApi]:
        """As with voices: our own service serves, and judges unless a setting names another."""
        settings = self.settings
        tasks = SqliteQualityTasks(self._database)
        folder = AudioFolder(settings.data_path / "quality")
        transcriber = Transcriber(self.engines.recognizer, self.engines.confirmer, self._clock)
        reader = RecordingReader(self.engines.decoder, max_audio_s=MAX_RECORDING_S)
        worker = QualityWorker(tasks, rules, folder, reader, transcriber, finished=lambda: pusher.wake())
        service = QualityService(
            tasks, folder, submitted=worker.wake, fetcher=self._fetcher, no_space=lambda: self.disk_space.refusal
        )
        pusher = ResultPusher(SqliteQualityPushes(self._database, self._clock), service, self._fetcher, self._clock)
        vendor = self._quality_vendor(callbacks)
        self._rulebook = Rulebook(rules, VendorRulebook(vendor) if vendor else None)
        tokens = AccessTokens(subkey(self._key, "tokens"), self._credentials, self.apps, time)
        routes = QualityEndpoints(service, self._rulebook, tokens, max_audio_bytes=MAX_AUDIO_BYTES).routes()
        self._worker = self._run("quality-worker", worker.run())
        self._run("quality-push", pusher.run())
        self._vendor_sync: VendorSync | None = None
        if vendor is not None:
            self._vendor_sync = VendorSync(
                self._rulebook, lambda: self.apps.app_ids, self._clock, every_s=settings.rules_sync_s
            )
            self._run("rules-sync", self._vendor_sync.run())
        return routes, vendor or service

    def _rule_routes(self, records: CallRecords, caller: Callable[[web.Request], str]) -> list[web.RouteDef]:
        trials = Trials(records, self._clock, pinyin=self.settings.pinyin)
        return [
            *RecordRoutes(SqliteRuleOutcomes(self._database), self._clock, caller).routes(),
            *TrialRoutes(self._rulebook, trials, caller).routes(),
            *RuleRoutes(self._rulebook, self._vendor_sync, caller).routes(),
        ]

    def _quality_vendor(self, callbacks: CallbackAddresses | None) -> QualityHttp | None:
        settings = self.settings
        if not settings.quality_url:
            return None
        client_id, _, client_secret = settings.quality_app.partition(":")
        return QualityHttp(
            self._http_client,
            settings.quality_url,
            lambda _: (client_id, client_secret),
            callback_url=callbacks.url if callbacks else None,
        )

    def _calls(
        self,
        voices: VoiceprintApi,
        rulesets: RuleSets,
        records: CallRecords,
        tasks: Outbox,
        cluster: Cluster,
        moving: Moving,
    ) -> Calls:
        settings = self.settings
        outcomes = SqliteRuleOutcomes(self._database)
        return Calls(
            CallEngines(self.engines.confirmer, self.engines.recognizer, voices),
            Keeping(self._journal, records, outcomes, tasks, self._clock, self.metrics, cluster.owners),
            rulesets,
            call_settings(settings, WebrtcGate),
            Patience(settings.resume_window_s, settings.settle_timeout_s),
            Limits(settings.max_calls, settings.max_call_s, settings.max_calls_per_app),
            subkey(self._key, "resume"),
            moving,
            self._pressure,
        )

    def _pressure(self) -> str:
        """Why no new call should begin, nothing when all is well: running ones must not suffer from it."""
        return self.disk_space.refusal or self._loop_lag.refusal or self.engines.overload

    async def _left_behind(self) -> Iterable[RecoveredCall]:
        return (await self._journal.recover()).calls

    async def _listen(self, routes: list[web.RouteDef]) -> None:
        settings = self.settings
        application = web.Application(client_max_size=1024 * 1024, middlewares=[guard_requests])
        application.add_routes(routes)
        bounds = HttpLimits(head_timeout_s=settings.handshake_timeout_s, max_strangers=settings.max_pending_connections)
        http = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=self._goodbye_s,
            keepalive_timeout=bounds.idle_timeout_s,
        )
        await http.setup()
        self._begun.push_async_callback(http.cleanup)
        http_host, http_port = parse_address("http", settings.http)
        ws_host, ws_port = parse_address("ws", settings.ws)
        tls = self._tls.context if self._tls else None
        self._native = NativeDoor(self.calls, self._credentials, door_limits(settings), self.metrics)
        with _listening("http", settings.http):
            await GuardedSite(http, http_host, http_port, tls, bounds, self.metrics).start()
        with _listening("ws", settings.ws):
            self._ws: Server = await self._native.serve(ws_host, ws_port, tls)
        secure = "s" if self._tls else ""
        http_port = http.addresses[0][1]
        ws_port = next(iter(self._ws.sockets)).getsockname()[1]
        self._addresses = Addresses(
            f"http{secure}://{in_url(http_host)}:{http_port}", f"ws{secure}://{in_url(ws_host)}:{ws_port}/v1/calls"
        )

    async def _refresh_apps(self) -> None:
        while True:
            await asyncio.sleep(APPS_REFRESH_S)
            try:
                await self.apps.refresh()
            except sqlite3.Error as fault:
                log.warning("apps_not_refreshed", fault=str(fault))

    async def _refresh_gauges(self) -> None:
        while True:
            try:
                await self.refresh_gauges()
            except sqlite3.Error as fault:
                log.warning("outbox_not_counted", fault=str(fault))
            await asyncio.sleep(GAUGES_REFRESH_S)

    async def refresh_gauges(self) -> None:
        """Count what waits in the outbox."""
        depths = {depth.state: depth for depth in await self._outbox.depths()}
        now = self._clock.wall()
        for state in WATCHED_STATES:
            depth = depths.get(state)
            self.metrics.outbox_tasks.labels(state).set(depth.tasks if depth else 0)
            self.metrics.outbox_oldest_s.labels(state).set(max(0.0, now - depth.oldest_at) if depth else 0)

    async def _follow_load(self) -> None:
        """Let the calls know how loaded the recogniser is."""
        recognizer, metrics = self.engines.pools["recognizer"], self.metrics
        while True:
            await asyncio.sleep(TICK_S)
            level = self.engines.load.tick()
            if level != self._load_level:
                log.info("load_changed", level=level, queued=recognizer.queued, lag_s=round(recognizer.lag_s, 2))
                self._load_level = level
            self.calls.pace(level)
            metrics.load_level.set(level)
            metrics.recognizer_queue.set(recognizer.queued)
            metrics.recognizer_lag_s.set(recognizer.lag_s)

    def _public_url(self) -> str:
        return self.settings.public_url or self.addresses.http

    def _not_ready(self) -> str:
        if self._draining:
            return "the server is shutting down"
        if not self.engines.ready:
            return "an engine is being restarted"
        if self._journal.degraded:
            return f"the journal is degraded: {self._journal.degraded}"
        if self._cluster.replication.degraded:
            return f"acks wait for the cluster: {self._cluster.replication.degraded}"
        if self.calls.recovery.fault is not None:
            return f"unfinished calls could not be looked for: {self.calls.recovery.fault}"
        if self._worker.done():
            return "the voice QC worker has ended"
        return self._pressure()

    # --- stopping ---

    @property
    def _goodbye_s(self) -> float:
        """The share of a shutdown that others may take their time for; the rest is for keeping what they sent."""
        return min(MOST_GOODBYE_S, self.settings.drain_s / 4)

    async def stop(self) -> None:
        """Tell clients, let go of calls (the journal has them), finish what is being kept, stop listening.

        New calls are refused from the first moment, and both listeners answer until the clients are gone: whoever asks
        hears that the server is going away. A client that does not close its socket is cut off.
        """
        self._draining = True
        self._native.drain()
        deadline_ms = int(self.settings.drain_s * 1000)
        for session in self.calls.sessions:
            session.say_goodbye(deadline_ms)
        await self.calls.stop()
        if self._ws.handler_tasks:
            await asyncio.wait(set(self._ws.handler_tasks), timeout=self._goodbye_s)
        hanging = set(self._ws.all_connections)  # `connections` leaves out those that are closing
        for connection in hanging:
            connection.transport.abort()
        if hanging:
            log.warning("clients_cut_off", sockets=len(hanging))
        self._ws.close()
        await self._ws.wait_closed()
        await self._begun.aclose()

    def reload_certificate(self) -> None:
        """Read the TLS certificate again; connections from now on get it. Raises BadCertificate."""
        if self._tls is not None:
            self._tls.reload()


@contextmanager
def _listening(name: str, address: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        # asyncio writes a sentence of its own around the system's reason; a failed look-up has no such reason.
        reason = os.strerror(fault.errno) if fault.errno and fault.errno > 0 else fault.strerror or str(fault)
        raise StartFailed(f"cannot listen on {name} {address}: {reason}") from fault


def _sweep_spool(spool: Path) -> None:
    """Remove what processes that are gone were decoding."""
    for left in spool.iterdir() if spool.is_dir() else ():
        if left.name == str(os.getpid()):
            continue
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        return monotonic()

    def wall(self) -> float:
        return time()
