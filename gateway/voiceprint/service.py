"""The voiceprint service: enrol voices and other sounds, say whose a clip is, and forget them again.

Tenancy is app, then organisation, then tag: every operation names all of them, so what belongs to another app is
simply not there. Every method raises VoiceprintError, whose code says what went wrong.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import structlog

from gateway.ports import (
    Denoiser,
    Embedder,
    Embedding,
    Kind,
    PortError,
    Prints,
    Rejected,
    SpeechConfirmer,
    VoiceprintRow,
    VoiceprintStore,
)
from gateway.voiceprint.clip import Clip, flac, of_several, speech_pcm
from gateway.voiceprint.quality_gate import Flaw, Limits, Measurement, find_flaw, measure
from gateway.voiceprint.search import Hit, VoiceIndex
from gateway.voiceprint.sounds import Listening, SpeechRules, voices_only
from protocol.voiceprint import (
    MAX_CLIPS,
    TOP_HITS,
    Code,
    Deletion,
    Enrolment,
    Listing,
    NamedVoice,
    Recognition,
    Scope,
    VoiceprintError,
)

T = TypeVar("T")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Heard:
    """A clip that passed the measurements, as models take it."""

    pcm: bytes
    rate_hz: int
    measured: Measurement
    original: bytes
    """The PCM before denoising, which is for voices."""


@dataclass(frozen=True, slots=True)
class _Embedded:
    kind: Kind
    space: str
    vector: Embedding


class VoiceprintService:
    """Owns the index in memory; the store is the truth. Call `start` before and `close` after use.

    Without a `speech` confirmer nobody checks that there is speech in the audio, and every sound is a voice; without
    an embedder for `sounds` what is not speech is refused; without a `denoiser` a request for denoising has no effect.
    """

    def __init__(
        self,
        *,
        store: VoiceprintStore,
        embedder: Embedder,
        speech: SpeechConfirmer | None = None,
        sounds: Embedder | None = None,
        denoiser: Denoiser | None = None,
        limits: Limits | None = None,
        no_space: Callable[[], str] = lambda: "",
    ) -> None:
        """`no_space` says why no voice should be stored now, or nothing."""
        self._no_space = no_space
        self._store = store
        self._embedder = embedder
        self._speech = speech
        self._denoiser = denoiser
        self._limits = limits or Limits()
        self._sounds = sounds
        self._speech_rules = SpeechRules() if sounds else voices_only(self._limits.min_speech_ms)
        self._index = VoiceIndex(embedder.dimensions)
        self._indexes = {embedder.model: self._index}
        """One for each embedding space; that of voices first."""
        if sounds:
            self._indexes[sounds.model] = VoiceIndex(sounds.dimensions)
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

    async def start(self) -> dict[str, int]:
        """Load the index. Answers, and logs, how many voices cannot be searched, by their embedding space.

        Those were enrolled with another model; they stay listed and stored, and work again when it is back.
        """
        spaces = tuple(self._indexes)
        with _blaming(Code.COMPONENT_ERROR):
            rows = await self._store.load(spaces)
            unsearched = dict(await self._store.unsearchable(spaces))
        for row in rows:
            self._search(row)
        _log.info("voiceprint.started", spaces=spaces, voices=len(rows))
        if unsearched:
            _log.warning("voiceprint.unsearched", spaces=spaces, other_spaces=unsearched)
        return unsearched

    async def close(self) -> None:
        """Wait for the writes under way."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def register(self, enrolment: Enrolment, clips: Sequence[Clip]) -> None:
        """Enrol a voice, from one or several clips, under a new name.

        A name that is taken is refused (10107), as is any clip that is too poor; then nothing changes.
        """
        voice = enrolment.voice
        if await self._find(voice) is not None:
            raise _name_taken(voice)
        row, audio = await self._enrol(enrolment, clips)
        await self._finish(self._add(row, audio, voice))

    async def update(self, enrolment: Enrolment, clips: Sequence[Clip]) -> None:
        """Replace the clips of an enrolled voice or, where the enrolment `adds`, put these beside them.

        An unknown name is refused (10107).
        """
        voice = enrolment.voice
        if await self._find(voice) is None:
            raise _unknown(voice)
        row, audio = await self._enrol(enrolment, clips)
        await self._finish(self._replace(row, audio, voice, adds=enrolment.adds))

    async def recognize(self, recognition: Recognition, clip: Clip, *, only_voices: bool = False) -> list[Hit]:
        """The ten closest voices of the scope, or other sounds if the clip is one, best first.

        None when nobody is enrolled there; `only_voices` refuses other sounds (10107).
        """
        heard = await self._hear(clip, denoise=recognition.denoise)
        spaces = [space for space, index in self._indexes.items() if index.holds(recognition.scope)]
        embedded = await self._embed(heard, spaces, only_voices=only_voices)
        if embedded is None:
            return []
        return await self._indexes[embedded.space].closest(recognition.scope, embedded.vector, TOP_HITS)

    async def delete(self, deletion: Deletion) -> None:
        """Delete voices, all or none: an unknown name is refused (10107)."""
        await self._finish(self._delete(deletion))

    async def count(self, scope: Scope) -> int:
        with _blaming(Code.COMPONENT_ERROR):
            return await self._store.count(scope.app_id, scope.org_id, scope.tag_id)

    async def page(self, listing: Listing) -> Sequence[VoiceprintRow]:
        """The voices of a scope, newest first."""
        scope = listing.scope
        with _blaming(Code.COMPONENT_ERROR):
            return await self._store.page(
                scope.app_id, scope.org_id, scope.tag_id, offset=listing.offset, limit=listing.limit
            )

    async def find(self, voice: NamedVoice) -> VoiceprintRow:
        """One enrolled voice; an unknown name is refused (10107)."""
        row = await self._find(voice)
        if row is None:
            raise _unknown(voice)
        return row

    async def audio(self, print_id: str, clip: int = 0) -> bytes | None:
        """The FLAC file of one enrolled clip; None when it is gone. The caller has checked the signed link."""
        with _blaming(Code.COMPONENT_ERROR):
            return await self._store.audio(print_id, clip)

    # --- listening ---

    async def _enrol(self, enrolment: Enrolment, clips: Sequence[Clip]) -> tuple[VoiceprintRow, list[bytes]]:
        if full := self._no_space():
            raise VoiceprintError(Code.COMPONENT_ERROR, full)
        if len(clips) > MAX_CLIPS:
            raise _too_many_clips(len(clips))
        embedded: list[_Embedded] = []
        audio = []
        for number, clip in enumerate(clips):
            with of_several(number, len(clips)):
                heard = await self._hear(clip, denoise=enrolment.denoise)
                if (one := await self._embed(heard, self._indexes)) is not None:
                    embedded.append(one)
            audio.append(await asyncio.to_thread(flac, clip))
        voice, first = enrolment.voice, embedded[0]
        if any(one.kind != first.kind for one in embedded):
            cause = "some of the recordings are of a voice and some of another sound: each needs a name of its own"
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause)
        row = VoiceprintRow(
            print_id=uuid.uuid4().hex,
            app_id=voice.app_id,
            org_id=voice.org_id,
            tag_id=voice.tag_id,
            name=voice.name,
            prints=(Prints(first.space, np.stack([one.vector for one in embedded])),),
            kind=first.kind,
        )
        return row, audio

    async def _hear(self, clip: Clip, *, denoise: bool) -> _Heard:
        measured = await asyncio.to_thread(measure, clip.samples, clip.rate_hz)
        self._refuse_flaw(measured)
        pcm, rate_hz = await asyncio.to_thread(speech_pcm, clip)
        original = pcm
        if denoise and self._denoiser is not None:
            with _blaming(Code.ENGINE_ERROR):
                pcm = await self._denoiser.denoise(pcm, rate_hz)
        return _Heard(pcm, rate_hz, measured, original)

    async def _embed(self, heard: _Heard, spaces: Collection[str], *, only_voices: bool = False) -> _Embedded | None:
        """The print of the clip, a voice's or another sound's; None when its space is none of `spaces`."""
        voices, sounds = self._embedder, self._sounds
        # Both run at once, in two engine processes: the check then costs the caller no time.
        voice = (
            asyncio.create_task(self._embedding(voices, heard.pcm, heard.rate_hz)) if voices.model in spaces else None
        )
        try:
            kind = await self._kind(heard, only_voices=only_voices)
            if kind == "voice":
                return _Embedded(kind, voices.model, await voice) if voice else None
        finally:
            if voice:
                voice.cancel()
                await asyncio.gather(voice, return_exceptions=True)
        if sounds is None or sounds.model not in spaces:
            return None
        return _Embedded(kind, sounds.model, await self._embedding(sounds, heard.original, heard.rate_hz))

    async def _embedding(self, embedder: Embedder, pcm: bytes, rate_hz: int) -> Embedding:
        with _blaming(Code.ENGINE_ERROR):
            try:
                return await embedder.embed(pcm, rate_hz)
            except Rejected as error:
                raise VoiceprintError(Code.ILLEGAL_PARAMETER, str(error)) from error

    async def _kind(self, heard: _Heard, *, only_voices: bool) -> Kind:
        """Listen until it is clear what the clip is, ten seconds at a time; raises (10107) if it is not to be had."""
        if self._speech is None:
            return "voice"
        listening, state = Listening(heard.pcm, heard.rate_hz, self._speech_rules), None
        for stretch in listening.stretches():
            with _blaming(Code.ENGINE_ERROR):
                listened = await self._speech.confirm(stretch, heard.rate_hz, state)
            state = listened.state
            listening.note(listened.probabilities)
        kind = listening.kind
        if kind is None or (only_voices and kind != "voice"):
            raise _refusal(listening.flaw, replace(heard.measured, speech_ms=listening.speech_ms))
        return kind

    def _refuse_flaw(self, measured: Measurement) -> None:
        if flaw := find_flaw(measured, self._limits):
            raise _refusal(flaw, measured)

    # --- writing: the store first, then the index, one change at a time ---

    async def _finish(self, write: Coroutine[Any, Any, T]) -> T:
        """Carry a write through even if the caller goes away, so that store and index cannot part."""
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _add(self, row: VoiceprintRow, audio: Sequence[bytes], voice: NamedVoice) -> None:
        async with self._writing:
            with _blaming(Code.COMPONENT_ERROR):
                added = await self._store.add(row, audio)
            if not added:
                raise _name_taken(voice)
            self._search(row)

    async def _replace(self, row: VoiceprintRow, audio: Sequence[bytes], voice: NamedVoice, *, adds: bool) -> None:
        async with self._writing:
            if adds:
                row, audio = await self._joined(row, audio, voice)
            with _blaming(Code.COMPONENT_ERROR):
                former = await self._store.replace(row, audio)
            if former is None:
                raise _unknown(voice)
            self._forget(row.app_id, row.org_id, row.tag_id, [former])
            self._search(row)

    async def _joined(
        self, row: VoiceprintRow, audio: Sequence[bytes], voice: NamedVoice
    ) -> tuple[VoiceprintRow, list[bytes]]:
        """The voice as it is kept, and behind its clips those of `row`: of the spaces that `row` has prints in."""
        former = await self.find(voice)
        prints = []
        for new in row.prints:
            old = former.in_space(new.space)
            if old is None or former.kind != row.kind:
                cause = f"spk_name {voice.name!r} was enrolled with another model or as another kind of sound"
                raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"{cause}: update it with all its recordings")
            prints.append(Prints(new.space, np.concatenate([old.vectors, new.vectors])))
        count = len(prints[0].vectors)
        if count > MAX_CLIPS:
            raise _too_many_clips(count)
        with _blaming(Code.COMPONENT_ERROR):
            kept = [await self._store.audio(former.print_id, clip) for clip in range(count - len(audio))]
        return replace(row, prints=tuple(prints)), [*(one for one in kept if one is not None), *audio]

    async def _delete(self, deletion: Deletion) -> None:
        app_id, org_id, tag_id = deletion.app_id, deletion.org_id, deletion.tag_id
        async with self._writing:
            with _blaming(Code.COMPONENT_ERROR):
                gone = await self._store.remove(app_id, org_id, tag_id, deletion.names)
            self._forget(app_id, org_id, tag_id, gone)
            if not gone and deletion.names is not None:
                for name in deletion.names:
                    await self.find(NamedVoice(app_id, org_id, tag_id, name))

    def _search(self, row: VoiceprintRow) -> None:
        """Have the voice or sound found from now on."""
        for prints in row.prints:
            if (index := self._indexes.get(prints.space)) is not None:
                index.add(row, prints.combined)

    def _forget(self, app_id: str, org_id: str, tag_id: str, print_ids: Sequence[str]) -> None:
        for index in self._indexes.values():
            index.remove(app_id, org_id, tag_id, print_ids)

    async def _find(self, voice: NamedVoice) -> VoiceprintRow | None:
        with _blaming(Code.COMPONENT_ERROR):
            return await self._store.find(voice.app_id, voice.org_id, voice.tag_id, voice.name)


@contextmanager
def _blaming(code: Code) -> Iterator[None]:
    """Failures of a port, under the code of the part that failed."""
    try:
        yield
    except PortError as error:
        raise VoiceprintError(code, str(error)) from error


def _refusal(flaw: Flaw, measured: Measurement) -> VoiceprintError:
    data = {"reason": flaw.reason.value, "measured": measured.as_data()}
    return VoiceprintError(Code.ILLEGAL_PARAMETER, flaw.text, data)


def _name_taken(voice: NamedVoice) -> VoiceprintError:
    where = f"in org_id {voice.org_id!r}, tag_id {voice.tag_id!r}"
    return VoiceprintError(
        Code.ILLEGAL_PARAMETER, f"spk_name {voice.name!r} is already registered {where}; update replaces its audio"
    )


def _too_many_clips(count: int) -> VoiceprintError:
    cause = f"a voice is enrolled from at most {MAX_CLIPS} recordings, these would be {count}"
    return VoiceprintError(Code.ILLEGAL_PARAMETER, cause)


def _unknown(voice: NamedVoice) -> VoiceprintError:
    where = f"in org_id {voice.org_id!r}, tag_id {voice.tag_id!r}"
    return VoiceprintError(Code.ILLEGAL_PARAMETER, f"spk_name {voice.name!r} is not registered {where}")
