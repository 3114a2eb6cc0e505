"""How well passages are found, and what listening costs: `python -m loadtest.bench_passages`.

The labelled calls of BENCHMARKS.md are listened to as files are, with the real models in this process; then each
enrolled voice is looked for among all passages. A passage belongs to who has most of it in the reference.
"""

from __future__ import annotations

import asyncio
import io
import time
import wave
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np

from gateway.engines.campplus import Campplus
from gateway.engines.manifest import CAMPPLUS, SILERO
from gateway.engines.models import model_folder
from gateway.engines.silero import Silero
from gateway.evaluation.material import RATE_HZ, LabelledCall, labelled
from gateway.ports import Embedding, SpeechProbabilities
from gateway.settings import load
from gateway.terminal.softphone import read_audio
from gateway.voiceprint.clip import Clip
from gateway.voiceprint.listening import Listener
from gateway.voiceprint.wav_reading import as_wav
from loadtest.corpus import CORPUS

SCORES = (40, 45, 50, 55, 60)


class ModelsHere:
    """Embedder and confirmer without processes between, so that this process's CPU time is theirs."""

    model = CAMPPLUS.name
    dimensions = 192

    def __init__(self) -> None:
        folder = load(None).settings.models_path
        self._campplus = Campplus(model_folder(folder, CAMPPLUS.name) / CAMPPLUS.files[0].name)
        self._silero = Silero(model_folder(folder, SILERO.name) / SILERO.files[0].name)

    async def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        return self._campplus.embed(pcm, rate_hz)

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        return self._silero.confirm(pcm, rate_hz, state)


def speaker_of(call: LabelledCall, roles: list[str], span: list[int]) -> str:
    """Who has most of a passage; empty for nobody."""
    channel, begin_ms, end_ms = span
    shares: dict[str, float] = defaultdict(float)
    for turn in call.turns:
        if len(roles) == 1 or roles.index(turn.channel) == channel:
            shares[turn.speaker] += max(0.0, min(end_ms / 1000, turn.end_s) - max(begin_ms / 1000, turn.start_s))
    best = max(shares, key=lambda speaker: shares[speaker])
    return best if shares[best] > 0 else ""


async def measure(calls: Path, voices: list[Path], *, mono: bool) -> None:
    material, models = labelled(calls, voices), ModelsHere()
    listener = Listener(models, models)
    prints, spoken_by, audio_s, cpu_s = [], [], 0.0, 0.0
    with TemporaryDirectory() as folder:
        for call in material.calls:
            pcm, channels = read_audio(call.audio, RATE_HZ, 1 if mono else None)
            path = Path(folder) / "call.wav"
            path.write_bytes(as_wav(Clip(pcm, RATE_HZ, channels)))
            begun_s = time.process_time()
            shape, found = await listener.passages(path, None)
            cpu_s += time.process_time() - begun_s
            audio_s += shape.duration_ms / 1000
            roles = ["mixed"] if mono else ["agent", "customer"]
            spoken_by += [speaker_of(call, roles, span) for span in found.spans.tolist()]
            prints.append(found.vectors.astype(np.float32))
    vectors = np.concatenate(prints)
    print(f"{'mono' if mono else 'stereo'}: {len(vectors)} passages in {audio_s:.0f} s of calls")
    print(f"CPU {cpu_s:.1f} s, {cpu_s / audio_s:.4f} s for each second of a call")
    scores: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
    for name, audio in material.voices.items():
        with wave.open(io.BytesIO(audio)) as file:
            voice = await models.embed(file.readframes(file.getnframes()), file.getframerate())
        scores[name] = 100 * (vectors @ voice)
    who = np.asarray(spoken_by)
    print(f"{'min_score':>10} {'found of theirs':>16} {'of others':>10}")
    for least in SCORES:
        right = sum(int((scores[name][who == name] >= least).sum()) for name in scores)
        wrong = sum(int((scores[name][who != name] >= least).sum()) for name in scores)
        theirs = sum(int((who == name).sum()) for name in scores)
        print(f"{least:>10} {f'{right} of {theirs}':>16} {wrong:>10}")
    print()


@click.command()
@click.option("--calls", default=CORPUS / "calls", type=click.Path(path_type=Path, file_okay=False))
@click.option("--voices", multiple=True, default=(CORPUS / "en", CORPUS / "zh"), type=click.Path(path_type=Path))
def main(calls: Path, voices: tuple[Path, ...]) -> None:
    """Print how many passages of each enrolled voice are found at each score, and of how many others."""
    for mono in (False, True):
        asyncio.run(measure(calls, list(voices), mono=mono))


if __name__ == "__main__":
    main()
