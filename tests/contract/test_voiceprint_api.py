"""What every VoiceprintApi promises, checked on our service in process, from a worker, and through HTTP on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.ports import Embedding, Rejected, Unavailable, VoiceprintApi
from gateway.voiceprint.api import VoiceprintRoutes
from gateway.voiceprint.local import LocalVoiceprintApi
from gateway.workers.engines import LinkedVoiceprint, answer_for_engines
from protocol.voiceprint import Enrolment, NamedVoice
from tests.integration.hummed import HummingRecognizer, LoudnessConfirmer
from tests.unit.workers.links import linked
from tests.voices import NOW_S, SECRETS, Desk, SoundEmbedder, clip, hiss, rustle, voice


@pytest.fixture
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """A test may ask, as its parameter, for one that keeps other sounds than voices too."""
    desk = Desk(tmp_path, sounds=getattr(request, "param", None))
    await desk.service.start()
    yield desk
    await desk.close()


@pytest.fixture(params=["local", "worker", "http", "http, call's rate"])
async def api(desk: Desk, request: pytest.FixtureRequest) -> AsyncIterator[VoiceprintApi]:
    if request.param == "local":
        yield LocalVoiceprintApi(desk.service)
        return
    if request.param == "worker":
        async with linked() as (main, worker):
            answer_for_engines(main, LoudnessConfirmer(), HummingRecognizer(), LocalVoiceprintApi(desk.service))
            main.listen()
            worker.listen()
            yield LinkedVoiceprint(worker)
        return
    app = web.Application()
    app.add_routes(VoiceprintRoutes(desk.service, desk.reader, desk.credentials, desk.links).routes())
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield VoiceprintHttp(
            str(server.make_url("")),
            session,
            credentials=lambda app_id: (app_id, SECRETS[app_id][0]),
            now=lambda: NOW_S,
            send_rate_hz=16000 if request.param == "http" else None,
        )


async def enrol(desk: Desk, name: str, speaker: int, tag: str = "tag") -> None:
    await desk.service.register(Enrolment(NamedVoice("acme", "org", tag, name), denoise=False), [clip(voice(speaker))])


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
async def test_the_right_voice_comes_first_at_every_rate(desk: Desk, api: VoiceprintApi, rate_hz: int) -> None:
    for speaker in range(12):
        await enrol(desk, f"张{speaker}", speaker)
    candidates = await api.recognize("acme", "org", "tag", voice(5, take=1, rate_hz=rate_hz), rate_hz)
    assert (candidates[0].name, len(candidates)) == ("张5", 10)
    assert 90 < candidates[0].score <= 100.001  # from 8 kHz, sent at 16 kHz, five points less: see BandedIndex
    scores = [candidate.score for candidate in candidates]
    assert scores == sorted(scores, reverse=True)


async def test_without_a_tag_all_tags_are_searched_and_a_name_comes_once(desk: Desk, api: VoiceprintApi) -> None:
    await enrol(desk, "sunny", 1, tag="a")
    await enrol(desk, "sunny", 1, tag="b")
    await enrol(desk, "rainy", 2, tag="b")
    everywhere = await api.recognize("acme", "org", None, voice(1), 16000)
    assert [candidate.name for candidate in everywhere] == ["sunny", "rainy"]
    assert [candidate.name for candidate in await api.recognize("acme", "org", "a", voice(1), 16000)] == ["sunny"]


async def test_nobody_enrolled_gives_no_candidates(desk: Desk, api: VoiceprintApi) -> None:
    await enrol(desk, "sunny", 1)
    assert list(await api.recognize("rival", "org", "tag", voice(1), 16000)) == []
    assert list(await api.recognize("acme", "elsewhere", None, voice(1), 16000)) == []


@pytest.mark.parametrize(
    ("pcm", "reason"),
    [
        (voice(1, seconds=0.1), "lasts 100 ms"),
        (bytes(32000), "silent"),
        ((np.frombuffer(voice(1), "<i2") // 200).astype("<i2").tobytes(), "too quiet"),
        (hiss(), "no speech"),
    ],
)
async def test_audio_too_poor_is_rejected_with_its_reason(
    desk: Desk, api: VoiceprintApi, pcm: bytes, reason: str
) -> None:
    await enrol(desk, "sunny", 1)  # where nobody is, audio need not be looked at
    with pytest.raises(Rejected, match=reason) as rejected:
        await api.recognize("acme", "org", "tag", pcm, 16000)
    assert rejected.value.code == "10107"


async def test_a_dead_model_is_unavailable(desk: Desk, api: VoiceprintApi) -> None:
    await enrol(desk, "sunny", 1)
    desk.embedder.failure = Unavailable("the engine is gone")
    with pytest.raises(Unavailable):
        await api.recognize("acme", "org", "tag", voice(1), 16000)


async def test_scores_are_the_same_numbers_even_when_they_are_small(desk: Desk, api: VoiceprintApi) -> None:
    """A percent score below 1 must not be taken for a cosine."""
    await enrol(desk, "sunny", 1)
    row = await desk.service.find(NamedVoice("acme", "org", "tag", "sunny"))
    heard = row.prints[0].combined
    tiny = np.zeros_like(heard)
    tiny[:2] = [heard[1], -heard[0]]
    desk.embedder.embed = _always(tiny / np.linalg.norm(tiny) + 0.005 * heard)  # type: ignore[assignment, method-assign]
    candidates = await api.recognize("acme", "org", "tag", voice(1), 16000)
    assert candidates[0].score == pytest.approx(0.5, abs=0.01)


def _always(vector: Embedding) -> Callable[[bytes, int], Awaitable[Embedding]]:
    async def embed(pcm: bytes, rate_hz: int) -> Embedding:
        return vector.astype(np.float32)

    return embed


@pytest.mark.parametrize("desk", [SoundEmbedder()], indirect=True, ids=["with sounds"])
async def test_a_call_is_never_told_of_sounds_that_are_no_speech(desk: Desk, api: VoiceprintApi) -> None:
    await enrol(desk, "sunny", 1)
    await desk.service.register(Enrolment(NamedVoice("acme", "org", "tag", "rustle"), denoise=False), [clip(rustle(1))])
    with pytest.raises(Rejected, match="no speech was found") as refused:
        await api.recognize("acme", "org", None, rustle(1, take=1), 16000)
    assert refused.value.code == "10107"
    assert [candidate.name for candidate in await api.recognize("acme", "org", None, voice(1), 16000)] == ["sunny"]
