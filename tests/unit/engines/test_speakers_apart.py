"""Two speakers of one channel told apart with the real models."""

from pathlib import Path

import numpy as np
import pytest

from gateway.engines.campplus import Campplus
from gateway.engines.manifest import CAMPPLUS, SILERO
from gateway.engines.models import model_folder
from gateway.engines.silero import Silero
from gateway.evaluation.diarization import SpeechErrors, voice_errors
from gateway.evaluation.material import RATE_HZ, LabelledCall, demo_material, labelled
from gateway.ports import Embedding, SpeechProbabilities
from gateway.quality.diarization import Turn
from gateway.quality.diarizer import Diarizer
from gateway.quality.speech import MARGIN_MS, Samples, confirmed, gate
from gateway.terminal.softphone import read_audio

pytestmark = pytest.mark.models


class Models:
    """Follows WindowEmbedder and SpeechConfirmer."""

    dimensions = 192

    def __init__(self, models_dir: Path) -> None:
        self._campplus = Campplus(model_folder(models_dir, CAMPPLUS.name) / CAMPPLUS.files[0].name)
        self._silero = Silero(model_folder(models_dir, SILERO.name) / SILERO.files[0].name)

    async def embed_window(self, pcm: bytes, rate_hz: int) -> Embedding:
        return self._campplus.embed(pcm, rate_hz)

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        return self._silero.confirm(pcm, rate_hz, state)

    async def turns(self, samples: Samples) -> tuple[Turn, ...]:
        speech = await confirmed(self, samples, RATE_HZ, gate(samples, RATE_HZ))
        return await Diarizer(self).turns(samples, RATE_HZ, speech)


@pytest.fixture(scope="module")
def models(models_dir: Path) -> Models:
    return Models(models_dir)


def _parties(call: LabelledCall) -> tuple[Samples, Samples]:
    pcm, _ = read_audio(call.audio, RATE_HZ, 2)
    both = np.frombuffer(pcm, "<i2").reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


async def _errors(models: Models, call: LabelledCall) -> SpeechErrors:
    agent, customer = _parties(call)
    mixed = ((agent.astype(np.int32) + customer) // 2).astype(np.int16)
    turns = await models.turns(mixed)
    heard = [(turn.begin_ms - MARGIN_MS, turn.end_ms + MARGIN_MS, turn.speaker) for turn in turns]
    assert {turn.speaker for turn in turns} == {0, 1}
    return voice_errors(call.turns, heard, len(mixed) * 1000 // RATE_HZ, overlaps=False)


async def test_the_parties_of_a_demo_call_are_told_apart_and_each_alone_is_one(models: Models) -> None:
    call = demo_material().calls[0]
    found = await _errors(models, call)
    assert found.rate < 0.1
    assert found.confused_ms < 0.02 * found.spoken_ms
    for party in _parties(call):
        assert {turn.speaker for turn in await models.turns(party)} == {0}


@pytest.mark.corpus
async def test_real_parties_are_told_apart(models: Models, corpus: Path) -> None:
    call = labelled(corpus / "calls", []).only(["zh-2"], None).calls[0]
    found = await _errors(models, call)
    assert found.rate < 0.05
    assert found.confused_ms < 0.01 * found.spoken_ms
