"""`earshot`, with the engines of `hummed` in the place of those that need models. Run as a module."""

import asyncio
import os

import gateway.app
import gateway.assembly.worker_process
import gateway.workers.slot
from gateway.call.analysis import Analysis
from gateway.cli import main
from gateway.ports import TranscribeRequest, Transcription
from gateway.quality.worker import QualityWorker
from gateway.stores.quality import SqliteQualityTasks
from gateway.stores.redis_quality import RedisQualityTasks
from tests.integration.hummed import HummingEngines, HummingRecognizer


def put_in_place() -> None:
    """The engines, and what variables named HUMMED_... ask for."""
    if prefix := os.environ.get("HUMMED_SEGMENTS"):  # a version of the program that names utterances otherwise
        named = Analysis.next_segment_id
        Analysis.next_segment_id = lambda self: f"{prefix}{named(self)}"  # type: ignore[method-assign]
    if lease_s := float(os.environ.get("HUMMED_LEASE_S", "0")):  # so that no test waits half a minute for dead workers
        for create in (SqliteQualityTasks.__init__, RedisQualityTasks.__init__):
            (create.__kwdefaults__ or {})["lease_s"] = lease_s
        (QualityWorker.__init__.__kwdefaults__ or {})["heartbeat_s"] = lease_s / 3
    if pause_s := float(os.environ.get("HUMMED_RECORDING_PAUSE_S", "0")):  # so that a fault finds a recording in work
        hear = HummingRecognizer.transcribe

        async def slowly(self: HummingRecognizer, request: TranscribeRequest) -> Transcription | None:
            if request.kind == "recording":
                await asyncio.sleep(pause_s)
            return await hear(self, request)

        HummingRecognizer.transcribe = slowly  # type: ignore[method-assign]
    if looks := int(os.environ.get("HUMMED_HUNG_LOOKS", "0")):  # so that no test waits a minute for a worker that hangs
        gateway.workers.slot.HUNG_LOOKS = looks
    gateway.app.Engines = HummingEngines  # type: ignore[assignment, attr-defined]
    gateway.assembly.worker_process.Engines = HummingEngines  # type: ignore[assignment, attr-defined]


if __name__ == "__main__":
    put_in_place()
    main()
