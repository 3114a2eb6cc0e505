"""A worker of voice QC in a process of its own: beside a server, or anywhere that reaches its Redis and its folder."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import time

import aiohttp

from gateway.assembly.clock import SystemClock
from gateway.assembly.folder import StartFailed
from gateway.assembly.quality_work import audio_folder, quality_connection, quality_worker, speaker_names
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.engines.engines import Engines
from gateway.ports import QualityTasks, RuleSource, Unavailable
from gateway.quality.audio import AudioFolder
from gateway.quality.speaker_names import SpeakerNames
from gateway.quality.worker import Watcher
from gateway.settings import Settings
from gateway.stores import quality, quality_rules
from gateway.stores.ownership import DataFolderLock
from gateway.stores.quality import SqliteQualityTasks
from gateway.stores.quality_rules import SqliteQualityRules
from gateway.stores.redis_connection import Unsuitable, check_suitable
from gateway.stores.redis_quality import RedisQualityTasks
from gateway.stores.redis_quality_rules import RedisQualityRules
from gateway.stores.sqlite import Database


class WorkerProcess:
    """Everything that `earshot worker` runs. It does not own the data folder, and takes no calls."""

    def __init__(
        self,
        settings: Settings,
        *,
        tasks_at_once: int = 1,
        watcher: Watcher | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._tasks_at_once = tasks_at_once
        self._watcher = watcher
        self._on_progress = on_progress
        self._clock = SystemClock()
        self.name = f"{socket.gethostname()}/{secrets.token_hex(6)}"
        """No other worker has it."""

    async def run(self) -> None:
        """Load the engines, then work until cancelled; tasks in hand go back to the queue.

        Raises ModelMissing, StartFailed, OSError, or Unavailable for an engine that does not load.
        """
        async with AsyncExitStack() as begun:
            folder = audio_folder(self._settings)
            tasks, rules = await self._stores(folder, begun)
            engines = self._engines(begun)
            names = await self._names(begun)
            self._on_progress("loading the engines")
            await engines.start()
            begun.push_async_callback(engines.stop)
            worker = quality_worker(
                tasks,
                rules,
                folder,
                engines,
                self._clock,
                name=self.name,
                tasks_at_once=self._tasks_at_once,
                watcher=self._watcher,
                names=names,
                simplified=self._settings.quality_simplified,
            )
            self._on_progress(f"worker {self.name} is ready")
            await worker.run()

    async def _stores(self, folder: AudioFolder, begun: AsyncExitStack) -> tuple[QualityTasks, RuleSource]:
        settings = self._settings
        if settings.redis_url:
            connection = quality_connection(settings, begun)
            try:
                await check_suitable(connection, replicated=False)
            except (Unsuitable, Unavailable) as fault:
                raise StartFailed(str(fault)) from fault
            tasks = RedisQualityTasks(connection, self._clock, shelf=folder.shelf())
            return tasks, RedisQualityRules(connection)
        database = Database(settings.data_path / "earshot.db", (quality.SCHEMA, quality_rules.SCHEMA))
        begun.callback(database.close)
        return SqliteQualityTasks(database, self._clock), SqliteQualityRules(database)

    async def _names(self, begun: AsyncExitStack) -> SpeakerNames | None:
        """From the voiceprint service that the settings name. The server's own is in the server's memory."""
        settings = self._settings
        if not settings.voiceprint_url:
            return None
        http = await begun.enter_async_context(aiohttp.ClientSession())
        app_id, _, secret = settings.voiceprint_app.partition(":")
        voices = VoiceprintHttp(settings.voiceprint_url, http, credentials=lambda _: (app_id, secret), now=time)
        return speaker_names(settings, voices)

    def _engines(self, begun: AsyncExitStack) -> Engines:
        return Engines(
            self._settings.models_path,
            own_spool(self._settings.data_path / "worker-spool", begun) / "decoding",
            recognizer_model=self._settings.recognizer,
            voiceprint_model=self._settings.voiceprint_model,
            recording_processes=self._tasks_at_once,
            takes_calls=False,
            on_ready=lambda engine: self._on_progress(f"{engine} ready"),
        )


def own_spool(base: Path, begun: AsyncExitStack) -> Path:
    """A folder that is this process's until `begun` ends; those of processes that are gone are removed. Blocking.

    They hold voices, and a process that was killed cannot clean up. Raises OSError.
    """
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in base.iterdir():
        lock = DataFolderLock(left)
        try:
            if lock.take():
                shutil.rmtree(left)
        except FileNotFoundError:  # another process has removed it
            pass
        finally:
            lock.release()
    while True:
        mine = base / secrets.token_hex(8)
        mine.mkdir(mode=0o700)
        lock = DataFolderLock(mine)
        try:
            taken = lock.take()
        except FileNotFoundError:  # swept before it was locked
            continue
        if taken:
            begun.callback(shutil.rmtree, mine, ignore_errors=True)
            begun.callback(lock.release)
            return mine
