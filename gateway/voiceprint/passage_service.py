"""Where in what was recorded somebody speaks: listens to calls that have ended and to files, and searches them.

Why after a call and not in it: its recording is whole then, an engine has time, and what is done is known from the
store alone, so that a process which dies forgets nothing. A live call's own prints are made of other stretches (three
seconds and more, pooled), and would be the same work in a hurry.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from gateway.ports import CallRecord, Clock, Embedding, Unavailable
from gateway.ports.passages import PassageAudio, Passages, PassageSource, PassageStore, PassageTask, SourceKind
from gateway.voiceprint.bands import NARROW_EXCESS
from gateway.voiceprint.clip import Clip
from gateway.voiceprint.listening import Listener, Stretch
from gateway.voiceprint.passage_index import FoundPassage, PassageIndex, Wanted, merged

LOOK_EVERY_S = 2.0
"""How often the list of recordings to be listened to is looked at; files are taken up at once."""
MAX_ATTEMPTS = 10
BACKOFF_S, LONGEST_BACKOFF_S = 30.0, 3600.0
"""After attempts that failed for want of an engine or a disk; what waited less is tried first then."""
MERGE_GAP_MS = 1_500
"""Passages of a voice this close are one to whoever listens: a segment's pieces, and speech around a breath."""
ASKED_PER_ANSWER = 4
"""So many passages are looked for as are answered: several may become one."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Heard:
    """A passage found, and the recording that it is in."""

    source: PassageSource
    passage: FoundPassage


class PassageService:
    """Owns the index in memory; the store is the truth. Call `start` before use, keep `run` running, then `close`."""

    def __init__(
        self,
        store: PassageStore,
        audio: PassageAudio,
        listener: Listener,
        call: Callable[[str], Awaitable[CallRecord | None]],
        clock: Clock,
        *,
        kinds: Collection[SourceKind] = ("call", "file"),
        look_every_s: float = LOOK_EVERY_S,
        narrow_excess: float = NARROW_EXCESS,
    ) -> None:
        """`call` gives the record of a call, whosever it is; only recordings of `kinds` are listened to.

        `narrow_excess`: by how much cosines of prints from telephone lines exceed those that mean the same elsewhere.
        """
        self._kinds = kinds
        self._store = store
        self._audio = audio
        self._listener = listener
        self._call = call
        self._clock = clock
        self._look_every_s = look_every_s
        self._indexes = {space: PassageIndex(listener.dimensions) for space in listener.spaces}
        self._narrow = listener.spaces[1]
        self._narrow_excess = narrow_excess
        self._changing = asyncio.Lock()
        self._woken = asyncio.Event()
        self._progress: dict[str, float] = {}

    def __len__(self) -> int:
        """Passages that can be found."""
        return sum(map(len, self._indexes.values()))

    async def start(self) -> None:
        """Load the index, and delete audio that no file's record names. Raises Unavailable, OSError."""
        await self._sweep()
        for space, index in self._indexes.items():
            after = ""
            while batch := await self._store.load(space, after=after):
                for source, passages in batch:
                    index.add(source, passages)
                after = batch[-1][0].source_id
            index.warm()
            _log.info("passages.started", space=space, passages=len(index), memory_bytes=index.memory_bytes)
        if others := await self._store.other_spaces(self._listener.spaces):
            _log.warning("passages.unsearched", spaces=self._listener.spaces, recordings_of_other_spaces=others)

    async def close(self) -> None:
        """End the work in the background."""
        await asyncio.gather(*(index.close() for index in self._indexes.values()))

    # --- searching ---

    async def search(self, app_id: str, voice: Mapping[str, Embedding], wanted: Wanted) -> list[Heard]:
        """At most `wanted.most` of the app's passages that sound most like a voice, best first.

        `voice` has its print for each space that it is to be found in; cosines are told on the wide band's scale.
        Passages of one recording and channel that lie close together are one, with the best score of them.
        """
        found = merged(await self._closest(app_id, voice, wanted), MERGE_GAP_MS)[: wanted.most]
        sources = await self._store.sources(app_id, {one.source_id for one in found})
        for source_id in {one.source_id for one in found} - sources.keys():
            # Deleted with its call by whoever deleted that, and not told here.
            self._drop(app_id, source_id)
        return [Heard(sources[one.source_id], one) for one in found if one.source_id in sources]

    async def _closest(self, app_id: str, voice: Mapping[str, Embedding], wanted: Wanted) -> list[FoundPassage]:
        found: list[FoundPassage] = []
        for space, vector in voice.items():
            excess = self._narrow_excess if space == self._narrow else 0.0
            asked = replace(wanted, most=ASKED_PER_ANSWER * wanted.most, least_cosine=wanted.least_cosine + excess)
            hits = await self._indexes[space].closest(app_id, vector, asked)
            found += [replace(one, cosine=one.cosine - excess) for one in hits]
        return found

    def _drop(self, app_id: str, source_id: str) -> None:
        for index in self._indexes.values():
            index.forget(app_id, source_id)

    async def forget(self, app_id: str, source_id: str) -> bool:
        """Delete what is known of the voices in a call or file, and a file's audio; False when there is nothing.

        Raises Unavailable, OSError.
        """
        async with self._changing:
            source = (await self._store.sources(app_id, [source_id])).get(source_id)
            gone = await self._store.forget(app_id, source_id)
            self._drop(app_id, source_id)
        if source is not None and source.kind == "file":
            await self._audio.delete(source_id)
        return gone

    # --- files ---

    async def add_file(self, app_id: str, name: str, clip: Clip) -> PassageSource:
        """Keep a recording of other origin, durably, and have it listened to. Raises Unavailable, OSError."""
        source = PassageSource(
            source_id=uuid.uuid4().hex,
            app_id=app_id,
            kind="file",
            name=name,
            recorded_at_ms=round(self._clock.wall() * 1000),
            duration_ms=len(clip.samples) * 1000 // clip.rate_hz,
        )
        await self._audio.keep(source.source_id, clip.pcm, clip.rate_hz, clip.channels)
        try:
            await self._store.add_file(source)
        except BaseException:
            await asyncio.shield(self._audio.delete(source.source_id))
            raise
        self._woken.set()
        return source

    async def file(self, app_id: str, file_id: str) -> PassageSource | None:
        source = (await self._store.sources(app_id, [file_id])).get(file_id)
        return source if source is not None and source.kind == "file" else None

    async def linked(self, source_id: str) -> PassageSource | None:
        """The recording that a link of ours plays, whosever it is: whoever asks has checked the link."""
        return (await self._store.left_behind([source_id])).get(source_id)

    async def files(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[PassageSource]:
        """The app's files, newest first."""
        return await self._store.files(app_id, limit=limit, before=before)

    def progress(self, source: PassageSource) -> float:
        """Which share of a recording has been listened to, 0-1."""
        return self._progress.get(source.source_id, 0.0) if source.state == "waiting" else 1.0

    # --- listening ---

    async def run(self) -> None:
        """Listen to what waits, one recording at a time, until cancelled. Faults are logged and tried again."""
        failures = 0
        while True:
            self._woken.clear()
            pause_s = self._look_every_s
            try:
                while await self.listen_to_one():
                    failures = 0
            except (OSError, Unavailable) as fault:
                pause_s = min(LONGEST_BACKOFF_S, BACKOFF_S * 2**failures)
                failures += 1
                _log.warning("passages.delayed", fault=str(fault), next_try_in_s=pause_s)
            except Exception:
                # A fault of our own must not end the listening for good: the trace is in the log.
                _log.exception("passages.broken")
                pause_s = BACKOFF_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def listen_to_one(self) -> bool:
        """Listen to the recording that has waited longest; False when none waits. Raises OSError, Unavailable."""
        task = await self._store.next_task(self._kinds)
        if task is None:
            return False
        source = await self._source(task)
        try:
            passages = await self._listen(task, source)
        except (FileNotFoundError, ValueError) as fault:
            await self._settle(replace(source, state="failed", reason=str(fault)), None)
        except (OSError, Unavailable) as fault:
            await self._store.put_off(task.source_id)
            if task.attempts < MAX_ATTEMPTS:
                raise
            await self._settle(replace(source, state="failed", reason=str(fault)), None)
        except Exception:
            # A fault of our own must not stop the others: the trace is in the log.
            _log.exception("passages.failed", app_id=source.app_id, source_id=source.source_id)
            await self._settle(replace(source, state="failed", reason="the server's log says why"), None)
        else:
            await self._settle(replace(source, state="indexed", passages=len(passages.spans)), passages)
        finally:
            self._progress.pop(task.source_id, None)
        return True

    async def _listen(self, task: PassageTask, source: PassageSource) -> Passages:
        def progressed(share: float) -> None:
            self._progress[task.source_id] = share

        segments = None
        if task.kind == "call":
            record = await self._call(task.source_id)
            segments = _segments(record.document if record is not None else {})
        wav = self._audio.path(task.kind, task.source_id)
        _, passages = await self._listener.passages(wav, segments, progressed)
        return passages

    async def _source(self, task: PassageTask) -> PassageSource:
        if task.kind == "call":
            record = await self._call(task.source_id)
            app_id, began_at_ms = (record.app_id, record.began_at_ms) if record is not None else ("", 0)
            duration_ms = int(record.document.get("duration_ms", 0)) if record is not None else 0
            return PassageSource(task.source_id, app_id, "call", "", began_at_ms, duration_ms)
        (source,) = (await self._store.left_behind([task.source_id])).values()
        return source

    async def _settle(self, source: PassageSource, passages: Passages | None) -> None:
        log = _log.bind(app_id=source.app_id, source_id=source.source_id, kind=source.kind)
        async with self._changing:
            kept = await self._store.settle(source, passages)
            if kept and passages is not None:
                self._drop(source.app_id, source.source_id)
                self._indexes[passages.space].add(source, passages)
        if source.state == "failed":
            log.warning("passages.unreadable", reason=source.reason)
        else:
            log.info("passages.indexed", passages=source.passages, kept=kept)

    async def _sweep(self) -> None:
        """Delete the audio of files that a process did not live to write down, or to delete."""
        kept = await self._audio.file_ids()
        known = await self._store.left_behind(kept)
        for file_id in set(kept) - known.keys():
            await self._audio.delete(file_id)


def _segments(document: dict[str, Any]) -> list[Stretch]:
    """Where somebody spoke in a call."""
    return [
        Stretch(segment["channel"], segment["begin_ms"], segment["end_ms"])
        for segment in document.get("segments", ())
        if segment.get("end_ms") is not None
    ]
