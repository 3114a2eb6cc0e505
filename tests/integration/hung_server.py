"""`earshot` whose engines never come to an end: they hold a thread, and the loop when told to stop. Run as a module."""

import asyncio
import threading
from typing import Any

import gateway.app
from gateway.cli import main
from gateway.ports import TranscribeRequest, Transcription
from tests.integration.hummed import HummingEngines, HummingRecognizer

FOR_EVER = threading.Event()


class HungRecognizer(HummingRecognizer):
    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        await asyncio.shield(asyncio.to_thread(FOR_EVER.wait))
        raise AssertionError("nobody sets it")


class HungEngines(HummingEngines):
    def __init__(self, *folders: Any, **options: Any) -> None:
        super().__init__(*folders, **options)
        self.recognizer = HungRecognizer()

    async def stop(self) -> None:
        FOR_EVER.wait()  # the event loop itself stands still


if __name__ == "__main__":
    gateway.app.Engines = HungEngines  # type: ignore[assignment, attr-defined]
    main()
