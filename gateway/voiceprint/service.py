"""The voiceprint service: enrol voices and other sounds, say whose a clip is, and forget them again.

Tenancy is app, then organisation, then tag: every operation names all of them, so what belongs to another app is
simply not there. Every method raises VoiceprintError, whose code says what went wrong.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import structlog

from gateway.ports import (
    Denoiser,
    Embedder,
    Embedding,
    Kind,
    Prints,
    SpeechConfirmer,
    VoiceprintChange,
    VoiceprintChanges,
    VoiceprintRow,
    VoiceprintStore,
)
from gateway.voiceprint.bands import (
    NARROW_EXCESS,
    Asked,
    BandedIndex,
    asked_by,
    asked_by_row,
    by_model,
    prints_of,
)
from gateway.voiceprint.clip import NARROW_HZ, Clip, flac, of_several
from gateway.voiceprint.following import Following
from gateway.voiceprint.hearing import Ear, blaming
from gateway.voiceprint.quality_gate import Limits
from gateway.voiceprint.search import Hit
from gateway.voiceprint.sounds import Enrolled
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
_ROWS_AT_A_TIME = 1000


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
        normed: bool = False,
        no_space: Callable[[], str] = lambda: "",
        changes: VoiceprintChanges | None = None,
        shared: bool = False,
    ) -> None:
        """`no_space` says why no voice should be stored now, or nothing. By `changes` the index follows what other
        processes do to the store; `shared` by nodes, it is looked at before each search, and may be away at times.
        For `narrow_excess` and `normed` see `BandedIndex`."""
        self._no_space = no_space
        self._store = store
        self._embedder = embedder
        self._ear = Ear(embedder, speech, sounds, denoiser, limits)
        self._new_voices = partial(
            BandedIndex, embedder.model, embedder.dimensions, narrow_excess=narrow_excess, normed=normed
        )
        self._index = Enrolled(self._new_voices(), sounds)
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()
        self._unsearched: dict[str, int] = {}
        self._shared = shared
        self._following: Following | None = None
        if changes is not None:
            self._following = Following(changes, self._writing, load=self._load, add=self._search, drop=self._drop)

    async def start(self) -> dict[str, int]:
        """Load the index, and follow changes from then on. A shared store that is away is asked until it answers.

        Answers, and logs, how many voices cannot be searched, by their embedding space: those were enrolled with
        another model; they stay listed and stored, and work again when it is back.
        """
        if self._following is not None and self._shared:
            await self._following.look()
        else:
            with blaming(Code.COMPONENT_ERROR):
                await (self._following.load() if self._following else self._load())
        if self._following is not None:
            self._following.start()
        return self._unsearched

    async def _load(self) -> None:
        """Put an index of what the store has in the place of the present one. Raises what the store raises."""
        index = Enrolled(self._new_voices(), self._ear.sounds)
        rows = await self._store.load(index.spaces)
        self._unsearched = by_model(await self._store.unsearchable(index.spaces))
        for number, row in enumerate(rows):
            index.add(row)
            if number % _ROWS_AT_A_TIME == 0:
                await asyncio.sleep(0)  # calls go on while a node loads anew
        await index.warm()
        former, self._index = self._index, index
        await former.close()
        _log.info("voiceprint.loaded", spaces=index.spaces, voices=len(index), former=len(former))
        if self._unsearched:
            _log.warning("voiceprint.unsearched", spaces=index.spaces, other_models=self._unsearched)

    async def close(self) -> None:
        """Wait for the writes under way."""
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._following is not None:
            await self._following.close()
        await self._index.close()

    async def catch_up(self) -> None:
        """Hear of what other processes changed until now, if the store can be asked. Happens by itself each second."""
        if self._following is not None:
            await self._following.look()

    async def register(self, enrolment: Enrolment, clips: Sequence[Clip], *, actor: str = "") -> None:
        """Enrol a voice, from one or several clips, under a new name.

        A name that is taken is refused (10107), as is any clip that is too poor; then nothing changes. Here and below,
        `actor` is where the request came from, for the audit.
        """
        voice = enrolment.voice
        if await self._find(voice) is not None:
            raise _name_taken(voice)
        row, audio = await self._enrol(enrolment, clips)
        await self._finish(self._add(row, audio, voice, actor))

    async def update(self, enrolment: Enrolment, clips: Sequence[Clip], *, actor: str = "") -> None:
        """Replace the clips of an enrolled voice or, where the enrolment `adds`, put these beside them.

        An unknown name is refused (10107).
        """
        voice = enrolment.voice
        if await self._find(voice) is None:
            raise _unknown(voice)
        row, audio = await self._enrol(enrolment, clips)
        await self._finish(self._replace(row, audio, voice, actor, adds=enrolment.adds))

    def nobody_in(self, scope: Scope) -> bool:
        """Whether it is known without asking anybody that no voice is enrolled there."""
        known = not self._shared and (self._following is None or self._following.loaded)
        return known and not self._index.voices.holds(scope)

    async def recognize(self, recognition: Recognition, clip: Clip, *, only_voices: bool = False) -> list[Hit]:
        """The ten closest voices of the scope or, if the clip is another sound, the ten closest sounds; best first.

        None when nobody is enrolled there; `only_voices` refuses other sounds (10107).
        """
        asked = self._following.ask() if self._following and self._shared else None
        heard = await self._ear.hear(clip, denoise=recognition.denoise)
        if self._following is not None:
            await self._following.answered(asked)
            if not self._following.loaded:
                cause = f"the enrolled voices could not be read yet: {self._following.fault}"
                raise VoiceprintError(Code.COMPONENT_ERROR, cause)
        scope, voices = recognition.scope, self._index.voices
        bands = voices.bands_of(scope, heard.rate_hz) if voices.holds(scope) else (False, False)
        kind, wide, narrow = await self._ear.prints(heard, *bands, only_voices=only_voices)
        # Each time the index of the moment: another may have taken its place meanwhile.
        if kind == "voice":
            asked_for = Asked(wide, narrow, heard.sent_rate_hz)
            return await self._index.voices.closest(scope, asked_for, TOP_HITS) if any(bands) else []
        if not self._index.holds_sounds(scope):
            return []
        embedding = await self._ear.sound(heard)
        return await self._index.closest_sounds(scope, embedding, TOP_HITS)

    async def prints_of(self, clip: Clip) -> dict[str, Embedding]:
        """The prints of the voice in a clip by their spaces; one too poor, or of another sound, is refused (10107)."""
        heard = await self._ear.hear(clip, denoise=False)
        in_full = heard.rate_hz > NARROW_HZ
        _, wide, narrow = await self._ear.prints(heard, wide=in_full, narrow=True, only_voices=True)
        return asked_by(self._embedder.model, wide, narrow)

    def prints_of_row(self, row: VoiceprintRow) -> dict[str, Embedding]:
        """The prints of an enrolled voice by their spaces; empty for one that was enrolled with another model."""
        return asked_by_row(self._embedder.model, row)

    async def delete(self, deletion: Deletion, *, actor: str = "") -> None:
        """Delete voices for good, all or none: an unknown name is refused (10107)."""
        await self._finish(self._delete(deletion, actor))

    async def count(self, scope: Scope) -> int:
        with blaming(Code.COMPONENT_ERROR):
            return await self._store.count(scope.app_id, scope.org_id, scope.tag_id)

    async def page(self, listing: Listing) -> Sequence[VoiceprintRow]:
        """The voices of a scope, newest first."""
        scope = listing.scope
        with blaming(Code.COMPONENT_ERROR):
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
        with blaming(Code.COMPONENT_ERROR):
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
                heard = await self._ear.hear(clip, denoise=enrolment.denoise)
                kind, of_clip, on_a_line = await self._ear.prints(heard, heard.rate_hz > NARROW_HZ, narrow=True)
                if on_a_line is None:
                    sounds.append(await self._ear.sound(heard))
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
                (Prints(self._ear.sounds.model, np.stack(sounds)),)
                if self._ear.sounds and sounds
                else prints_of(self._embedder.model, wide, narrow)
            ),
            kind=kinds.pop(),
        )
        return row, audio

    # --- writing: the store first, then the index, one change at a time ---

    async def _finish(self, write: Coroutine[Any, Any, T]) -> T:
        """Carry a write through even if the caller goes away, so that store and index cannot part."""
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _add(self, row: VoiceprintRow, audio: Sequence[bytes], voice: NamedVoice, actor: str) -> None:
        async with self._writing:
            with blaming(Code.COMPONENT_ERROR):
                added = await self._store.add(row, audio, actor=actor)
            if not added:
                raise _name_taken(voice)
            self._search_own(row)

    async def _replace(
        self, row: VoiceprintRow, audio: Sequence[bytes], voice: NamedVoice, actor: str, *, adds: bool
    ) -> None:
        async with self._writing:
            former, added = None, None
            while former is None:
                if adds:
                    added = await self.find(voice)
                whole, clips = await self._joined(added, row, audio) if added else (row, audio)
                with blaming(Code.COMPONENT_ERROR):
                    former = await self._store.replace(
                        whole, clips, actor=actor, former=added.print_id if added else None
                    )
                if former is None and not adds:
                    raise _unknown(voice)
                # Else another node was faster, and its clips are to be kept too.
            self._index.remove(row.app_id, row.org_id, row.tag_id, [former])
            self._search_own(whole)

    async def _joined(
        self, former: VoiceprintRow, row: VoiceprintRow, audio: Sequence[bytes]
    ) -> tuple[VoiceprintRow, list[bytes]]:
        """The voice as it is kept, and behind its clips those of `row`, whose first space has prints of all clips."""
        if former.kind != row.kind or former.in_space(row.prints[0].space) is None:
            cause = f"spk_name {row.name!r} was enrolled with another model or as another kind of sound"
            raise VoiceprintError(
                Code.ILLEGAL_PARAMETER, f"{cause}: update it with all its recordings", person=row.name
            )
        spaces = dict.fromkeys(one.space for one in (*row.prints, *former.prints))
        prints = [
            Prints(space, np.concatenate([one.vectors for of in (former, row) if (one := of.in_space(space))]))
            for space in spaces
        ]
        count = len(prints[0].vectors)
        if count > MAX_CLIPS:
            raise _too_many_clips(count)
        with blaming(Code.COMPONENT_ERROR):
            kept = [await self._store.audio(former.print_id, clip) for clip in range(count - len(audio))]
        return replace(row, prints=tuple(prints)), [*(one for one in kept if one is not None), *audio]

    async def _delete(self, deletion: Deletion, actor: str) -> None:
        app_id, org_id, tag_id = deletion.app_id, deletion.org_id, deletion.tag_id
        async with self._writing:
            with blaming(Code.COMPONENT_ERROR):
                gone = await self._store.remove(app_id, org_id, tag_id, deletion.names, actor=actor)
            self._index.remove(app_id, org_id, tag_id, gone)
            if not gone and deletion.names is not None:
                for name in deletion.names:
                    await self.find(NamedVoice(app_id, org_id, tag_id, name))
                raise VoiceprintError(Code.COMPONENT_ERROR, "a voice was enrolled meanwhile: nothing is deleted")

    def _search_own(self, row: VoiceprintRow) -> None:
        """Have a voice found that this service has just stored."""
        self._index.add(row)
        if self._following is not None:
            self._following.note_own(row.print_id)

    def _search(self, row: VoiceprintRow) -> None:
        """Have a voice found that another process has stored."""
        self._index.add(row)

    def _drop(self, change: VoiceprintChange) -> None:
        """Have voices that are gone found no more."""
        self._index.remove(change.app_id, change.org_id, change.tag_id, change.gone)

    async def _find(self, voice: NamedVoice) -> VoiceprintRow | None:
        with blaming(Code.COMPONENT_ERROR):
            return await self._store.find(voice.app_id, voice.org_id, voice.tag_id, voice.name)


def _name_taken(voice: NamedVoice) -> VoiceprintError:
    where = f"in org_id {voice.org_id!r}, tag_id {voice.tag_id!r}"
    cause = f"spk_name {voice.name!r} is already registered {where}; update replaces its audio"
    return VoiceprintError(Code.ILLEGAL_PARAMETER, cause, person=voice.name)


def _too_many_clips(count: int) -> VoiceprintError:
    cause = f"a voice is enrolled from at most {MAX_CLIPS} recordings, these would be {count}"
    return VoiceprintError(Code.ILLEGAL_PARAMETER, cause)


def _unknown(voice: NamedVoice) -> VoiceprintError:
    where = f"in org_id {voice.org_id!r}, tag_id {voice.tag_id!r}"
    return VoiceprintError(
        Code.ILLEGAL_PARAMETER, f"spk_name {voice.name!r} is not registered {where}", person=voice.name
    )
