"""Voices in the band of their audio: what is heard as a line, which prints are kept, and what is compared with what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soxr

from gateway.ports import Embedding, Prints, VoiceprintRow
from gateway.voiceprint.bands import (
    Asked,
    BandedIndex,
    by_model,
    in_its_band,
    mixed,
    narrow_space,
    over_a_line,
    prints_of,
)
from gateway.voiceprint.clip import clip_of_pcm
from protocol.voiceprint import Enrolment, NamedVoice, Recognition, Scope
from tests.voices import Desk, clip, hiss, voice

ORG = Scope("acme", "org", None)
EXCESS = 0.05


def unit(*numbers: float) -> Embedding:
    vector = np.array(numbers, np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def row(name: str, *, wide: Embedding | None = None, narrow: Embedding | None = None) -> VoiceprintRow:
    spaces = {"model": wide, "model@8k": narrow}
    prints = tuple(Prints(space, vector[None]) for space, vector in spaces.items() if vector is not None)
    return VoiceprintRow(f"id-{name}", "acme", "org", "tag", name, prints)


def power_above(pcm: bytes, rate_hz: int, above_hz: int) -> float:
    power = np.square(np.abs(np.fft.rfft(np.frombuffer(pcm, "<i2").astype(float))))
    return float(power[len(power) * above_hz * 2 // rate_hz :].sum() / power.sum())


def resampled(pcm: bytes) -> bytes:
    """8 kHz audio as somebody keeps it who wants 16 kHz files."""
    up = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float32), 8000, 16000)
    return bytes(np.rint(up).astype("<i2").tobytes())


def test_a_line_halves_the_rate_and_leaves_steps_of_g711() -> None:
    carried = over_a_line(voice(1))
    assert len(carried) == len(voice(1)) // 2
    assert len(np.unique(np.frombuffer(carried, "<i2"))) <= 255
    assert np.corrcoef(np.frombuffer(carried, "<i2"), np.frombuffer(voice(1), "<i2")[::2])[0, 1] > 0.99


@pytest.mark.parametrize("speaker", range(5))
def test_telephone_audio_is_known_as_such_at_any_rate(speaker: int) -> None:
    on_a_line = over_a_line(voice(speaker))
    pcm, rate_hz = in_its_band(resampled(on_a_line), 16000)
    assert rate_hz == 8000
    assert len(pcm) == len(on_a_line)
    assert in_its_band(on_a_line, 8000) == (on_a_line, 8000)


@pytest.mark.parametrize("pcm", [voice(3), hiss(), voice(3)[:1000], bytes(64_000)])
def test_wide_band_audio_short_audio_and_silence_stay_as_they_are(pcm: bytes) -> None:
    assert in_its_band(pcm, 16000) == (pcm, 16000)


def test_each_clip_has_a_narrow_print_and_only_wide_ones_a_wide_print() -> None:
    wide, narrow = [unit(1, 0), None], [unit(0, 1), unit(1, 1)]
    narrow_prints, wide_prints = prints_of("model", wide, narrow)
    assert (narrow_prints.space, len(narrow_prints.vectors)) == (narrow_space("model"), 2)
    assert (wide_prints.space, len(wide_prints.vectors)) == ("model", 1)
    assert [one.space for one in prints_of("model", [None], [unit(0, 1)])] == ["model@8k"]


async def test_what_is_asked_is_compared_in_its_own_band() -> None:
    index = BandedIndex("model", 4)
    index.add(row("near wide", wide=unit(1, 0, 0, 0), narrow=unit(0, 0, 1, 0)))
    index.add(row("near narrow", wide=unit(0, 1, 0, 0), narrow=unit(0, 0, 0, 1)))
    assert index.bands_of(ORG, 16000) == (True, False)
    assert index.bands_of(ORG, 8000) == (False, True)
    by_wide = await index.closest(ORG, Asked(unit(1, 0, 0, 0), None, 16000), 10)
    assert [(hit.entry.name, round(hit.cosine, 3)) for hit in by_wide] == [("near wide", 1), ("near narrow", 0)]
    by_narrow = await index.closest(ORG, Asked(None, unit(0, 0, 0, 1), 8000), 10)
    assert [hit.entry.name for hit in by_narrow] == ["near narrow", "near wide"]
    assert by_narrow[0].cosine == pytest.approx(1 / np.sqrt(1 + 0.25**2))


async def test_a_voice_known_from_lines_alone_is_found_by_wide_audio_on_the_wide_scale() -> None:
    index = BandedIndex("model", 2, narrow_excess=EXCESS)
    index.add(row("in full", wide=unit(1, 0), narrow=unit(1, 0)))
    index.add(row("on a line", narrow=unit(0, 1)))
    assert index.bands_of(ORG, 16000) == (True, True)
    hits = await index.closest(ORG, Asked(unit(1, 1), unit(0, 1), 16000), 10)
    assert [(hit.entry.name, round(hit.cosine, 3)) for hit in hits] == [("on a line", 1 - EXCESS), ("in full", 0.707)]
    resampled_since = await index.closest(ORG, Asked(None, unit(0, 1), 16000), 10)
    assert [round(hit.cosine, 3) for hit in resampled_since] == [1 - EXCESS, -EXCESS]
    plain = await index.closest(ORG, Asked(None, unit(0, 1), 8000), 1)
    assert [(hit.entry.name, round(hit.cosine, 3)) for hit in plain] == [("on a line", 1)]


async def test_a_voice_of_before_there_were_narrow_prints_is_still_found_on_lines() -> None:
    index = BandedIndex("model", 2)
    index.add(row("old", wide=unit(1, 0)))
    (hit,) = await index.closest(ORG, Asked(None, unit(1, 1), 8000), 10)
    assert hit.cosine == pytest.approx(np.sqrt(0.5))


async def test_a_voice_that_is_removed_is_gone_from_every_band() -> None:
    index = BandedIndex("model", 2)
    index.add(row("both", wide=unit(1, 0), narrow=unit(1, 0)))
    index.add(row("line", narrow=unit(0, 1)))
    index.add(replace(row("other"), prints=(Prints("another", unit(1, 0)[None]),)))
    index.remove("acme", "org", "tag", ["id-both", "id-line", "id-unknown"])
    assert not index.holds(ORG)
    assert await index.closest(ORG, Asked(unit(1, 0), unit(1, 0), 16000), 10) == []


def test_a_mixed_print_has_unit_length_and_leans_to_the_narrow_one() -> None:
    print_ = mixed(Prints("model", unit(1, 0)[None]), Prints("model@8k", unit(0, 1)[None]))
    assert np.linalg.norm(print_) == pytest.approx(1)
    assert print_[1] == pytest.approx(4 * print_[0])


def test_a_voice_in_both_bands_of_a_model_counts_once() -> None:
    assert by_model({"a": 2, "a@8k": 5, "b@8k": 1}) == {"a": 5, "b": 1}


def enrolment(name: str, *, adds: bool = False) -> Enrolment:
    return Enrolment(NamedVoice("acme", "org", "tag", name), denoise=False, adds=adds)


async def test_voices_are_found_across_bands_whichever_they_were_enrolled_in(desk: Desk) -> None:
    await desk.service.register(enrolment("wide"), [clip(voice(1))])
    await desk.service.register(enrolment("line"), [clip_of_pcm(over_a_line(voice(2)), 8000)])
    await desk.service.register(enrolment("kept at 16 kHz"), [clip(resampled(over_a_line(voice(3))))])
    spaces = {
        name: {one.space for one in (await desk.service.find(NamedVoice("acme", "org", "tag", name))).prints}
        for name in ("wide", "line", "kept at 16 kHz")
    }
    narrow = {"spectrum-64@8k"}
    assert spaces == {"wide": {"spectrum-64", *narrow}, "line": narrow, "kept at 16 kHz": narrow}
    for speaker, name in ((1, "wide"), (2, "line"), (3, "kept at 16 kHz")):
        pcm = voice(speaker, take=5)
        for asked in (clip(pcm), clip_of_pcm(over_a_line(pcm), 8000), clip(resampled(over_a_line(pcm)))):
            hits = await desk.service.recognize(Recognition(ORG, denoise=False), asked)
            assert (hits[0].entry.name, len(hits)) == (name, 3)


async def test_recordings_of_both_bands_make_one_voice(desk: Desk) -> None:
    await desk.service.register(enrolment("v"), [clip(voice(1))])
    await desk.service.update(enrolment("v", adds=True), [clip_of_pcm(over_a_line(voice(1, take=2)), 8000)])
    kept = await desk.service.find(NamedVoice("acme", "org", "tag", "v"))
    assert {one.space: len(one.vectors) for one in kept.prints} == {"spectrum-64@8k": 2, "spectrum-64": 1}
    assert [await desk.service.audio(kept.print_id, n) is not None for n in range(3)] == [True, True, False]
    await desk.service.register(enrolment("w"), [clip_of_pcm(over_a_line(voice(4)), 8000)])
    await desk.service.update(enrolment("w", adds=True), [clip(voice(4, take=2))])
    kept = await desk.service.find(NamedVoice("acme", "org", "tag", "w"))
    assert {one.space: len(one.vectors) for one in kept.prints} == {"spectrum-64@8k": 2, "spectrum-64": 1}
    hits = await desk.service.recognize(Recognition(ORG, denoise=False), clip(voice(4, take=3)))
    assert hits[0].entry.name == "w"
