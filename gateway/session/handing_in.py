"""From a call that has hung up to voice QC's queue: the recording sealed, published, and handed in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from gateway.call.document import CallDocument
from gateway.call.effects import UploadRecording
from gateway.call.settings import CallTerms
from gateway.ports import CallRecord, CallState, QualityTask
from gateway.session.keeping import Keeping
from gateway.session.rebuilding import CallHeader, Recovered
from protocol.codec import decode_server
from protocol.messages import Gap, Language

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


async def hand_in_what_is_left(found: Recovered, header: CallHeader, keeping: Keeping) -> None:
    """Have a call that cannot go on judged by its audio and the messages that its client has seen.

    Raises OSError, and Unavailable when the server stops before the registry has answered; it stays in the journal.
    """
    terms = CallTerms.of(found.call_id, header.start)
    document = _what_is_left(found, header, terms)
    if found.rate_hz:
        await keeping.journal.seal(found.call_id)
    if not await keeping.owners.finish(found.call_id):
        return
    recording = await keeping.journal.publish(found.call_id) if found.rate_hz else None
    known = await keeping.calls.get(header.app_id, found.call_id)
    if known is None or known.state in ("live", "judging"):
        now_ms = round(keeping.clock.wall() * 1000)
        state: CallState = "judging" if recording else "failed"
        await keeping.calls.save(
            CallRecord(found.call_id, header.app_id, state, header.began_at_ms, now_ms, document.content)
        )
    if recording:  # else the disk has left neither its head nor any audio: there is nothing to judge
        task = quality_task(header.app_id, terms, recording, terms.language, terms.categories)
        await keeping.tasks.put(task, found.call_id)
    await keeping.journal.release(found.call_id)


def _what_is_left(found: Recovered, header: CallHeader, terms: CallTerms) -> CallDocument:
    document = CallDocument(found.call_id, header.start, terms.roles)
    for _, payload in found.messages:
        document.apply(decode_server(payload))
    for begin, end in found.gaps:
        for channel in range(terms.audio.channels):
            document.apply(Gap(channel=channel, from_sample=begin, to_sample=end, cause="node"))
    document.content.update(
        samples=found.end_sample, duration_ms=terms.audio.samples_to_ms(found.end_sample), reason="node_lost"
    )
    return document


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
