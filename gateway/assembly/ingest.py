"""What ingests calls, put together: their journal, the calls in memory, and the native socket that brings them.

A server that is one process has one of these beside all the rest; a server with workers has one in each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from websockets.asyncio.server import Server

from gateway.assembly.browsers import Browsers
from gateway.assembly.call_shelves import CallShelves, call_shelves
from gateway.assembly.cluster import join_cluster
from gateway.credentials import Credentials
from gateway.doors.limits import door_limits
from gateway.doors.native import NativeDoor
from gateway.doors.relay import Siblings
from gateway.doors.tls import Tls
from gateway.doors.watching import WatchDoor
from gateway.engines.webrtc import WebrtcGate
from gateway.keys import subkey
from gateway.ports import Clock, QualityRules, RuleBooks, TaskQueue
from gateway.ports.bus import Bus
from gateway.session.admission import Limits, Places
from gateway.session.calls import Calls
from gateway.session.engines import Engines
from gateway.session.feed import Feed
from gateway.session.feed_elsewhere import FeedElsewhere
from gateway.session.keeping import Keeping, Patience
from gateway.session.moving import Moving
from gateway.session.rule_changes import RuleChanges
from gateway.session.rulesets import RuleSets
from gateway.session.settings import call_settings
from gateway.settings import Settings
from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.journal_found import RecoveredCall
from gateway.stores.rule_books import SqliteRuleBooks
from gateway.stores.rule_outcomes import SqliteRuleOutcomes
from gateway.stores.solitary_bus import SolitaryBus
from gateway.stores.sqlite import Database
from gateway.telemetry import Metrics

log = structlog.get_logger(__name__)

MOST_GOODBYE_S = 2.0
"""How long a shutdown waits for clients to close their sockets, and again for their HTTP requests."""


def goodbye_s(settings: Settings) -> float:
    """The share of a shutdown that others may take their time for; the rest is for keeping what they sent."""
    return min(MOST_GOODBYE_S, settings.drain_s / 4)


@dataclass(frozen=True, slots=True)
class IngestGround:
    """What ingesting stands on."""

    settings: Settings
    database: Database
    clock: Clock
    key: bytes
    credentials: Credentials
    metrics: Metrics
    browsers: Browsers
    folder: Path
    """Where the journal is."""
    begun: AsyncExitStack
    run: Callable[[str, Coroutine[Any, Any, None]], asyncio.Task[None]]
    """Runs work until the process stops."""
    bus: Bus = field(default_factory=SolitaryBus)
    """How it hears of the calls of other processes."""
    shelves: CallShelves | None = None
    """What the process keeps of calls; None: it makes that itself."""
    siblings: Siblings | None = None
    """Processes that share the port and the database."""
    places: Places | None = None
    """Limits that hold over all of them."""


class Ingest:
    """One process's calls. `open`, then `begin`, then `listen`; what they begin ends with the ground's `begun`."""

    def __init__(self, ground: IngestGround) -> None:
        self._ground = ground
        shelves = ground.shelves or call_shelves(ground.settings, ground.database, ground.clock, ground.begun)
        self.shelves = shelves
        self.records, self.recordings = shelves.own, shelves.recordings
        self._listeners: list[Server] = []
        self._feed = Feed()

    async def open(self) -> None:
        """Join the cluster, if there is one, and begin a journal. Raises StartFailed, OSError."""
        ground = self._ground
        settings, begun = ground.settings, ground.begun
        books: RuleBooks = SqliteRuleBooks(ground.database)
        if ground.siblings is not None:
            books = BooksOfSeveral(books)
        self._cluster = cluster = await join_cluster(settings, books, ground.clock, begun)
        self.journal = FileJournal(
            ground.folder,
            self.recordings,
            limits=JournalLimits(commit_interval_ms=settings.commit_interval_ms),
            follower=cluster.replication,
        )
        begun.push_async_callback(cluster.owners.stop)
        begun.push_async_callback(cluster.replication.stop)
        await self.journal.start()
        begun.push_async_callback(self.journal.stop)
        cluster.replication.start(self.journal.read_back)
        ground.metrics.journal_backlog_bytes.set_function(lambda: self.journal.backlog_bytes)

    def begin(self, engines: Engines, rules: QualityRules, tasks: TaskQueue, pressure: Callable[[], str]) -> None:
        """Take up the calls that were left in the journal's folder. `engines` answer calls, `tasks` take their
        recordings, `pressure` says why no new call should begin, or nothing."""
        ground, cluster = self._ground, self._cluster
        settings = ground.settings
        rulesets, shelves = RuleSets(rules, cluster.books), self.shelves
        moving = Moving(
            *(cluster.owners, self.journal, self.journal.adopted, cluster.tail, cluster.late, self.records),
            give_up=shelves.give_up,
        )
        outcomes = SqliteRuleOutcomes(ground.database)
        self.calls = Calls(
            engines,
            Keeping(
                *(self.journal, self.records, outcomes, tasks, ground.clock, ground.metrics, cluster.owners),
                feed=self._feed,
            ),
            rulesets,
            call_settings(settings, WebrtcGate),
            Patience(settings.resume_window_s, settings.settle_timeout_s),
            Limits(settings.max_calls, settings.max_call_s, settings.max_calls_per_app),
            subkey(ground.key, "resume"),
            moving,
            pressure,
            ground.places,
        )
        self.rule_changes = RuleChanges(lambda: self.calls.sessions, rulesets, rules)
        self.calls.take_up(self._left_behind)
        cluster.owners.start(self.calls.lose, self.calls.adopt, moving.look_after)
        ground.run("rule-changes", self.rule_changes.run())

    async def _left_behind(self) -> Iterable[RecoveredCall]:
        return (await self.journal.adopted.recover()).calls

    async def listen(self, at: tuple[str, int], tls: Tls | None, http_port: int) -> int:
        """Take calls at this host and port, also from pages that `http_port` serves; the port. Raises OSError."""
        ground = self._ground
        limits = door_limits(ground.settings)
        elsewhere = FeedElsewhere(ground.bus, self._feed)
        elsewhere.start()
        ground.begun.push_async_callback(elsewhere.stop)
        ground.begun.push_async_callback(self._feed.stop)
        taken_up = self.calls.recovery.taken_up
        self._watching = WatchDoor(self._feed, elsewhere, self.shelves.store, limits, ground.metrics, taken_up)
        self._door = NativeDoor(
            self.calls,
            ground.credentials,
            limits,
            ground.metrics,
            tickets=ground.browsers.tickets,
            origins=ground.browsers.origins(http_port),
            siblings=ground.siblings,
            watching=self._watching,
        )
        if ground.siblings is not None:
            self._listeners.append(await self._door.serve_siblings(ground.siblings))
        host, port = at
        ws = await self._door.serve(host, port, tls.context if tls else None)
        self._listeners.append(ws)
        bound: int = next(iter(ws.sockets)).getsockname()[1]
        return bound

    @property
    def not_ready(self) -> str:
        """What is amiss, or nothing."""
        if self.journal.degraded:
            return f"the journal is degraded: {self.journal.degraded}"
        if self._cluster.replication.degraded:
            return f"acks wait for the cluster: {self._cluster.replication.degraded}"
        if self.calls.recovery.fault is not None:
            return f"unfinished calls could not be looked for: {self.calls.recovery.fault}"
        return ""

    async def drain(self) -> None:
        """Tell clients, let go of calls (the journal has them), finish what is being kept, stop listening.

        New calls are refused from the first moment, and the listener answers until the clients are gone. A client that
        does not close its socket is cut off.
        """
        settings = self._ground.settings
        self._door.drain()
        deadline_ms = int(settings.drain_s * 1000)
        for session in self.calls.sessions:
            session.say_goodbye(deadline_ms)
        self._watching.drain(deadline_ms)
        await self.calls.stop()
        handlers = {task for listener in self._listeners for task in listener.handler_tasks}
        if handlers:
            await asyncio.wait(handlers, timeout=goodbye_s(settings))
        # `connections` leaves out those that are closing
        hanging = {connection for listener in self._listeners for connection in listener.all_connections}
        for connection in hanging:
            connection.transport.abort()
        if hanging:
            log.warning("clients_cut_off", sockets=len(hanging))
        for listener in self._listeners:
            listener.close()
            await listener.wait_closed()


class BooksOfSeveral:
    """Fills the role RuleBooks where several processes keep theirs in one place: what one does not need another may."""

    def __init__(self, books: RuleBooks) -> None:
        self._books = books

    async def keep(self, digest: str, book: bytes) -> None:
        await self._books.keep(digest, book)

    async def get(self, digest: str) -> bytes | None:
        return await self._books.get(digest)

    async def keep_only(self, digests: Collection[str]) -> int:
        """Nothing goes: the next start with one process knows what all calls need."""
        return 0
