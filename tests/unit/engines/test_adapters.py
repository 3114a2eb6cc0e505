"""The ports over pools: what goes to which queue, and in which order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from typing import Any, Literal, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engines.adapters import PARTIAL_PATIENCE_S, VOICE_MODELS, SileroConfirmer, VoiceEmbedder, WhisperRecognizer
from gateway.engines.pool import Pool
from gateway.ports import SpeechProbabilities, TranscribeRequest, Transcription


class Recorded:
    """Stands for a pool: remembers what it was asked, answers what it was told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def run(self, *arguments: Any, **options: Any) -> Any:
        self.asked.append((arguments, options))
        return self.answers.pop(0)


def pool(recorded: Recorded) -> Pool:
    return cast(Pool, recorded)


def request(kind: Literal["partial", "final", "recording"]) -> TranscribeRequest:
    return TranscribeRequest(b"\0\0", 8000, "zh", kind, deadline_s=5.0, key="segment")


@pytest.mark.parametrize(
    ("kind", "rank", "replaceable", "patience_s"), [("partial", 1, True, PARTIAL_PATIENCE_S), ("final", 0, False, inf)]
)
async def test_live_text_is_queued_by_kind_and_deadline(
    kind: Literal["partial", "final"], rank: int, replaceable: bool, patience_s: float
) -> None:
    answer = Transcription("你", "zh", ())
    live = Recorded(answer)
    assert await WhisperRecognizer(pool(live), pool(Recorded())).transcribe(request(kind)) is answer
    arguments, options = live.asked[0]
    assert arguments == ("transcribe", b"\0\0", 8000, "zh", kind)
    assert options == {
        "rank": rank,
        "deadline_s": 5.0,
        "key": "segment",
        "replaceable": replaceable,
        "patience_s": patience_s,
    }


async def test_a_final_that_is_foreseen_may_be_replaced_and_a_hurried_one_is_made_like_a_partial() -> None:
    live = Recorded(None, None)
    recognizer = WhisperRecognizer(pool(live), pool(Recorded()))
    await recognizer.transcribe(replace(request("final"), foreseen=True))
    await recognizer.transcribe(replace(request("final"), hurried=True))
    (foreseen, its_place), (hurried, in_its_place) = live.asked
    assert (foreseen[-1], its_place["replaceable"], its_place["rank"]) == ("final", True, 0)
    assert (hurried[-1], in_its_place["replaceable"], in_its_place["rank"]) == ("partial", False, 0)


async def test_recordings_have_a_queue_of_their_own() -> None:
    recordings = Recorded(None)
    assert await WhisperRecognizer(pool(Recorded()), pool(recordings)).transcribe(request("recording")) is None
    assert len(recordings.asked) == 1


async def test_a_short_clip_is_one_job_at_the_front() -> None:
    embedder = Recorded(np.array([1, 0], np.float32))
    print_ = await VoiceEmbedder(pool(embedder), VOICE_MODELS["campplus"]).embed(bytes(2 * 8000 * 3), 8000)
    assert print_.tolist() == [1, 0]
    assert embedder.asked[0][1] == {"rank": 0}


@given(samples=st.integers(1, 8000 * 65))
def test_long_audio_goes_in_equal_pieces_behind_and_comes_back_as_one_unit_print(samples: int) -> None:
    count = max(1, -(-samples // 40_000))
    embedder = Recorded(*(np.eye(8, dtype=np.float32)[i % 8] for i in range(count)))
    print_ = asyncio.run(VoiceEmbedder(pool(embedder), VOICE_MODELS["campplus"]).embed(bytes(2 * samples), 8000))
    lengths = [len(arguments[1]) // 2 for arguments, _ in embedder.asked]
    assert sum(lengths) == samples
    assert max(lengths) <= 40_000
    assert max(lengths) - min(lengths) <= 1
    assert all(options["rank"] == (0 if count == 1 else 1) for _, options in embedder.asked)
    assert np.linalg.norm(print_) == pytest.approx(1)


async def test_confirming_hands_the_state_through() -> None:
    answer = SpeechProbabilities((0.5,), b"next")
    confirmer = Recorded(answer)
    assert await SileroConfirmer(pool(confirmer)).confirm(bytes(1024), 16000, b"state") is answer
    assert confirmer.asked[0][0] == ("confirm", bytes(1024), 16000, b"state")


async def test_windows_of_a_recording_wait_behind_live_voices() -> None:
    embedder = Recorded(np.array([1, 0], np.float32))
    window = bytes(2 * 8000)
    assert (await VoiceEmbedder(pool(embedder), VOICE_MODELS["campplus"]).embed_window(window, 8000)).tolist() == [1, 0]
    assert embedder.asked == [(("embed", window, 8000), {"rank": 1})]
