"""Whisper and CAM++ as they are: the same classes that engine processes load, run in this one."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import jiwer
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.call.speaker import SpeakerSettings
from gateway.demo.material import demo_call
from gateway.engines.campplus import Campplus
from gateway.engines.campplus_graph import DIMENSIONS, MEL_BINS
from gateway.engines.models import model_folder
from gateway.engines.onnx_session import open_session
from gateway.engines.whisper import Kind, Whisper
from gateway.ports import Language, Prints, Rejected
from gateway.terminal.softphone import read_audio
from gateway.voiceprint.bands import mixed, over_a_line
from tests.unit.engines import made_up
from tests.unit.engines.spoken import speech

pytestmark = pytest.mark.models

REFERENCE = [-0.87001, 0.34827, -0.2802, 0.4107, 0.21291, -0.09325, -0.24502, -0.50207]
"""Every 24th number."""

SENTENCE = "your account is now closed, and the money will be returned on monday"


@pytest.fixture(scope="module")
def whisper(models_dir: Path) -> Whisper:
    return Whisper(model_folder(models_dir, "whisper-base"))


@pytest.fixture(scope="module")
def graph_path(models_dir: Path) -> Path:
    return model_folder(models_dir, "campplus") / "campplus.onnx"


@pytest.fixture(scope="module")
def campplus(graph_path: Path) -> Campplus:
    return Campplus(graph_path)


def pcm_of(samples: NDArray[np.floating]) -> bytes:
    return bytes(np.clip(samples, -32768, 32767).astype("<i2").tobytes())


def plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum() or c in " '")


@pytest.mark.parametrize(("kind", "rate_hz"), [("partial", 16000), ("final", 8000), ("recording", 48000)])
def test_speech_becomes_its_words_with_times(whisper: Whisper, kind: Kind, rate_hz: int) -> None:
    pcm = speech(SENTENCE, rate_hz)
    duration_ms = len(pcm) * 1000 // (2 * rate_hz)
    heard = whisper.transcribe(pcm, rate_hz, "auto", kind)
    assert heard.rejected is None
    assert heard.language == "en"
    assert jiwer.wer(plain(SENTENCE), plain(heard.text)) <= 0.35  # a robot speaks
    assert heard.text == "".join(word.text for word in heard.words).strip()
    times = [time for word in heard.words for time in (word.begin_ms, word.end_ms)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= duration_ms + 40


@pytest.mark.parametrize("language", ["en", "zh", "auto"])
@pytest.mark.parametrize("kind", ["partial", "final"])
def test_silence_and_noise_give_no_text_and_say_why(whisper: Whisper, language: Language, kind: Kind) -> None:
    noise = np.random.default_rng(1).normal(0, 1, 48000)
    hum = np.sin(np.arange(48000) * 2 * np.pi * 50 / 16000)
    for samples in (0 * noise, 30 * noise, 3000 * noise, 2000 * hum, 300 * noise[:4800], 300 * noise[:1600]):
        heard = whisper.transcribe(pcm_of(samples), 16000, language, kind)
        assert (heard.text, heard.words) == ("", ())
        assert heard.rejected in {"no_speech", "low_confidence", "repetition"}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("sound", made_up.SOUNDS)
def test_music_tones_and_noises_give_no_text(whisper: Whisper, sound: str, language: Language) -> None:
    for kind in ("partial", "final"):
        for loudness in (300, 6000):
            heard = whisper.transcribe(made_up.sound(sound, loudness), 16000, language, kind)
            assert (heard.text, heard.words) == ("", ())


def test_one_recogniser_follows_a_call_from_language_to_language(whisper: Whisper) -> None:
    """The language is found anew for each stretch: nothing of the one before it is left."""
    english = speech(SENTENCE)
    chinese = speech("你好请问有什么可以帮您您的订单已经发货", voice="cmn")
    languages = [whisper.transcribe(pcm, 16000, "auto", "final").language for pcm in (english, chinese, english)]
    assert languages == ["en", "zh", "en"]


def test_no_sound_at_all_is_no_speech(whisper: Whisper) -> None:
    assert whisper.transcribe(b"", 16000, "en", "final").rejected == "no_speech"


def test_more_than_a_window_is_refused(whisper: Whisper) -> None:
    with pytest.raises(Rejected, match="at most 30 s") as refusal:
        whisper.transcribe(bytes(2 * 16000 * 31), 16000, "en", "recording")
    assert refusal.value.code == "too_long"


def test_thirty_seconds_fit(whisper: Whisper) -> None:
    assert whisper.transcribe(bytes(2 * 16000 * 30), 16000, "en", "final").text == ""


def test_the_graph_computes_what_pytorch_did(graph_path: Path) -> None:
    """Reference values: the published network in PyTorch 2.13 on the same features, once."""
    time = np.arange(160)[:, np.newaxis]
    mel = np.arange(MEL_BINS)[np.newaxis]
    features = (np.sin(0.13 * time + 0.05 * mel) + 0.5 * np.cos(0.031 * time * (1 + mel % 7))).astype(np.float32)
    embedding = open_session(graph_path).run(None, {"features": features[np.newaxis]})[0][0]
    assert embedding.shape == (DIMENSIONS,)
    assert embedding[::24] == pytest.approx(REFERENCE, abs=1e-4)


def test_a_print_has_unit_length_and_hardly_depends_on_the_rate(campplus: Campplus) -> None:
    at_16k = campplus.embed(speech(SENTENCE, 16000), 16000)
    at_48k = campplus.embed(speech(SENTENCE, 48000), 48000)
    assert at_16k.shape == (DIMENSIONS,)
    assert at_16k.dtype == np.float32
    assert np.linalg.norm(at_16k) == pytest.approx(1, abs=1e-5)
    assert at_16k @ at_48k > 0.98


def test_too_little_sound_has_no_print(campplus: Campplus) -> None:
    campplus.embed(bytes(2 * 3200), 16000)
    with pytest.raises(Rejected, match=r"needs 0\.2 s") as refusal:
        campplus.embed(bytes(2 * 3199), 16000)
    assert refusal.value.code == "too_short"


@pytest.mark.corpus
def test_three_seconds_tell_real_speakers_apart(campplus: Campplus, corpus: Path) -> None:
    prints, speakers = [], []
    for row in _rows(corpus / "en"):
        samples = _samples(corpus / "en" / row["file"])
        prints.append(campplus.embed(pcm_of(samples[: 3 * 16000]), 16000))
        speakers.append(row["speaker"])
    scores = np.array(prints) @ np.array(prints).T
    first, second = np.triu_indices(len(prints), 1)
    same = np.array(speakers)[first] == np.array(speakers)[second]
    pairs = scores[first, second]
    thresholds = np.linspace(-1, 1, 401)
    errors = [max((pairs[same] < t).mean(), (pairs[~same] >= t).mean()) for t in thresholds]
    assert min(errors) <= 0.01


@pytest.mark.corpus
def test_voices_enrolled_in_full_are_known_on_telephone_lines(campplus: Campplus, corpus: Path) -> None:
    """Before there were narrow prints 44 % of them were missed."""
    clips: dict[str, list[bytes]] = {}
    for row in _rows(corpus / "en"):
        clips.setdefault(row["speaker"], []).append(pcm_of(_samples(corpus / "en" / row["file"])[: 3 * 16000]))
    enrolled = []
    for one, *_ in clips.values():
        prints = (campplus.embed(one, 16000), campplus.embed(over_a_line(one), 8000))
        enrolled.append(mixed(*(Prints("", vector[np.newaxis]) for vector in prints)))
    asked = [(at, pcm) for at, of_voice in enumerate(clips.values()) for pcm in of_voice[1:]]
    scores = 100 * np.stack([campplus.embed(over_a_line(pcm), 8000) for _, pcm in asked]) @ np.array(enrolled).T
    right = np.array([at for at, _ in asked])
    assert (scores.argmax(axis=1) == right).all()
    own = scores[np.arange(len(asked)), right]
    assert (own < SpeakerSettings().known_score_8k).mean() <= 0.1
    assert (scores >= SpeakerSettings().known_score_8k).sum() - len(own) <= 0.02 * scores.size


@pytest.mark.corpus
@pytest.mark.parametrize(("language", "most"), [("en", 0.12), ("zh", 0.25)])
def test_finals_of_real_speech_are_mostly_right(
    whisper: Whisper, corpus: Path, language: Language, most: float
) -> None:
    opencc = pytest.importorskip("opencc").OpenCC("t2s")
    said, heard = [], []
    for row in _rows(corpus / language)[:10]:
        pcm = pcm_of(_samples(corpus / language / row["file"]))
        answer = whisper.transcribe(pcm, 16000, "auto", "final")
        assert answer.language == language
        said.append(plain(row["text"]))
        heard.append(plain(opencc.convert(answer.text)))
    measure = jiwer.wer if language == "en" else jiwer.cer
    assert measure(said, heard) <= most


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "transcripts.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))[::2]


def _samples(path: Path) -> NDArray[np.float64]:
    with av.open(str(path)) as container:
        blocks = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    return np.concatenate(blocks).astype(np.float64)


def test_a_mandarin_recording_is_heard_the_same_whether_its_language_is_told_or_found(whisper: Whisper) -> None:
    pcm, _ = read_audio(demo_call("zh").audio, 16000, 1)
    part = pcm[2 * 16000 : 2 * 16000 * 9]
    told, found = (whisper.transcribe(part, 16000, language, "recording") for language in ("zh", "auto"))
    assert found == told
    assert len(found.words) > 10
