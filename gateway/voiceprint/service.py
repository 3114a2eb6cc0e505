"""The voiceprint service: enrol voices and other sounds, say whose a clip is, and forget them again.

Tenancy is app, then organisation, then tag: every operation names all of them, so what belongs to another app is
simply not there. Every method raises VoiceprintError, whose code says what went wrong.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
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
from gateway.voiceprint.bands import NARROW_EXCESS, Asked, BandedIndex, by_model, in_its_band, over_a_line, prints_of
from gateway.voiceprint.clip import NARROW_HZ, Clip, flac, of_several, speech_pcm
from gateway.voiceprint.quality_gate import Flaw, Limits, Measurement, find_flaw, measure
from gateway.voiceprint.search import Hit
from gateway.voiceprint.sounds import Sounds, SpeechRules, listen, voices_only
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
    """8000 or 16000: that of the clip's band."""
    sent_rate_hz: int
    """16000 too where the clip came over a line and was resampled since."""
    measured: Measurement
    original: bytes
    """As it was sent, for other sounds than voices: at `sent_rate_hz`, before denoising."""


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
        narrow_excess: float = NARROW_EXCESS,
        no_space: Callable[[], str] = lambda: "",
    ) -> None:
        """`narrow_excess`: see `BandedIndex`. `no_space` says why no voice should be stored now, or nothing."""
        self._no_space = no_space
        self._store = store
        self._embedder = embedder
        self._speech = speech
        self._denoiser = denoiser
        self._limits = limits or Limits()
        self._index = BandedIndex(embedder.model, embedder.dimensions, narrow_excess=narrow_excess)
        self._sounds = Sounds(sounds) if sounds else None
        self._speech_rules = SpeechRules() if sounds else voices_only(self._limits.min_speech_ms)
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()

    async def start(self) -> dict[str, int]:
        """Load the index. Answers, and logs, how many voices cannot be searched, by their embedding model.

        Those were enrolled with another model; they stay listed and stored, and work again when it is back.
        """
        spaces = (*self._index.spaces, *((self._sounds.space,) if self._sounds else ()))
        with _blaming(Code.COMPONENT_ERROR):
            rows = await self._store.load(spaces)
            unsearched = by_model(await self._store.unsearchable(spaces))
        for row in rows:
            self._find_from_now_on(row)
        await self._index.warm()
        if self._sounds:
            await self._sounds.warm()
        _log.info("voiceprint.started", spaces=spaces, voices=len(rows))
        if unsearched:
            _log.warning("voiceprint.unsearched", spaces=spaces, other_models=unsearched)
        return unsearched

    async def close(self) -> None:
        """Wait for the writes under way."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._index.close()
        if self._sounds:
            await self._sounds.close()

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
        """The ten closest voices of the scope or, if the clip is another sound, the ten closest sounds; best first.

        None when nobody is enrolled there; `only_voices` refuses other sounds (10107).
        """
        scope, heard = recognition.scope, await self._hear(clip, denoise=recognition.denoise)
        holds = self._index.holds(scope)
        bands = self._index.bands_of(scope, heard.rate_hz) if holds else (False, False)
        kind, wide, narrow = await self._embed(heard, *bands, only_voices=only_voices)
        if kind == "voice":
            asked = Asked(wide, narrow, heard.sent_rate_hz)
            return await self._index.closest(scope, asked, TOP_HITS) if holds else []
        if self._sounds is None or not self._sounds.holds(scope):
            return []
        return await self._sounds.closest(scope, await self._sound(heard), TOP_HITS)

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
        kinds: set[Kind] = set()
        wide: list[Embedding | None] = []
        narrow: list[Embedding] = []
        sounds: list[Embedding] = []
        audio = []
        for number, clip in enumerate(clips):
            with of_several(number, len(clips)):
                heard = await self._hear(clip, denoise=enrolment.denoise)
                kind, of_clip, on_a_line = await self._embed(heard, heard.rate_hz > NARROW_HZ, narrow=True)
                if on_a_line is None:
                    sounds.append(await self._sound(heard))
                else:
                    wide.append(of_clip)
                    narrow.append(on_a_line)
            kinds.add(kind)
            audio.append(await asyncio.to_thread(flac, clip))
        if len(kinds) > 1:
            cause = "some of the recordings are of a voice and some of another sound: each needs a name of its own"
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause)
        voice = enrolment.voice
        row = VoiceprintRow(
            print_id=uuid.uuid4().hex,
            app_id=voice.app_id,
            org_id=voice.org_id,
            tag_id=voice.tag_id,
            name=voice.name,
            prints=(
                (Prints(self._sounds.space, np.stack(sounds)),)
                if self._sounds and sounds
                else prints_of(self._embedder.model, wide, narrow)
            ),
            kind=kinds.pop(),
        )
        return row, audio

    async def _hear(self, clip: Clip, *, denoise: bool) -> _Heard:
        measured = await asyncio.to_thread(measure, clip.samples, clip.rate_hz)
        self._refuse_flaw(measured)
        original, rate_hz = await asyncio.to_thread(speech_pcm, clip)
        pcm = original
        if denoise and self._denoiser is not None:
            with _blaming(Code.ENGINE_ERROR):
                pcm = await self._denoiser.denoise(pcm, rate_hz)
        pcm, rate_of_band_hz = await asyncio.to_thread(in_its_band, pcm, rate_hz)
        return _Heard(pcm, rate_of_band_hz, rate_hz, measured, original)

    async def _embed(
        self, heard: _Heard, wide: bool, narrow: bool, *, only_voices: bool = False
    ) -> tuple[Kind, Embedding | None, Embedding | None]:
        """What the clip is and, of a voice, its prints in the wide band and in the narrow one, as asked for.

        Narrow audio has none in the wide band.
        """
        # All run at once, in two engine processes: the check then costs the caller no time.
        full = asyncio.create_task(self._embedding(heard.pcm, heard.rate_hz)) if wide else None
        on_a_line = asyncio.create_task(self._narrow_embedding(heard)) if narrow else None
        begun = [task for task in (full, on_a_line) if task is not None]
        try:
            kind = await self._kind(heard, only_voices=only_voices)
            if kind != "voice":
                return kind, None, None
            return kind, await full if full else None, await on_a_line if on_a_line else None
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    async def _sound(self, heard: _Heard) -> Embedding:
        assert self._sounds is not None, "without prints of sounds, every clip that passes is a voice"
        with _blaming(Code.ENGINE_ERROR), _blaming_audio():
            return await self._sounds.embed(heard.original, heard.sent_rate_hz)

    async def _narrow_embedding(self, heard: _Heard) -> Embedding:
        pcm = heard.pcm if heard.rate_hz == NARROW_HZ else await asyncio.to_thread(over_a_line, heard.pcm)
        return await self._embedding(pcm, NARROW_HZ)

    async def _embedding(self, pcm: bytes, rate_hz: int) -> Embedding:
        with _blaming(Code.ENGINE_ERROR), _blaming_audio():
            return await self._embedder.embed(pcm, rate_hz)

    async def _kind(self, heard: _Heard, *, only_voices: bool) -> Kind:
        """Listen until it is clear what the clip is; raises (10107) when it is nothing that is wanted here."""
        if self._speech is None:
            return "voice"
        with _blaming(Code.ENGINE_ERROR):
            listening = await listen(self._speech, heard.pcm, heard.rate_hz, self._speech_rules)
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
            self._find_from_now_on(row)

    async def _replace(self, row: VoiceprintRow, audio: Sequence[bytes], voice: NamedVoice, *, adds: bool) -> None:
        async with self._writing:
            if adds:
                row, audio = await self._joined(row, audio, voice)
            with _blaming(Code.COMPONENT_ERROR):
                former = await self._store.replace(row, audio)
            if former is None:
                raise _unknown(voice)
            self._forget(row.app_id, row.org_id, row.tag_id, [former])
            self._find_from_now_on(row)

    async def _joined(
        self, row: VoiceprintRow, audio: Sequence[bytes], voice: NamedVoice
    ) -> tuple[VoiceprintRow, list[bytes]]:
        """The voice as it is kept, and behind its clips those of `row`, whose first space has prints of all clips."""
        former = await self.find(voice)
        if former.kind != row.kind or former.in_space(row.prints[0].space) is None:
            cause = f"spk_name {voice.name!r} was enrolled with another model or as another kind of sound"
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"{cause}: update it with all its recordings")
        spaces = dict.fromkeys(one.space for one in (*row.prints, *former.prints))
        prints = [
            Prints(space, np.concatenate([one.vectors for of in (former, row) if (one := of.in_space(space))]))
            for space in spaces
        ]
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

    def _find_from_now_on(self, row: VoiceprintRow) -> None:
        self._index.add(row)
        if self._sounds:
            self._sounds.add(row)

    def _forget(self, app_id: str, org_id: str, tag_id: str, print_ids: Sequence[str]) -> None:
        self._index.remove(app_id, org_id, tag_id, print_ids)
        if self._sounds:
            self._sounds.remove(app_id, org_id, tag_id, print_ids)

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


@contextmanager
def _blaming_audio() -> Iterator[None]:
    """What a model refuses is the caller's audio."""
    try:
        yield
    except Rejected as error:
        raise VoiceprintError(Code.ILLEGAL_PARAMETER, str(error)) from error


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
