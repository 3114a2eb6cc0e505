from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ports import Rejected, Unavailable, VoiceprintRow
from gateway.voiceprint.clip import Clip, clip_of_pcm, flac, speech_pcm
from gateway.voiceprint.service import VoiceprintService
from protocol.voiceprint import (
    AudioFile,
    Code,
    Deletion,
    Enrolment,
    Listing,
    NamedVoice,
    Recognition,
    Scope,
    VoiceprintError,
)
from tests.voices import Desk, clip, hiss, samples_of, voice, wav

ORG = Scope("acme", "org", None)


def enrolment(name: str, *, app: str = "acme", org: str = "org", tag: str = "tag") -> Enrolment:
    return Enrolment(NamedVoice(app, org, tag, name), denoise=False)


async def names(desk: Desk, speaker: int, scope: Scope = ORG) -> list[str]:
    hits = await desk.service.recognize(Recognition(scope, denoise=False), clip(voice(speaker, take=99)))
    return [hit.entry.name for hit in hits]


async def test_a_registered_voice_is_recognised_in_another_take(desk: Desk) -> None:
    for speaker in range(15):
        await desk.service.register(enrolment(f"v{speaker}"), [clip(voice(speaker))])
    hits = await desk.service.recognize(Recognition(ORG, denoise=False), clip(voice(7, take=1)))
    assert (hits[0].entry.name, len(hits)) == ("v7", 10)
    assert hits[0].cosine > 0.98
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)


async def test_a_name_that_is_taken_is_refused_and_changes_nothing(desk: Desk) -> None:
    await desk.service.register(enrolment("sunny"), [clip(voice(1))])
    before = await desk.service.find(NamedVoice("acme", "org", "tag", "sunny"))
    with pytest.raises(VoiceprintError, match="already registered") as refused:
        await desk.service.register(enrolment("sunny"), [clip(voice(2))])
    assert refused.value.code is Code.ILLEGAL_PARAMETER
    after = await desk.service.find(NamedVoice("acme", "org", "tag", "sunny"))
    assert after.print_id == before.print_id
    assert np.array_equal(after.prints[0].vectors, before.prints[0].vectors)


async def test_of_two_registrations_of_one_name_at_once_one_wins(desk: Desk) -> None:
    both = [desk.service.register(enrolment("sunny"), [clip(voice(speaker))]) for speaker in (1, 2)]
    results = await asyncio.gather(*both, return_exceptions=True)
    assert sum(isinstance(result, VoiceprintError) for result in results) == 1
    assert await desk.service.count(ORG) == 1
    assert await names(desk, 1) == ["sunny"]


async def test_a_name_may_stand_under_several_tags(desk: Desk) -> None:
    await desk.service.register(enrolment("sunny", tag="a"), [clip(voice(1))])
    await desk.service.register(enrolment("sunny", tag="b"), [clip(voice(1, take=1))])
    assert await names(desk, 1) == ["sunny", "sunny"]
    assert await names(desk, 1, Scope("acme", "org", "a")) == ["sunny"]


async def test_update_replaces_the_voice_and_its_audio_and_keeps_its_place(desk: Desk) -> None:
    for name, speaker in (("first", 1), ("second", 2)):
        await desk.service.register(enrolment(name), [clip(voice(speaker))])
    former = await desk.service.find(NamedVoice("acme", "org", "tag", "first"))
    await desk.service.update(enrolment("first"), [clip(voice(3))])
    assert (await names(desk, 3))[0] == "first"
    assert await desk.service.audio(former.print_id) is None
    rows = await desk.service.page(Listing(ORG, 0, 20))
    assert [row.name for row in rows] == ["second", "first"]


async def test_update_of_an_unknown_name_is_refused(desk: Desk) -> None:
    with pytest.raises(VoiceprintError, match="not registered"):
        await desk.service.update(enrolment("nobody"), [clip(voice(1))])


async def test_deleted_voices_are_gone_from_search_list_and_audio(desk: Desk) -> None:
    for speaker in (1, 2, 3):
        await desk.service.register(enrolment(f"v{speaker}"), [clip(voice(speaker))])
    row = await desk.service.find(NamedVoice("acme", "org", "tag", "v1"))
    await desk.service.delete(Deletion("acme", "org", "tag", ("v1", "v2")))
    assert await names(desk, 1) == ["v3"]
    assert await desk.service.audio(row.print_id) is None
    await desk.service.delete(Deletion("acme", "org", "tag", None))
    assert await desk.service.count(ORG) == 0
    await desk.service.delete(Deletion("acme", "org", "tag", None))


async def test_deleting_is_all_or_nothing(desk: Desk) -> None:
    await desk.service.register(enrolment("known"), [clip(voice(1))])
    with pytest.raises(VoiceprintError, match="'stranger' is not registered"):
        await desk.service.delete(Deletion("acme", "org", "tag", ("known", "stranger")))
    assert await names(desk, 1) == ["known"]


async def test_another_apps_voices_are_as_if_absent(desk: Desk) -> None:
    await desk.service.register(enrolment("sunny"), [clip(voice(1))])
    other = Scope("rival", "org", None)
    assert await names(desk, 1, other) == []
    assert await desk.service.count(other) == 0
    assert await desk.service.page(Listing(other, 0, 20)) == []
    with pytest.raises(VoiceprintError, match="not registered"):
        await desk.service.find(NamedVoice("rival", "org", "tag", "sunny"))
    with pytest.raises(VoiceprintError, match="not registered"):
        await desk.service.delete(Deletion("rival", "org", "tag", ("sunny",)))
    await desk.service.delete(Deletion("rival", "org", "tag", None))
    assert await names(desk, 1) == ["sunny"]


@pytest.mark.parametrize(
    ("pcm", "reason"),
    [
        (voice(1, seconds=0.19), "too_short"),
        (bytes(32000), "silence"),
        ((np.frombuffer(voice(1), "<i2") // 200).astype("<i2").tobytes(), "too_quiet"),
        (np.clip(np.frombuffer(voice(1), "<i2") * 30.0, -32768, 32767).astype("<i2").tobytes(), "clipped"),
        (hiss(), "no_speech"),
    ],
)
async def test_poor_audio_is_refused_with_reason_and_measurements_before_anything_is_stored(
    desk: Desk, pcm: bytes, reason: str
) -> None:
    for work in (
        desk.service.register(enrolment("sunny"), [clip(pcm)]),
        desk.service.recognize(Recognition(ORG, denoise=False), clip(pcm)),
    ):
        with pytest.raises(VoiceprintError) as refused:
            await work
        assert refused.value.code is Code.ILLEGAL_PARAMETER
        assert refused.value.data is not None
        assert refused.value.data["reason"] == reason
        assert {"duration_ms", "level_dbfs", "clipped_share"} <= refused.value.data["measured"].keys()
    assert await desk.service.count(ORG) == 0


async def test_speech_that_starts_late_is_found(desk: Desk) -> None:
    await desk.service.register(enrolment("late"), [clip(hiss(21) + voice(1))])
    assert await desk.service.count(ORG) == 1


async def test_only_the_first_five_minutes_count(desk: Desk) -> None:
    long = clip_of_pcm(voice(1, seconds=2, rate_hz=8000) * 151, 8000)
    await desk.service.register(enrolment("patient"), [long])
    assert desk.embedder.heard_ms == [300_000]


async def test_a_restart_finds_everyone_again(desk: Desk) -> None:
    for speaker in (1, 2):
        await desk.service.register(enrolment(f"v{speaker}"), [clip(voice(speaker))])
    desk.service = VoiceprintService(store=desk.store, embedder=desk.embedder)
    assert await desk.service.start() == {}
    assert (await names(desk, 2))[0] == "v2"


async def test_voices_of_another_model_are_kept_and_reported_but_not_searched(desk: Desk) -> None:
    await desk.service.register(enrolment("old"), [clip(voice(1))])
    desk.embedder.model = "spectrum-65"
    desk.service = VoiceprintService(store=desk.store, embedder=desk.embedder)
    assert await desk.service.start() == {"spectrum-64": 1}
    assert await names(desk, 1) == []
    assert await desk.service.count(ORG) == 1
    await desk.service.update(enrolment("old"), [clip(voice(1))])
    assert await names(desk, 1) == ["old"]


async def test_a_caller_who_goes_away_leaves_store_and_index_agreeing(desk: Desk) -> None:
    started = asyncio.Event()
    add = desk.store.add

    async def slow_add(row: VoiceprintRow, audio: Sequence[bytes], *, actor: str = "") -> bool:
        started.set()
        return await add(row, audio)

    desk.store.add = slow_add  # type: ignore[method-assign]
    registering = asyncio.create_task(desk.service.register(enrolment("sunny"), [clip(voice(1))]))
    await started.wait()
    registering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await registering
    await desk.service.close()
    assert await desk.service.count(ORG) == 1
    assert await names(desk, 1) == ["sunny"]


async def test_a_dead_model_is_an_engine_error(desk: Desk) -> None:
    desk.embedder.failure = Unavailable("the engine is gone")
    with pytest.raises(VoiceprintError) as failed:
        await desk.service.register(enrolment("sunny"), [clip(voice(1))])
    assert failed.value.code is Code.ENGINE_ERROR
    assert await desk.service.count(ORG) == 0


async def test_audio_that_the_model_refuses_is_the_callers_fault(desk: Desk) -> None:
    desk.embedder.failure = Rejected("199 ms, at least 200 ms are needed", code="too_short")
    with pytest.raises(VoiceprintError, match="199 ms") as failed:
        await desk.service.register(enrolment("sunny"), [clip(voice(1))])
    assert failed.value.code is Code.ILLEGAL_PARAMETER


async def test_a_broken_database_is_a_component_error(desk: Desk) -> None:
    await desk.database.run(_drop)
    with pytest.raises(VoiceprintError) as failed:
        await desk.service.count(ORG)
    assert failed.value.code is Code.COMPONENT_ERROR


def _drop(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE voiceprint_clips")
    connection.execute("DROP TABLE voiceprints")


async def test_denoising_happens_when_asked_for_and_when_there_is_a_denoiser(desk: Desk) -> None:
    class Halving:
        async def denoise(self, pcm: bytes, rate_hz: int) -> bytes:
            return pcm[: len(pcm) // 4 * 2]

    desk.service = VoiceprintService(store=desk.store, embedder=desk.embedder, denoiser=Halving())
    await desk.service.register(enrolment("plain"), [clip(voice(1))])
    await desk.service.register(replace(enrolment("cleaned"), denoise=True), [clip(voice(1))])
    assert sorted(desk.embedder.heard_ms) == [500, 500, 1000, 1000, 1000, 1000]


async def test_the_original_is_kept_losslessly_with_its_rate_and_channels(desk: Desk) -> None:
    left, right = (np.frombuffer(voice(speaker, rate_hz=44100), "<i2") for speaker in (1, 2))
    original = Clip(np.stack([left, right], axis=1).astype("<i2").tobytes(), 44100, 2)
    await desk.service.register(enrolment("both"), [original])
    row = await desk.service.find(NamedVoice("acme", "org", "tag", "both"))
    kept = await desk.service.audio(row.print_id)
    assert kept is not None
    assert np.array_equal(samples_of(kept), original.samples)


@pytest.mark.parametrize("channels", range(1, 9))
def test_flac_holds_up_to_eight_channels(channels: int) -> None:
    samples = np.random.default_rng(channels).integers(-32768, 32768, (999, channels), dtype=np.int16)
    assert np.array_equal(samples_of(flac(Clip(samples.tobytes(), 8000, channels))), samples)


@pytest.mark.parametrize(("rate_hz", "expected_hz"), [(8000, 8000), (16000, 16000), (44100, 16000), (48000, 16000)])
def test_models_hear_eight_or_sixteen_kilohertz(rate_hz: int, expected_hz: int) -> None:
    pcm, heard_hz = speech_pcm(clip(voice(1, rate_hz=rate_hz), rate_hz))
    assert heard_hz == expected_hz
    assert len(pcm) == pytest.approx(2 * expected_hz, abs=4)


@pytest.mark.parametrize(
    ("failure", "code"),
    [(Unavailable("gone"), Code.COMPONENT_ERROR), (Rejected("not audio"), Code.UNDECODABLE_AUDIO)],
)
async def test_the_decoders_failures_have_their_codes(desk: Desk, failure: Exception, code: Code) -> None:
    desk.decoder.failure = failure
    with pytest.raises(VoiceprintError) as failed:
        await desk.reader.read(AudioFile(b"fLaC", "a.flac", ""))
    assert failed.value.code is code


@pytest.mark.parametrize("channels", [1, 2])
async def test_a_plain_wav_needs_no_decoder_even_when_cut_short(desk: Desk, channels: int) -> None:
    desk.decoder.failure = Unavailable("gone")
    file = wav(voice(1), 8000, channels)
    read = await desk.reader.read(AudioFile(file[:-3], "a.wav", ""))
    assert (read.rate_hz, read.channels) == (8000, channels)
    assert read.pcm == voice(1)[: len(read.pcm)]
    assert len(voice(1)) - len(read.pcm) == 4


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.booleans())
async def test_any_bytes_after_a_riff_mark_are_read_or_refused(desk: Desk, noise: bytes, headed: bool) -> None:
    data = wav(voice(1, seconds=0.01))[:20] + noise if headed else b"RIFF" + noise
    try:
        read = await desk.reader.read(AudioFile(data, "a.wav", ""))
    except VoiceprintError as refused:
        assert refused.code is Code.UNDECODABLE_AUDIO
    else:
        assert len(read.pcm) % (2 * read.channels) == 0
