"""Sounds that are no speech: what is taken for one, and how they are enrolled and found beside voices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import Rejected
from gateway.voiceprint.local import LocalVoiceprintApi
from gateway.voiceprint.search import Hit
from gateway.voiceprint.service import VoiceprintService
from gateway.voiceprint.sounds import WINDOW_MS, Listening, SpeechRules, voices_only
from protocol.voiceprint import Deletion, Enrolment, NamedVoice, Recognition, Scope, VoiceprintError
from tests.voices import RATE_HZ, Desk, PitchConfirmer, SoundEmbedder, clip, rustle, voice

ORG = Scope("acme", "org", None)
WINDOW_BYTES = 2 * RATE_HZ * WINDOW_MS // 1000


def served(desk: Desk, *, sounds: bool = True) -> SoundEmbedder:
    """The desk's service begins anew, with prints of sounds or without."""
    embedder = SoundEmbedder()
    desk.service = VoiceprintService(
        store=desk.store, embedder=desk.embedder, speech=PitchConfirmer(), sounds=embedder if sounds else None
    )
    return embedder


def enrolment(name: str, *, denoise: bool = False, adds: bool = False) -> Enrolment:
    return Enrolment(NamedVoice("acme", "org", "tag", name), denoise=denoise, adds=adds)


async def found(desk: Desk, pcm: bytes) -> list[Hit]:
    return await desk.service.recognize(Recognition(ORG, denoise=False), clip(pcm))


async def enrol_all(desk: Desk) -> None:
    for number in range(3):
        await desk.service.register(enrolment(f"voice {number}"), [clip(voice(number))])
        await desk.service.register(enrolment(f"sound {number}"), [clip(rustle(number))])


async def test_sounds_are_found_among_sounds_and_voices_among_voices(desk: Desk) -> None:
    served(desk)
    await enrol_all(desk)
    hits = await found(desk, rustle(1, take=1))
    assert hits[0].entry.name == "sound 1"
    assert [hit.entry.kind for hit in hits] == ["sound"] * 3
    hits = await found(desk, voice(2, take=1))
    assert hits[0].entry.name == "voice 2"
    assert [hit.entry.kind for hit in hits] == ["voice"] * 3
    assert (await desk.service.find(NamedVoice("acme", "org", "tag", "sound 1"))).kind == "sound"


async def test_where_only_the_other_kind_is_enrolled_nothing_is_found(desk: Desk) -> None:
    served(desk)
    assert await found(desk, rustle(1)) == []
    await desk.service.register(enrolment("voice"), [clip(voice(1))])
    assert await found(desk, rustle(1)) == []
    await desk.service.delete(Deletion("acme", "org", "tag", None))
    await desk.service.register(enrolment("sound"), [clip(rustle(1))])
    assert await found(desk, voice(1)) == []


async def test_calls_never_score_sound_that_is_not_speech(desk: Desk) -> None:
    heard = served(desk)
    await enrol_all(desk)
    calls = LocalVoiceprintApi(desk.service)
    heard.heard_ms.clear()
    with pytest.raises(Rejected, match="no speech was found") as refused:
        await calls.recognize("acme", "org", None, rustle(1), RATE_HZ)
    assert refused.value.code == "10107"
    assert heard.heard_ms == []
    candidates = await calls.recognize("acme", "org", None, voice(1), RATE_HZ)
    assert {candidate.name for candidate in candidates} == {"voice 0", "voice 1", "voice 2"}


async def test_without_prints_of_sounds_they_are_refused_and_those_enrolled_wait(desk: Desk) -> None:
    served(desk)
    await enrol_all(desk)
    served(desk, sounds=False)
    assert await desk.service.start() == {"sounds-64": 3}
    with pytest.raises(VoiceprintError, match="no speech was found") as refused:
        await found(desk, rustle(1))
    assert refused.value.data is not None
    assert refused.value.data["reason"] == "no_speech"
    assert await desk.service.count(ORG) == 6


async def test_a_restart_finds_sounds_again(desk: Desk) -> None:
    served(desk)
    await enrol_all(desk)
    served(desk)
    assert await desk.service.start() == {}
    assert (await found(desk, rustle(2, take=1)))[0].entry.name == "sound 2"


async def test_an_update_may_turn_a_voice_into_a_sound_and_deleting_ends_both(desk: Desk) -> None:
    served(desk)
    await enrol_all(desk)
    await desk.service.update(enrolment("voice 0"), [clip(rustle(4))])
    assert (await found(desk, rustle(4, take=1)))[0].entry.name == "voice 0"
    assert len(await found(desk, voice(0))) == 2
    await desk.service.delete(Deletion("acme", "org", "tag", ("voice 0",)))
    assert {hit.entry.name for hit in await found(desk, rustle(4))} == {"sound 0", "sound 1", "sound 2"}


async def test_one_name_is_a_voice_or_a_sound_and_not_both(desk: Desk) -> None:
    served(desk)
    with pytest.raises(VoiceprintError, match="each needs a name of its own"):
        await desk.service.register(enrolment("both"), [clip(voice(1)), clip(rustle(1))])
    await desk.service.register(enrolment("sound"), [clip(rustle(1)), clip(rustle(1, take=1))])
    with pytest.raises(VoiceprintError, match="another kind of sound"):
        await desk.service.update(enrolment("sound", adds=True), [clip(voice(1))])
    assert [
        len(prints.vectors) for prints in (await desk.service.find(NamedVoice("acme", "org", "tag", "sound"))).prints
    ] == [2]


async def test_a_sound_keeps_what_denoising_would_take_away(desk: Desk) -> None:
    class Muting:
        async def denoise(self, pcm: bytes, rate_hz: int) -> bytes:
            return bytes(len(pcm))

    sounds = SoundEmbedder()
    desk.service = VoiceprintService(
        store=desk.store, embedder=desk.embedder, speech=PitchConfirmer(), sounds=sounds, denoiser=Muting()
    )
    await desk.service.register(enrolment("rustle", denoise=True), [clip(rustle(1))])
    assert (await found(desk, rustle(1, take=1)))[0].cosine > 0.9


@pytest.mark.parametrize("pcm", [rustle(1, seconds=0.9), bytes(64000)])
async def test_short_sounds_and_silence_are_refused_with_what_was_measured(desk: Desk, pcm: bytes) -> None:
    served(desk)
    with pytest.raises(VoiceprintError) as refused:
        await desk.service.register(enrolment("sound"), [clip(pcm)])
    assert refused.value.data is not None
    assert refused.value.data["reason"] in ("no_speech", "silence")
    assert "level_dbfs" in refused.value.data["measured"]
    assert await desk.service.count(ORG) == 0


# --- what a clip is taken for ---


def heard(speech_windows: int, windows: int, *, rules: SpeechRules | None = None, silent: int = 0) -> Listening:
    """A clip of so many sounding windows, the first of them speech, and silent ones behind, listened to to the end."""
    pcm = np.full(windows * WINDOW_BYTES // 2, 1000, "<i2").tobytes() + bytes(silent * WINDOW_BYTES)
    listening = Listening(pcm, RATE_HZ, rules or SpeechRules())
    probabilities = [0.9] * speech_windows + [0.1] * (windows + silent - speech_windows)
    at = 0
    for stretch in listening.stretches():
        count = len(stretch) // WINDOW_BYTES
        listening.note(probabilities[at : at + count])
        at = (at + count) % len(probabilities)
    return listening


@pytest.mark.parametrize(
    ("speech", "windows", "silent", "kind"),
    [
        (10, 93, 0, "voice"),  # a word in three seconds
        (9, 93, 0, None),
        (3, 93, 0, "sound"),
        (4, 12, 300, "voice"),  # a word, and ten seconds of silence
        (19, 9000, 0, "voice"),  # speech somewhere in five minutes
        (9, 9000, 0, "sound"),
        (0, 30, 0, None),  # 0.96 s
        (0, 32, 0, "sound"),
        (2, 32, 0, None),
        (4, 32, 0, "voice"),
    ],
)
def test_what_a_clip_is_depends_on_the_speech_in_what_sounds(
    speech: int, windows: int, silent: int, kind: str | None
) -> None:
    assert heard(speech, windows, silent=silent).kind == kind


def test_a_short_clip_is_heard_again_and_its_best_hearing_counts() -> None:
    listening = Listening(np.full(RATE_HZ, 1000, "<i2").tobytes(), RATE_HZ, SpeechRules())
    hearings: Sequence[Sequence[float]] = ([0.1] * 32, [0.1] * 27 + [0.9] * 5)
    count = 0
    for _, probabilities in zip(listening.stretches(), hearings, strict=True):
        count += 1
        listening.note(probabilities)
    assert (count, listening.kind, listening.speech_ms) == (2, "voice", 160)


def test_listening_ends_when_it_is_clear_that_somebody_speaks() -> None:
    assert heard(60, 9000).speech_ms == 60 * WINDOW_MS
    listening = Listening(bytes(100 * 320 * WINDOW_BYTES), RATE_HZ, SpeechRules())
    count = 0
    for _ in listening.stretches():
        count += 1
        listening.note([0.9] * 320)
    assert count == 1


@given(st.integers(1, 400), st.data())
def test_more_speech_never_makes_a_voice_less_of_one(windows: int, data: st.DataObject) -> None:
    less = data.draw(st.integers(0, windows))
    more = data.draw(st.integers(less, windows))
    order: dict[str | None, int] = {"sound": 0, None: 1, "voice": 2}
    few, many = heard(less, windows).kind, heard(more, windows).kind
    assert order[few] <= order[many]


def test_by_the_rules_for_voices_alone_nothing_is_a_sound() -> None:
    assert heard(0, 300, rules=voices_only(96)).kind is None
    assert heard(3, 300, rules=voices_only(96)).kind == "voice"
    assert "at least 96 ms" in heard(2, 300, rules=voices_only(96)).flaw.text


@pytest.mark.parametrize(("speech", "windows", "text"), [(0, 30, "another sound at least 1000 ms"), (5, 93, "neither")])
def test_a_refusal_says_how_much_speech_was_heard_and_how_much_is_needed(speech: int, windows: int, text: str) -> None:
    flaw = heard(speech, windows).flaw
    assert text in flaw.text
    assert f"{speech * WINDOW_MS} ms of speech" in flaw.text
