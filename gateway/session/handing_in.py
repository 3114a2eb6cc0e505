"""From a call that has hung up to voice QC's queue: the recording sealed, published, and handed in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from gateway.call.effects import UploadRecording
from gateway.call.settings import CallTerms
from gateway.ports import CallState, QualityTask
from gateway.session.keeping import Keeping
from protocol.messages import Language

log = structlog.get_logger(__name__)

RETRY_S = 1.0


class NotOurs(Exception):
    """Another node has the call: what becomes of it is not for us to say."""


async def hand_in(
    upload: UploadRecording,
    app_id: str,
    terms: CallTerms,
    keeping: Keeping,
    save: Callable[[CallState], Awaitable[None]],
) -> None:
    """Return once voice QC's queue has the recording, however often that takes to try; `save` keeps the document.

    Raises NotOurs, and Unavailable when the server stops before the registry has answered.
    """
    call_id = terms.call_id
    keeping.journal.close_call(call_id)
    while True:
        try:
            # Each step can be done again.
            await keeping.journal.seal(call_id)
            if not await keeping.owners.finish(call_id):
                raise NotOurs(call_id)
            recording = await keeping.journal.publish(call_id)
            await save("judging")
            task = quality_task(app_id, terms, recording, upload.language, upload.categories)
            await keeping.tasks.put(task, call_id)
        except OSError as fault:  # the disk is full or failing: what was acked is in the journal, and can wait
            log.warning("recording_not_handed_in", call_id=call_id, fault=str(fault))
            await asyncio.sleep(RETRY_S)
        else:
            return


def quality_task(
    app_id: str, terms: CallTerms, recording: Path, language: Language, categories: tuple[str, ...]
) -> QualityTask:
    """What voice QC is asked about a call; its id is the idempotency key."""
    return QualityTask(
        session_id=terms.call_id,
        app_id=app_id,
        recording=recording,
        rate_hz=terms.audio.rate_hz,
        channels=terms.audio.channels,
        language=language,
        categories=categories,
    )
