"""Voices and what telephone lines leave of them: prints of the wide and of the narrow band, and how they are compared.

A line cuts everything above 4 kHz, and a print made of such audio lies elsewhere than one of the same voice in full:
compared with each other they score some thirty points less. So a model has two spaces, and a voice that is enrolled
from wide-band audio gets a second print, made from its audio as a line would have carried it. What is asked is
compared with the prints of its own band (figures: BENCHMARKS.md, voice prints).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import soxr

from gateway.ports import Embedding, Prints, VoiceprintRow
from gateway.voiceprint.clip import NARROW_HZ, WIDE_HZ
from gateway.voiceprint.norm import Cohorts
from gateway.voiceprint.search import Hit, VoiceIndex
from protocol.audio import AudioFormat, compress
from protocol.voiceprint import Scope

WIDE_SHARE = 0.25
"""How much of a voice's wide print is mixed into its narrow one, which lost what the wide one still knows. More would
tell voices apart still better, and take those enrolled on a line, who have no wide print, off the others' scale."""
NARROW_EXCESS = 0.05
"""How much higher cosines of the narrow band are: the difference of its operating point from the wide band's."""
_NARROW = "@8k"
_EMPTY_ABOVE_HZ = 4300
_EMPTY_SHARE = 1e-5
"""Less of the power than this lies above it in what came over a line (-66 dB at most; in wide-band speech -37 dB at
least, of 126 clips)."""
_BLOCK_SAMPLES = 1024


def narrow_space(model: str) -> str:
    """The space of an embedding model's prints of 8 kHz audio."""
    return model + _NARROW


def by_model(counts: Mapping[str, int]) -> dict[str, int]:
    """How many voices each model has prints of, from how many each space has: a voice may be in both of a model's."""
    models: dict[str, int] = {}
    for space, count in counts.items():
        model = space.removesuffix(_NARROW)
        models[model] = max(count, models.get(model, 0))
    return models


def in_its_band(pcm: bytes, rate_hz: int) -> tuple[bytes, int]:
    """Mono audio at 8 or 16 kHz, brought to 8 kHz when it came over a telephone line and was only resampled since."""
    if rate_hz != WIDE_HZ or not _is_empty_above(pcm):
        return pcm, rate_hz
    return narrowed(pcm), NARROW_HZ


def over_a_line(pcm: bytes) -> bytes:
    """Mono audio at 16 kHz as a telephone line with G.711 would have carried it: at 8 kHz."""
    law = AudioFormat("pcmu", NARROW_HZ, 1)
    return law.to_pcm(compress("pcmu", narrowed(pcm)))


def narrowed(pcm: bytes) -> bytes:
    """Mono audio at 16 kHz at 8 kHz."""
    samples = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float32), WIDE_HZ, NARROW_HZ)
    return bytes(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())


def _is_empty_above(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm, "<i2")
    if len(samples) < _BLOCK_SAMPLES:
        return False
    blocks = samples[: len(samples) // _BLOCK_SAMPLES * _BLOCK_SAMPLES].reshape(-1, _BLOCK_SAMPLES)
    spectrum = np.fft.rfft(blocks * np.hanning(_BLOCK_SAMPLES).astype(np.float32), axis=1)
    power = np.square(np.abs(spectrum)).sum(axis=0)
    return bool(power[_EMPTY_ABOVE_HZ * _BLOCK_SAMPLES // WIDE_HZ :].sum() < _EMPTY_SHARE * power.sum())


@dataclass(frozen=True, slots=True)
class Asked:
    """A voice that is asked for: its prints in the bands that `BandedIndex.bands_of` named."""

    wide: Embedding | None
    narrow: Embedding | None
    rate_hz: int
    """Of the audio as it was sent: scores are told on the scale of this band."""


def prints_of(model: str, wide: Sequence[Embedding | None], narrow: Sequence[Embedding]) -> tuple[Prints, ...]:
    """The prints of an enrolled voice, of each clip; the first has every clip, the second those that are wide."""
    full = [one for one in wide if one is not None]
    of_lines = Prints(narrow_space(model), np.stack(narrow))
    return (of_lines, Prints(model, np.stack(full))) if full else (of_lines,)


def asked_by(model: str, wide: Embedding | None, narrow: Embedding | None) -> dict[str, Embedding]:
    """What a voice is looked for by in each of a model's spaces that it has a print in."""
    by_space = {model: wide, narrow_space(model): narrow}
    return {space: vector for space, vector in by_space.items() if vector is not None}


def asked_by_row(model: str, row: VoiceprintRow) -> dict[str, Embedding]:
    """As `asked_by`, of an enrolled voice; empty for one that was enrolled with another model."""
    wide, narrow = row.in_space(model), row.in_space(narrow_space(model))
    if wide is not None:
        return asked_by(model, wide.combined, mixed(wide, narrow))
    return asked_by(model, None, narrow.combined if narrow is not None else None)


@dataclass(frozen=True, slots=True)
class _Cohorts:
    """Strangers to norm by, in each band."""

    wide: Cohorts = field(default_factory=Cohorts)
    narrow: Cohorts = field(default_factory=Cohorts)


def combined(prints: Sequence[Embedding]) -> Embedding:
    """One print, of unit length, for several of one voice."""
    return Prints("", np.stack(prints)).combined


class BandedIndex:
    """All enrolled voices of one embedding model, in both of its spaces.

    A search by wide audio sees the wide prints and, of voices that were enrolled on lines alone, the narrow ones; a
    search by narrow audio sees the narrow prints of all. Belongs to one event loop. Call `close` after use.
    """

    def __init__(
        self, model: str, dimensions: int, *, narrow_excess: float = NARROW_EXCESS, normed: bool = False
    ) -> None:
        """`narrow_excess`: by how much cosines in the narrow space exceed those that mean the same in the wide one.

        `normed`: hits come in the order of AS-norm; their cosines stay what they are.
        """
        self.model = model
        self._cohorts = _Cohorts() if normed else None
        self._excess = narrow_excess
        self._wide = VoiceIndex(dimensions)
        self._as_narrow = VoiceIndex(dimensions)
        """The voices of `_wide`."""
        self._only_narrow = VoiceIndex(dimensions)

    def __len__(self) -> int:
        return len(self._wide) + len(self._only_narrow)

    @property
    def spaces(self) -> tuple[str, str]:
        return self.model, narrow_space(self.model)

    def add(self, row: VoiceprintRow) -> None:
        """Have a voice found from now on, in the spaces it has prints of; in none, if it has none of this model."""
        wide, narrow = (row.in_space(space) for space in self.spaces)
        if wide is not None:
            on_lines = mixed(wide, narrow)
            self._wide.add(row, wide.combined)
            self._as_narrow.add(row, on_lines)
            if self._cohorts:
                self._cohorts.wide.add(row.app_id, row.print_id, wide.combined)
                self._cohorts.narrow.add(row.app_id, row.print_id, on_lines)
        elif narrow is not None:
            self._only_narrow.add(row, narrow.combined)
            if self._cohorts:
                self._cohorts.narrow.add(row.app_id, row.print_id, narrow.combined)

    def remove(self, app_id: str, org_id: str, tag_id: str, print_ids: Iterable[str]) -> None:
        """Forget voices; the ids that are not there are ignored."""
        gone = list(print_ids)
        for index in self._indexes:
            index.remove(app_id, org_id, tag_id, gone)
        if self._cohorts:
            self._cohorts.wide.remove(app_id, gone)
            self._cohorts.narrow.remove(app_id, gone)

    def holds(self, scope: Scope) -> bool:
        """Whether anybody is enrolled in the scope."""
        return self._wide.holds(scope) or self._only_narrow.holds(scope)

    def bands_of(self, scope: Scope, rate_hz: int) -> tuple[bool, bool]:
        """Whether a search by audio of this rate (see `in_its_band`) needs its wide print, and its narrow one."""
        if rate_hz <= NARROW_HZ:
            return False, True
        return self._wide.holds(scope), self._only_narrow.holds(scope)

    async def closest(self, scope: Scope, asked: Asked, top: int) -> list[Hit]:
        """The `top` voices of the scope that are most like the one asked for, best first.

        Cosines are those of the prints, but where wide-band audio had to be compared in the narrow space: there they
        are lower by the excess, so that one threshold fits the whole answer.
        """
        in_full: list[Hit] = []
        on_lines: list[Hit] = []
        if asked.wide is not None:
            in_full = await self._wide.closest(scope, asked.wide, top)
        if asked.narrow is not None:
            on_lines = await self._only_narrow.closest(scope, asked.narrow, top)
            if asked.wide is None:
                on_lines += await self._as_narrow.closest(scope, asked.narrow, top)
        excess = self._excess if asked.rate_hz > NARROW_HZ else 0.0
        hits = [*in_full, *(replace(hit, cosine=hit.cosine - excess) for hit in on_lines)]
        ranks = self._ranks(scope.app_id, asked, in_full, on_lines) or [hit.cosine for hit in hits]
        best = sorted(zip(ranks, hits, strict=True), key=lambda ranked: -ranked[0])[:top]
        return [hit for _, hit in best]

    def _ranks(
        self, app_id: str, asked: Asked, in_full: Sequence[Hit], on_lines: Sequence[Hit]
    ) -> Sequence[float] | None:
        """What hits are ordered by, if not by their cosines."""
        if self._cohorts is None:
            return None
        of_full = self._cohorts.wide.normed(app_id, asked.wide, in_full) if asked.wide is not None else []
        of_lines = self._cohorts.narrow.normed(app_id, asked.narrow, on_lines) if asked.narrow is not None else []
        return None if of_full is None or of_lines is None else [*of_full, *of_lines]

    async def warm(self) -> None:
        """Return once every search is as fast as it gets."""
        await asyncio.gather(*(index.warm() for index in self._indexes))

    async def close(self) -> None:
        """End the work in the background."""
        await asyncio.gather(*(index.close() for index in self._indexes))

    @property
    def _indexes(self) -> tuple[VoiceIndex, ...]:
        return self._wide, self._as_narrow, self._only_narrow


def mixed(wide: Prints, narrow: Prints | None) -> Embedding:
    """What a wide-band voice is compared by on lines. One enrolled before there were narrow prints has but the wide."""
    if narrow is None:
        return wide.combined
    mixed = narrow.combined + np.float32(WIDE_SHARE) * wide.combined
    return np.asarray(mixed / max(float(np.linalg.norm(mixed)), 1e-12), np.float32)
