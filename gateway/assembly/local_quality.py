"""Voice QC for recordings on this machine: the service's own parts around a queue that is gone afterwards."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.assembly.clock import SystemClock
from gateway.assembly.quality_work import MAX_RECORDING_S
from gateway.engines.engines import Engines
from gateway.ports import StoredCategory
from gateway.quality.audio import AudioFolder, RecordingReader
from gateway.quality.diarizer import Diarizer
from gateway.quality.service import QualityService
from gateway.quality.transcribe import Transcriber
from gateway.quality.worker import QualityWorker
from gateway.settings import Settings
from gateway.stores.quality import SCHEMA, SqliteQualityTasks
from gateway.stores.sqlite import Database
from protocol.quality import TaskRequest

APP = "local"
LOOK_EVERY_S = 0.2
"""How often progress is looked at."""


class _Rules:
    """Fills the role RuleSource: the same rules for whoever asks."""

    def __init__(self, categories: Sequence[StoredCategory]) -> None:
        self._categories = categories

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        return 1, self._categories


class LocalQuality:
    """As a context: the engines run, and what passes through lies in a folder of its own, which is removed."""

    def __init__(
        self,
        settings: Settings,
        categories: Sequence[StoredCategory],
        on_ready: Callable[[str], None] = lambda engine: None,
    ) -> None:
        """`on_ready` hears each engine's name. Raises ModelMissing."""
        self._settings = settings
        self._rules = _Rules(categories)
        self._folder = tempfile.TemporaryDirectory(prefix="earshot-qc-")
        self._begun = AsyncExitStack()
        processes = settings.recognizer_processes or os.cpu_count() or 1
        try:
            self._engines = Engines(
                settings.models_path,
                Path(self._folder.name) / "spool",
                recognizer_model=settings.recognizer,
                recording_processes=processes,
                takes_calls=False,
                on_ready=on_ready,
            )
        except BaseException:
            self._folder.cleanup()
            raise
        self._pieces_at_once = processes

    async def __aenter__(self) -> Self:
        """Load the engines. Raises Unavailable for one that cannot load; nothing is left then."""
        self._begun.callback(self._folder.cleanup)
        try:
            await self._begin()
        except BaseException:
            await self._begun.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._begun.aclose()

    async def _begin(self) -> None:
        clock, engines, folder = SystemClock(), self._engines, Path(self._folder.name)
        await engines.start()
        self._begun.push_async_callback(engines.stop)
        database = Database(folder / "queue.db", [SCHEMA])
        self._begun.callback(database.close)
        tasks, audio = SqliteQualityTasks(database, clock), AudioFolder(folder / "audio")
        reader = RecordingReader(engines.decoder, max_audio_s=MAX_RECORDING_S)
        transcriber = Transcriber(
            engines.recognizer,
            engines.confirmer,
            clock,
            pieces_at_once=self._pieces_at_once,
            diarizer=Diarizer(engines.windows),
        )
        self._worker = QualityWorker(tasks, self._rules, audio, reader, transcriber)
        self._service = QualityService(tasks, audio, submitted=self._worker.wake)

    async def channels_of(self, data: bytes, name: str) -> int:
        """How many channels a file has. Raises Rejected when it is no audio, Unavailable."""
        return (await self._engines.decoder.decode(data, name=name, max_s=1)).channels

    async def judge(self, request: TaskRequest, on_progress: Callable[[int], None]) -> dict[str, Any]:
        """The API's `result` object for a recording, `state` 3 or 4 included; `on_progress` hears percent.

        Raises QualityFault for what the API would refuse.
        """
        await self._service.submit(APP, request)
        work = asyncio.create_task(self._worker.work_until_idle())
        try:
            while not work.done():
                await asyncio.wait([work], timeout=LOOK_EVERY_S)
                result = await self._service.status(APP, request.session_id)
                on_progress(result.get("progress", 100))
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        return await self._service.status(APP, request.session_id)
