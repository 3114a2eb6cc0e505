"""All engines together, in their processes, with the real models."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.engines.engines import Engines
from gateway.engines.models import ModelMissing
from gateway.engines.process import EngineProcess
from gateway.engines.worker import EngineSpec
from gateway.ports import Rejected, TranscribeRequest, Unavailable
from tests.unit.engines.spoken import speech
from tests.unit.engines.test_decode import tones, wav

SENTENCE = "your account is now closed, and the money will be returned on monday"


@pytest.mark.models
async def test_every_port_answers_at_once(models_dir: Path, tmp_path: Path) -> None:
    ready: list[str] = []
    engines = Engines(models_dir, tmp_path / "spool", recognizer_processes=1, on_ready=ready.append)
    await engines.start()
    try:
        assert engines.ready
        assert sorted(ready) == sorted(engines.pools)
        pcm = speech(SENTENCE)
        requests = [
            TranscribeRequest(pcm, 16000, "auto", "final", time.monotonic() + 1, "segment"),
            TranscribeRequest(pcm, 16000, "auto", "recording", time.monotonic() + 9, "segment"),
        ]
        assert engines.sounds is not None
        (final, recording), print_, sound, confirmed, decoded = await asyncio.gather(
            asyncio.gather(*(engines.recognizer.transcribe(request) for request in requests)),
            engines.embedder.embed(pcm, 16000),
            engines.sounds.embed(tones(8000, 0.5, 300).tobytes(), 8000),
            engines.confirmer.confirm(pcm[: 1024 * 20], 16000, None),
            engines.decoder.decode(wav(tones(8000, 0.5, 300), 8000)),
        )
        assert final is not None
        assert recording is not None
        assert "money will be returned" in final.text
        assert "money will be returned" in recording.text
        assert print_.shape == (engines.embedder.dimensions,)
        assert sound.shape == (engines.sounds.dimensions,)
        assert len(confirmed.probabilities) == 20
        assert decoded.duration_ms == 500
        with pytest.raises(Rejected, match="voice print needs"):
            await engines.embedder.embed(bytes(200), 16000)
    finally:
        await engines.stop()
    assert not any(pool.available for pool in engines.pools.values())
    with pytest.raises(Unavailable):
        await engines.embedder.embed(pcm, 16000)


@pytest.mark.models
async def test_one_engine_that_cannot_start_stops_the_others(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines(models_dir, tmp_path / "spool", recognizer_processes=1)
    start = EngineProcess.start

    async def failing(spec: EngineSpec, timeout_s: float, name: str = "") -> EngineProcess:
        if "Campplus" in spec.factory:
            raise OSError("no such graph")
        return await start(spec, timeout_s, name)

    monkeypatch.setattr(EngineProcess, "start", failing)
    with pytest.raises(OSError, match="no such graph"):
        await engines.start()
    assert not any(pool.ready for pool in engines.pools.values())


def test_a_missing_model_names_the_command_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="earshot models pull"):
        Engines(tmp_path / "models", tmp_path / "spool")
