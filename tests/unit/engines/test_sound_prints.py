"""Prints of sounds: the map behind them, the way to the engine, and the real models on sounds made here."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.engines.adapters import VOICE_MODELS, WAITED_FOR_RANK, SileroConfirmer, VoiceEmbedder, WhisperSounds
from gateway.engines.campplus import Campplus
from gateway.engines.manifest import CAMPPLUS, SILERO
from gateway.engines.models import model_folder
from gateway.engines.pool import Pool
from gateway.engines.silero import Silero
from gateway.engines.sound_space import (
    SOUND_DIMENSIONS,
    LinearMap,
    SoundSpace,
    band_statistics,
    sound_map_path,
    sound_space,
)
from gateway.engines.whisper import Whisper
from gateway.ports import Rejected
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints
from gateway.voiceprint.clip import clip_of_pcm
from gateway.voiceprint.service import VoiceprintService
from loadtest import sound_material
from loadtest.fit_sounds import discriminant
from loadtest.made_sounds import sounds
from loadtest.sound_material import FLUID_FONT, INSTRUMENTS, enrolled_and_held_out
from protocol.voiceprint import Enrolment, NamedVoice, Recognition, Scope
from tests.unit.engines.spoken import speech

RATE_HZ = 16000
ORG = Scope("acme", "org", None)


class InThisProcess:
    """Stands for a pool: asks an engine that lives here."""

    def __init__(self, engine: object) -> None:
        self._engine = engine
        self.asked: list[tuple[str, int, int]] = []

    async def run(self, method: str, pcm: bytes, rate_hz: int, *more: Any, rank: int = 0) -> Any:
        self.asked.append((method, len(pcm), rank))
        return getattr(self._engine, method)(pcm, rate_hz, *more)


def pcm_of(samples: NDArray[np.floating]) -> bytes:
    return bytes((samples * 32767).astype("<i2").tobytes())


# --- the map ---


def test_statistics_do_not_depend_on_level_and_leave_pauses_out() -> None:
    dice = np.random.default_rng(1)
    spectrum = dice.uniform(0.2, 1.0, (50, 80)).astype(np.float32)
    pauses = np.full((20, 80), -1, np.float32)
    assert np.allclose(band_statistics(spectrum), band_statistics(spectrum - 0.3), atol=1e-5)
    assert np.allclose(band_statistics(spectrum), band_statistics(np.concatenate([spectrum, pauses])), atol=1e-5)
    assert band_statistics(spectrum[:1]).shape == (240,)


def test_the_discriminant_keeps_what_tells_sources_apart() -> None:
    dice = np.random.default_rng(2)
    sources = np.repeat(np.arange(60), 8)
    features = 5 * dice.standard_normal((480, 160))  # within sources, everything varies ...
    features[:, :4] = 0.1 * dice.standard_normal((480, 4)) + dice.standard_normal((60, 4))[sources]  # ... but this
    found = discriminant(features.astype(np.float32), sources)
    prints = np.stack([found.apply(one) for one in features.astype(np.float32)])
    scores = prints @ prints.T - 2 * np.eye(480)
    assert np.mean(sources[scores.argmax(axis=1)] == sources) > 0.9
    plain = features @ features.T - 1e9 * np.eye(480)
    assert np.mean(sources[plain.argmax(axis=1)] == sources) < 0.3


def test_a_map_is_read_as_it_was_written() -> None:
    dice = np.random.default_rng(3)
    maps = [LinearMap(dice.normal(size=n).astype("f4"), dice.normal(size=(n, 128)).astype("f4")) for n in (512, 240)]
    file = io.BytesIO()
    SoundSpace(*maps).save(file)
    file.seek(0)
    states, spectrum = dice.normal(size=(50, 512)).astype("f4"), dice.uniform(size=(100, 80)).astype("f4")
    first, second = SoundSpace(*maps).print_of(states, spectrum), SoundSpace.load(file).print_of(states, spectrum)
    assert first.shape == (SOUND_DIMENSIONS,)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert first @ second > 0.999


def test_the_map_of_the_default_recogniser_is_part_of_the_installation() -> None:
    assert sound_space("whisper-base").heard.matrix.shape == (512, 128)
    with pytest.raises(ValueError, match=r"no sound prints with whisper-tiny\.en"):
        sound_map_path("whisper-tiny.en")


# --- the way to the engine ---


async def test_long_sounds_go_in_pieces_ahead_of_recordings_and_silent_pieces_stay_away() -> None:
    class Constant:
        def embed_sound(self, pcm: bytes, rate_hz: int) -> NDArray[np.float32]:
            print_: NDArray[np.float32] = np.eye(SOUND_DIMENSIONS, dtype=np.float32)[0]
            return print_

    pool = InThisProcess(Constant())
    embedder = WhisperSounds(cast(Pool, pool), "whisper-base")
    hum = np.full(RATE_HZ * 20, 100, "<i2").tobytes()
    print_ = await embedder.embed(hum + bytes(2 * RATE_HZ * 10), RATE_HZ)
    assert print_[0] == 1
    assert pool.asked == [("embed_sound", 2 * RATE_HZ * 10, WAITED_FOR_RANK)] * 2
    with pytest.raises(Rejected, match="digital silence"):
        await embedder.embed(bytes(2 * RATE_HZ), RATE_HZ)


# --- the real models ---


@dataclass(frozen=True)
class Heard:
    service: VoiceprintService

    async def enrol(self, name: str, pcm: bytes) -> None:
        await self.service.register(
            Enrolment(NamedVoice("acme", "org", "tag", name), denoise=False), [clip_of_pcm(pcm, RATE_HZ)]
        )

    async def found(self, pcm: bytes) -> list[tuple[str, str]]:
        hits = await self.service.recognize(Recognition(ORG, denoise=False), clip_of_pcm(pcm, RATE_HZ))
        return [(hit.entry.name, hit.entry.kind) for hit in hits]


@pytest.fixture(scope="module")
def whisper(models_dir: Path) -> Whisper:
    return Whisper(model_folder(models_dir, "whisper-base"))


@pytest.fixture
async def heard(whisper: Whisper, models_dir: Path, tmp_path: Path) -> AsyncIterator[Heard]:
    """The voiceprint service on the engines of a server, all in this process."""

    def pool(engine: object) -> Pool:
        return cast(Pool, InThisProcess(engine))

    def file(model: Any) -> Path:
        return model_folder(models_dir, model.name) / str(model.files[0].name)

    database = Database(tmp_path / "voices.sqlite", [SCHEMA])
    service = VoiceprintService(
        store=SqliteVoiceprints(database),
        embedder=VoiceEmbedder(pool(Campplus(file(CAMPPLUS))), VOICE_MODELS["campplus"]),
        speech=SileroConfirmer(pool(Silero(file(SILERO)))),
        sounds=WhisperSounds(pool(whisper), "whisper-base"),
    )
    await service.start()
    yield Heard(service)
    await service.close()
    database.close()


@pytest.mark.models
def test_a_print_does_not_depend_on_level_and_refuses_what_it_cannot_hear(whisper: Whisper) -> None:
    _, samples = next(sounds(1, 1, seed=9))
    loud, quiet = whisper.embed_sound(pcm_of(samples), RATE_HZ), whisper.embed_sound(pcm_of(samples / 20), RATE_HZ)
    assert loud.shape == (SOUND_DIMENSIONS,)
    assert np.linalg.norm(loud) == pytest.approx(1, abs=1e-5)
    assert loud @ quiet > 0.98
    refused: dict[str, Callable[[], Any]] = {
        "too_short": lambda: whisper.embed_sound(pcm_of(samples[:3000]), RATE_HZ),
        "too_long": lambda: whisper.embed_sound(bytes(2 * 31 * RATE_HZ), RATE_HZ),
        "silence": lambda: whisper.embed_sound(bytes(2 * RATE_HZ), RATE_HZ),
    }
    for code, ask in refused.items():
        with pytest.raises(Rejected) as error:
            ask()
        assert error.value.code == code


@pytest.mark.models
async def test_made_up_instruments_are_found_by_other_notes_and_speech_is_a_voice(heard: Heard) -> None:
    made: dict[str, list[bytes]] = {}
    for source, samples in sounds(6, 5, seed=105):
        made.setdefault(f"source {source}", []).append(pcm_of(samples) + bytes(RATE_HZ))
    for name, (first, second, third, *_) in made.items():
        await heard.enrol(name, first + second + third)
    await heard.enrol("somebody", speech("your account is now closed, and the money will be returned on monday"))
    answers = [(name, await heard.found(one)) for name, (_, _, _, *others) in made.items() for one in others]
    assert all(kind == "sound" for _, hits in answers for _, kind in hits)
    assert sum(hits[0][0] == name for name, hits in answers) >= 10  # all 12 where this was written; by chance 2
    assert await heard.found(speech("please call me back when the offer is ready")) == [("somebody", "voice")]


@pytest.mark.models
@pytest.mark.skipif(
    bool(lacking := set(sound_material.missing()) & {"fluidsynth", "fluid-soundfont-gm"}),
    reason=f"sampled instruments are in Debian packages that are not installed: {', '.join(sorted(lacking))}",
)
async def test_sampled_instruments_are_found_by_notes_that_were_not_enrolled(heard: Heard) -> None:
    names = ("piano", "glockenspiel", "violin", "trumpet", "nylon guitar", "kalimba")
    held_out = {}
    for instrument in (one for one in INSTRUMENTS if one.name in names):
        enrolled, held_out[instrument.name] = enrolled_and_held_out(FLUID_FONT, instrument)
        await heard.enrol(instrument.name, enrolled.tobytes())
    answers = [(name, await heard.found(note.tobytes())) for name, notes in held_out.items() for note in notes[:4]]
    assert sum(hits[0] == (name, "sound") for name, hits in answers) >= 20  # all 24 where this was written


def test_lengths_in_a_midi_file_are_written_as_its_specification_shows_them() -> None:
    # Standard MIDI Files 1.0, "variable length quantity": its own examples.
    examples = {0: "00", 0x40: "40", 0x7F: "7f", 0x80: "8100", 0x2000: "c000", 0x3FFF: "ff7f", 0x4000: "818000"}
    assert {ticks: sound_material._length(ticks).hex() for ticks in examples} == examples
