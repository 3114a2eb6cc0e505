"""A small server for tests of the native socket: the real door, calls and journal around scripted engines."""

from __future__ import annotations

import asyncio
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from gateway.call.settings import CallSettings
from gateway.call.track_record import RuleOutcome
from gateway.credentials import Credentials
from gateway.doors.limits import DoorLimits
from gateway.doors.native import NativeDoor
from gateway.doors.watching import WatchDoor
from gateway.ports import (
    CallRecord,
    Candidate,
    QualityAnswer,
    QualityTask,
    RuleBooks,
    RuleTrack,
    SpeechProbabilities,
    StoredCategory,
    TranscribeRequest,
    Transcription,
    Word,
)
from gateway.ports.bus import Bus
from gateway.session.admission import Limits
from gateway.session.calls import Calls
from gateway.session.engines import Engines
from gateway.session.feed import Feed
from gateway.session.feed_elsewhere import FeedElsewhere
from gateway.session.keeping import Keeping, Patience
from gateway.session.moving import Moving
from gateway.session.ownership import Standing
from gateway.session.rulesets import RuleSets
from gateway.stores.cluster import Cluster, in_memory, solitary
from gateway.stores.durable_files import Disk
from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.journal_found import RecoveredCall
from gateway.stores.memory_cluster import MemoryRegistry
from gateway.stores.recordings import Recordings
from gateway.stores.solitary_bus import SolitaryBus
from gateway.telemetry import Metrics
from protocol.codec import SUBPROTOCOL, decode_server, encode
from protocol.messages import ClientMessage, ServerMessage, Start, Started
from protocol.voiceprint import signed_headers
from tests.unit.call.sound import LoudnessGate, loud

SECRETS = {"demo": "demo-secret", "other": "other-secret"}
PATIENCE_S = 20
"""For what must happen on a machine under load; a test that waits this long has failed."""
M = TypeVar("M")


# --- scripted engines --------------------------------------------------------------------------------------------


@dataclass
class LoudnessConfirmer:
    """Loud is speech. While `free` is not set, no answer comes."""

    free: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.free.set()

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        await self.free.wait()
        window = 2 * 32 * rate_hz // 1000
        cuts = (pcm[at : at + window] for at in range(0, len(pcm), window))
        return SpeechProbabilities(tuple(0.99 if loud(cut) else 0.01 for cut in cuts), b"")


@dataclass
class ScriptedRecognizer:
    """Texts by segment id; `partials` too, and a segment in neither was silence."""

    finals: dict[str, str] = field(default_factory=dict)
    partials: dict[str, str] = field(default_factory=dict)
    fault: Exception | None = None

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        if self.fault is not None:
            raise self.fault
        texts = self.partials if request.kind == "partial" else self.finals
        text = texts.get(request.key.rpartition("/")[2], "")
        span_ms = len(request.pcm) * 1000 // (2 * request.rate_hz)
        parts = [part if at == 0 else f" {part}" for at, part in enumerate(text.split())]
        each_ms = span_ms // max(1, len(parts))
        words = tuple(Word(part, at * each_ms, (at + 1) * each_ms) for at, part in enumerate(parts))
        return Transcription(text, "en", words)


@dataclass
class ScriptedVoiceprint:
    """The same candidates for every voice; remembers whom it was asked to compare with."""

    candidates: tuple[Candidate, ...] = (Candidate("Anna", 81.0), Candidate("Ben", 40.0))
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        self.asked.append((app_id, org_id, tag_id))
        return self.candidates


# --- scripted stores ---------------------------------------------------------------------------------------------


@dataclass
class CallsInMemory:
    """The CallStore port in a dictionary. `judged` is set once any call is."""

    records: dict[tuple[str, str], CallRecord] = field(default_factory=dict)
    judged: asyncio.Event = field(default_factory=asyncio.Event)

    async def save(self, record: CallRecord) -> None:
        # Through JSON, as a database would: what cannot be stored must fail here too.
        self.records[record.app_id, record.call_id] = msgspec.json.decode(msgspec.json.encode(record), type=CallRecord)
        if record.state == "judged":
            self.judged.set()

    async def get(self, app_id: str, call_id: str) -> CallRecord | None:
        return self.records.get((app_id, call_id))

    async def left_behind(self, call_id: str) -> CallRecord | None:
        return next((record for (_, known_id), record in self.records.items() if known_id == call_id), None)

    async def page(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[CallRecord]:
        newest_first = [one for one in reversed(self.records.values()) if one.app_id == app_id]
        ids = [one.call_id for one in newest_first]
        begin = ids.index(before) + 1 if before is not None else 0
        return newest_first[begin : begin + limit]


@dataclass
class OutcomesInMemory:
    """The RuleOutcomes port in a dictionary, without its sums."""

    kept: dict[tuple[str, str], list[RuleOutcome]] = field(default_factory=dict)

    async def keep(self, app_id: str, call_id: str, judged_at_ms: int, outcomes: Sequence[RuleOutcome]) -> None:
        self.kept[app_id, call_id] = list(outcomes)

    async def tracks(self, app_id: str, *, since_ms: int, limit: int) -> Sequence[RuleTrack]:
        raise NotImplementedError("nobody asks here")


@dataclass
class TasksInMemory:
    """The TaskQueue port: keeps what voice QC would be asked, and answers at once with `result` if there is one."""

    result: dict[str, Any] | None = None
    tasks: dict[str, QualityTask] = field(default_factory=dict)
    on_verdict: Callable[[str, str, QualityAnswer], Awaitable[None]] | None = None
    _reports: set[asyncio.Task[None]] = field(default_factory=set)

    async def put(self, task: QualityTask, call_id: str) -> bool:
        if task.session_id in self.tasks:
            return False
        self.tasks[task.session_id] = task
        if self.result is not None:
            report = asyncio.get_running_loop().create_task(self._report(task, self.result))
            self._reports.add(report)
        return True

    async def finished(self) -> None:
        await asyncio.gather(*self._reports)

    async def _report(self, task: QualityTask, result: dict[str, Any]) -> None:
        assert self.on_verdict is not None
        await self.on_verdict(task.app_id, task.session_id, QualityAnswer(1, "running", {}))
        await self.on_verdict(task.app_id, task.session_id, QualityAnswer(2, "done", result))


@dataclass(frozen=True)
class FixedRules:
    categories: tuple[StoredCategory, ...] = ()

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        return 1, self.categories


@dataclass
class BooksInMemory:
    """The RuleBooks port in a dictionary."""

    books: dict[str, bytes] = field(default_factory=dict)

    async def keep(self, digest: str, book: bytes) -> None:
        self.books[digest] = book

    async def get(self, digest: str) -> bytes | None:
        return self.books.get(digest)

    async def keep_only(self, digests: Collection[str]) -> int:
        gone = self.books.keys() - digests
        for digest in gone:
            del self.books[digest]
        return len(gone)


class WallClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class FixedApps:
    def secrets(self, app_id: str) -> tuple[str, ...]:
        return (SECRETS[app_id],) if app_id in SECRETS else ()


# --- the server --------------------------------------------------------------------------------------------------


@dataclass
class Options:
    """What a test wants otherwise than usual."""

    rules: dict[str, list[str]] = field(default_factory=dict)
    qc_result: dict[str, Any] | None = field(default_factory=lambda: {"detection_result": []})
    first_message_timeout_s: float = 10
    audio_timeout_s: float = 15
    resume_window_s: float = 60
    max_call_s: float = 3600
    max_calls: int = 10
    max_calls_per_app: int = 0
    door: dict[str, Any] = field(default_factory=dict)
    """Further fields of DoorLimits."""
    journal: JournalLimits = field(default_factory=lambda: JournalLimits(commit_interval_ms=5))
    disk: Disk | None = None
    pressure: Callable[[], str] = lambda: ""
    books: BooksInMemory = field(default_factory=BooksInMemory)
    """To be handed on, with the records, to the next server on the same folder."""
    records: CallsInMemory = field(default_factory=CallsInMemory)
    may_look: asyncio.Event | None = None
    """Until it is set, nobody looks for the calls that were left behind."""
    replicated: bool = False
    lease_s: float = 3600
    bus: Bus = field(default_factory=SolitaryBus)


@dataclass
class World:
    """A running server and everything a test may look at or script."""

    url: str
    server: Server
    calls: Calls
    recordings: Recordings
    confirmer: LoudnessConfirmer
    recognizer: ScriptedRecognizer
    voiceprint: ScriptedVoiceprint
    records: CallsInMemory
    tasks: TasksInMemory
    metrics: Metrics
    cluster: Cluster
    journal: FileJournal
    feed: Feed
    elsewhere: FeedElsewhere
    watching: WatchDoor

    def cut_connections(self) -> None:
        """The network fails: every socket is gone without a closing handshake."""
        for connection in list(self.server.connections):
            connection.transport.abort()

    @property
    def unfinished(self) -> set[str]:
        """Calls that the journal still keeps."""
        return set(self.journal.call_ids)

    def recorded_pcm(self, call_id: str) -> bytes:
        """The sealed recording's samples: s16le, interleaved."""
        with wave.open(str(self.recordings.path(call_id)), "rb") as wav:
            return wav.readframes(wav.getnframes())

    @asynccontextmanager
    async def wire(self, *, app_id: str = "demo", **options: Any) -> AsyncIterator[Wire]:
        """A bare socket with good credentials; `options` go to `websockets.connect`."""
        settings: dict[str, Any] = {
            "additional_headers": signed(app_id),
            "subprotocols": [Subprotocol(SUBPROTOCOL)],
            "compression": None,
            "proxy": None,
            **options,
        }
        async with connect(self.url, **settings) as connection:
            yield Wire(connection)

    @asynccontextmanager
    async def call(self, *, app_id: str = "demo", **start: Any) -> AsyncIterator[Wire]:
        """A bare socket whose call has started; 8 kHz unless `start` says otherwise."""
        async with self.wire(app_id=app_id) as wire:
            await wire.send(Start(**{"rate": 8000, **start}))
            await wire.until(Started)
            yield wire


@dataclass
class Wire:
    """The client's end of one socket."""

    connection: ClientConnection
    log: list[ServerMessage] = field(default_factory=list)

    async def send(self, message: ClientMessage | Mapping[str, Any] | str | bytes) -> None:
        """A message or mapping as JSON text, a string as it is, bytes as a binary frame."""
        if isinstance(message, (bytes, str)):
            await self.connection.send(message)
        else:
            payload = msgspec.json.encode(message) if isinstance(message, Mapping) else encode(message)
            await self.connection.send(payload, text=True)

    async def until(self, kind: type[M], wanted: Callable[[M], bool] = lambda _: True) -> M:
        """Read up to the first message of the kind that is wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = decode_server(await self.connection.recv())
                self.log.append(message)
                if isinstance(message, kind) and wanted(message):
                    return message

    async def closed(self) -> tuple[int, str]:
        """Read to the end: the close code and reason."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while True:
                    self.log.append(decode_server(await self.connection.recv()))
            except ConnectionClosed as closed:
                received = closed.rcvd
                return (received.code, received.reason) if received is not None else (1006, "")

    def logged(self, kind: type[M]) -> list[M]:
        return [message for message in self.log if isinstance(message, kind)]

    @property
    def started(self) -> Started:
        return self.logged(Started)[0]


def signed(app_id: str) -> dict[str, str]:
    return signed_headers(app_id, SECRETS[app_id], time.time())


@asynccontextmanager
async def running(
    data_dir: Path,
    options: Options | None = None,
    *,
    shared: MemoryRegistry | None = None,
    books: RuleBooks | None = None,
) -> AsyncIterator[World]:
    """A server on a free port of loopback; with `shared` (and `books`) a node of a cluster, named like its folder."""
    options = options or Options()
    metrics, clock = Metrics(), WallClock()
    recordings = Recordings(data_dir)
    books = books or options.books
    if shared is None:
        cluster = solitary(clock, books, resume_window_s=options.resume_window_s)
    else:
        standing = Standing(options.lease_s, options.resume_window_s, options.replicated)
        cluster = in_memory(shared, data_dir.name, clock, books, standing)
    journal = FileJournal(data_dir, recordings, limits=options.journal, disk=options.disk, follower=cluster.replication)
    await journal.start()
    cluster.replication.start(journal.read_back)
    confirmer, recognizer, voiceprint = LoudnessConfirmer(), ScriptedRecognizer(), ScriptedVoiceprint()
    records, tasks = options.records, TasksInMemory(options.qc_result)
    stored = tuple(StoredCategory(name, "", tuple(contents)) for name, contents in options.rules.items())
    feed = Feed()
    moving = Moving(cluster.owners, journal, journal.adopted, cluster.tail, cluster.late, records)
    calls = Calls(
        Engines(confirmer, recognizer, voiceprint),
        Keeping(journal, records, OutcomesInMemory(), tasks, clock, metrics, cluster.owners, feed),
        RuleSets(FixedRules(stored), books),
        CallSettings(gate=LoudnessGate),
        Patience(options.resume_window_s, settle_timeout_s=30),
        Limits(options.max_calls, options.max_call_s, options.max_calls_per_app),
        token_key=b"a key of these tests",
        moving=moving,
        pressure=options.pressure,
    )
    cluster.owners.start(calls.lose, calls.adopt, moving.look_after)
    tasks.on_verdict = calls.note_verdict
    limits = DoorLimits(options.first_message_timeout_s, options.audio_timeout_s, options.max_call_s, **options.door)
    elsewhere = FeedElsewhere(options.bus, feed)
    elsewhere.start()
    watching = WatchDoor(feed, elsewhere, records, limits, metrics, calls.recovery.taken_up)
    credentials = Credentials(FixedApps(), skew_s=300, now=time.time)
    door = NativeDoor(calls, credentials, limits, metrics, watching=watching)

    async def find() -> Sequence[RecoveredCall]:
        if options.may_look is not None:
            await options.may_look.wait()
        return (await journal.adopted.recover()).calls

    calls.take_up(find)
    if options.may_look is None:
        await calls.recovery.all_taken_up()
    server = await door.serve("127.0.0.1", 0, None)
    port = server.sockets[0].getsockname()[1]
    url = f"ws://127.0.0.1:{port}/v1/calls"
    try:
        yield World(
            *(url, server, calls, recordings, confirmer, recognizer, voiceprint, records, tasks, metrics, cluster),
            *(journal, feed, elsewhere, watching),
        )
    finally:
        server.close()
        await server.wait_closed()
        await elsewhere.stop()
        await feed.stop()
        await tasks.finished()
        await calls.stop()
        await journal.stop()
        await cluster.replication.stop()
        await cluster.owners.stop()
