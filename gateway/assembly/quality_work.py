"""The work of voice QC put together: where its tasks and rules are, and a worker over them, in any process."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.assembly.folder import StartFailed
from gateway.engines.engines import Engines
from gateway.keys import server_key, subkey
from gateway.ports import Clock, QualityPushes, QualityRules, QualityTasks, RuleSource, UsageMeter, VoiceprintApi
from gateway.quality.audio import AudioFolder, RecordingReader
from gateway.quality.diarizer import Diarizer
from gateway.quality.speaker_names import KnownVoice, SpeakerNames
from gateway.quality.transcribe import Transcriber
from gateway.quality.worker import QualityWorker, Watcher
from gateway.settings import Settings, parse_quotas
from gateway.stores.quality import SqliteQualityTasks
from gateway.stores.quality_pushes import SqliteQualityPushes
from gateway.stores.quality_rules import SqliteQualityRules
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_quality import RedisQualityTasks
from gateway.stores.redis_quality_pushes import RedisQualityPushes
from gateway.stores.redis_quality_rules import RedisQualityRules
from gateway.stores.redis_usage import RedisUsage
from gateway.stores.sqlite import Database
from gateway.stores.usage import SqliteUsage

MAX_RECORDING_S = 6 * 3600


@dataclass(frozen=True, slots=True)
class QualityStores:
    """What a server's voice QC keeps, and where."""

    tasks: QualityTasks
    pushes: QualityPushes
    rules: QualityRules
    enter_rules: Callable[[str], Awaitable[None]]
    """Sees that workers find the rules of an app, before they find its tasks."""
    folder: AudioFolder
    usage: UsageMeter
    """Where the speech that is judged is counted, with what else apps use."""


def quality_stores(
    settings: Settings, database: Database, clock: Clock, begun: AsyncExitStack, *, rules_changed: Callable[[], None]
) -> QualityStores:
    """In Redis if there is one, else in `database`; `begun` closes the connection. Raises StartFailed. Blocking."""
    folder, quotas = audio_folder(settings), parse_quotas(settings.quotas)
    if not settings.redis_url:
        return QualityStores(
            SqliteQualityTasks(database, clock),
            SqliteQualityPushes(database, clock),
            SqliteQualityRules(database, changed=rules_changed),
            _nothing_to_enter,
            folder,
            SqliteUsage(database, clock, quotas),
        )
    connection = quality_connection(settings, begun)
    rules = RedisQualityRules(connection, own=SqliteQualityRules(database), changed=rules_changed)
    return QualityStores(
        RedisQualityTasks(connection, clock, shelf=folder.shelf()),
        RedisQualityPushes(connection, clock),
        rules,
        rules.enter,
        folder,
        RedisUsage(connection, clock, quotas),
    )


def quality_connection(settings: Settings, begun: AsyncExitStack) -> RedisConnection:
    """Not the connection that calls go by: results are large, and a call's ack must not wait behind them."""
    connection = RedisConnection(settings.redis_url)
    begun.push_async_callback(connection.close)
    return connection


def audio_folder(settings: Settings) -> AudioFolder:
    """Where recordings lie until they are judged. Raises StartFailed."""
    try:
        return AudioFolder(settings.quality_path)
    except OSError as fault:
        raise StartFailed(f"quality_folder {settings.quality_path} cannot be used: {fault}") from fault


async def _nothing_to_enter(app_id: str) -> None:
    """Workers read the rules where the server keeps them."""


def quality_worker(
    tasks: QualityTasks,
    rules: RuleSource,
    folder: AudioFolder,
    engines: Engines,
    clock: Clock,
    *,
    name: str,
    tasks_at_once: int,
    finished: Callable[[], None] = lambda: None,
    watcher: Watcher | None = None,
    names: SpeakerNames | None = None,
    simplified: bool = False,
) -> QualityWorker:
    """A worker over a queue, with the engines of this process."""
    transcriber = Transcriber(
        engines.recognizer,
        engines.confirmer,
        clock,
        # There are as many recogniser processes; a long recording that is alone has them all.
        pieces_at_once=max(1, tasks_at_once),
        diarizer=Diarizer(engines.windows),
        simplified=simplified,
    )
    return QualityWorker(
        tasks,
        rules,
        folder,
        RecordingReader(engines.decoder, max_audio_s=MAX_RECORDING_S),
        transcriber,
        name=name,
        tasks_at_once=tasks_at_once,
        finished=finished,
        watcher=watcher,
        names=names,
    )


def speaker_names(settings: Settings, voices: VoiceprintApi) -> SpeakerNames:
    """Knows a voice from when calls do."""
    known = KnownVoice(settings.known_score, settings.known_score_8k, settings.speaker_margin)
    return SpeakerNames(voices, known)


def server_name(data: Path) -> str:
    """The name under which the server of a data folder works: the same after a restart, and nobody else's."""
    return f"{socket.gethostname()}/{subkey(server_key(data), 'quality-worker').hex()[:12]}"
