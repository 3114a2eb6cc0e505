"""Speech recognition with Whisper through CTranslate2 (runs inside an engine process).

The published pipelines pad every window to 30 s and retry at rising temperatures. Here the encoder sees the window as
long as it is plus some silence, which costs a fifth to a half, and one decode is final; guards drop what it makes up.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ctranslate2
import numpy as np
import tokenizers
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from gateway.engines.pcm import MODEL_RATE_HZ, Samples, model_samples
from gateway.engines.sound_space import sound_space
from gateway.engines.word_times import group_tokens, place_words, simplified
from gateway.ports import Embedding, Language, Rejected, Transcription

Kind = Literal["partial", "final", "recording"]

LEAST_S = 0.2
"""Shorter sounds hold no word; asked all the same, the model answers "Thank you."."""
LONGEST_S = 30
SILENCE_S: dict[Kind, float] = {"partial": 2, "final": 4, "recording": 4}
"""Silence appended before encoding: more hears better and costs more."""
MANDARIN_RECORDING_SILENCE_S = 12.0
"""Mandarin is heard better with more, and best with this much; English is not (see BENCHMARKS.md)."""

SOUND_SILENCE_S = 0.5
"""Appended to other sounds; four times as much hears no better."""
SOUND_PEAK = 0.7
"""Other sounds are brought to this level first, so that a print does not depend on it."""

BEAMS: dict[Kind, int] = {"partial": 1, "final": 1, "recording": 5}
"""Hypotheses followed at once. Five take a tenth more than one over a padded window, whose encoding is most of the
cost; on live windows it would be half as much again."""

TOKENS_PER_S = {"en": 6, "zh": 8}
"""No one speaks faster. The cap is this times the length plus this once more: it ends loops."""

REPETITION_PENALTIES = (1.0, 1.1)
"""Tried in turn while the text is a loop. A penalty from the start costs accuracy where there is no loop to break."""

ENCODER_FRAMES_PER_S = 50
LANGUAGE_FRAMES = 2 * ENCODER_FRAMES_PER_S
"""One second mistook 3 of 44 utterances, two none."""

LANGUAGES = ("en", "zh")

MOST_NO_SPEECH = 0.8
LEAST_MEAN_LOG_PROBABILITY = -1.3
MOST_COMPRESSION = 2.4
"""Guards. Real speech stayed within .59, -1.14 and 1.63; loops compress 3 to 9 times."""
DOUBTFUL = ((0.6, -0.8), (0.5, -1.0))
"""No-speech probability above and mean log probability below, together: what the model says to short noises ("Thank
you.") and to clicks ("作词作曲 ...", the credits of a song)."""
_LOOP = re.compile(r"(.{4,}?)\1{2,}")
SHORTEST_LOOP = 20
"""Characters. Short texts compress badly, so a loop in one shows as a unit said three times or more."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    states: Any
    """The encoder's output, StorageView (1, T/2, d)."""
    seconds: float
    """Length of the sound without the silence."""


class Whisper:
    """The loaded model, one thread. Which model is a matter of the folder; an English-only one hears English only."""

    def __init__(self, folder: Path) -> None:
        self._model = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=1
        )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._features = FeatureExtractor(feature_size=self._model.n_mels)
        self._multilingual: bool = self._model.is_multilingual
        self._end = self._token("<|endoftext|>")
        self._name = folder.name
        self.transcribe(bytes(MODEL_RATE_HZ), MODEL_RATE_HZ, "en", "partial")  # the first run allocates

    def transcribe(self, pcm: bytes, rate_hz: int, language: Language, kind: Kind) -> Transcription:
        """The words of mono PCM of at most 30 s. Raises Rejected (`too_long`)."""
        samples = model_samples(pcm, rate_hz)
        if len(samples) > LONGEST_S * MODEL_RATE_HZ:
            message = f"{len(samples) / MODEL_RATE_HZ:.1f} s of audio, at most {LONGEST_S} s fit one window"
            raise Rejected(message, code="too_long")
        spoken: str = language if self._multilingual else "en"
        if len(samples) < LEAST_S * MODEL_RATE_HZ:
            return Transcription("", spoken, (), "no_speech")
        encoded = self._encode(samples, _silence_s(kind, spoken))
        if spoken == "auto":
            spoken = self._language(encoded)
            if _silence_s(kind, spoken) > _silence_s(kind, "auto"):
                encoded = self._encode(samples, _silence_s(kind, spoken))
        prompt = self._prompt(spoken)
        for penalty in REPETITION_PENALTIES:
            result = self._generate(encoded, prompt, spoken, penalty, BEAMS[kind])
            tokens: list[int] = [token for token in result.sequences_ids[0] if token < self._end]
            reason = _rejection(self._tokenizer.decode(tokens), len(tokens), result)
            if reason != "repetition":
                break
        if reason is not None:
            return Transcription("", spoken, (), reason)
        spans = group_tokens(tokens, self._tokenizer.decode)
        if spoken == "zh" and kind != "recording":  # voice QC shows the text as the model wrote it
            spans = simplified(spans)
        words = place_words(spans, self._token_times_s(encoded, prompt, tokens))
        return Transcription("".join(word.text for word in words).strip(), spoken, words)

    def embed_sound(self, pcm: bytes, rate_hz: int) -> Embedding:
        """The print of any sound of at most 30 s, mono PCM: float32, shape (256,), unit length.

        Raises Rejected (`too_short` below 0.2 s, `too_long`, `silence`), and ValueError when no map is fitted for this
        model.
        """
        return sound_space(self._name).print_of(*self.hear_sound(model_samples(pcm, rate_hz)))

    def hear_sound(self, samples: Samples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What a sound's print is made of: encoder states (n / 320, d) and the spectrum they are from (n / 160, 80).

        Samples are float32 at 16 kHz, shape (n,). Raises Rejected (`too_short`, `too_long`, `silence`).
        """
        seconds, peak = len(samples) / MODEL_RATE_HZ, float(np.abs(samples).max(initial=0))
        if not LEAST_S <= seconds <= LONGEST_S:
            code = "too_short" if seconds < LEAST_S else "too_long"
            raise Rejected(f"{seconds:.2f} s of sound: expected {LEAST_S} to {LONGEST_S} s", code=code)
        if not peak:
            raise Rejected("a sound was expected, this is digital silence", code="silence")
        features = self._spectrum(samples * np.float32(SOUND_PEAK / peak), SOUND_SILENCE_S)
        states = np.array(self._run_encoder(features), np.float32)[0]
        frames = max(1, round(seconds * ENCODER_FRAMES_PER_S))
        return states[:frames], features.T[: 2 * frames]

    def _encode(self, samples: Samples, silence_s: float) -> _Encoded:
        return _Encoded(self._run_encoder(self._spectrum(samples, silence_s)), len(samples) / MODEL_RATE_HZ)

    def _spectrum(self, samples: Samples, silence_s: float) -> NDArray[np.float32]:
        """Log power as the encoder takes it, with silence behind: shape (80, frames)."""
        length = min(len(samples) + int(silence_s * MODEL_RATE_HZ), LONGEST_S * MODEL_RATE_HZ)
        padded = np.zeros(length, np.float32)
        padded[: len(samples)] = samples
        features = self._features(padded, padding=0)
        # The encoder halves time.
        return np.ascontiguousarray(features[:, : features.shape[1] // 2 * 2], np.float32)

    def _run_encoder(self, features: NDArray[np.float32]) -> Any:
        return self._model.encode(ctranslate2.StorageView.from_array(features[np.newaxis]))

    def _language(self, encoded: _Encoded) -> str:
        """English or Chinese, by the beginning of what is encoded already."""
        first = np.array(encoded.states)[:, :LANGUAGE_FRAMES]
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(first))
        ranked = self._model.detect_language(view)[0]
        names = (str(token).strip("<|>") for token, _ in ranked)
        return next(name for name in names if name in LANGUAGES)

    def _generate(self, encoded: _Encoded, prompt: list[int], language: str, penalty: float, beams: int) -> Any:
        per_s = TOKENS_PER_S[language]
        cap = int(per_s * encoded.seconds) + per_s
        return self._model.generate(
            encoded.states,
            [[*prompt, self._token("<|notimestamps|>")]],
            beam_size=beams,
            sampling_temperature=0,
            repetition_penalty=penalty,
            max_length=min(2 * cap, 448),  # CTranslate2 yields half of what is asked
            return_scores=True,
            return_no_speech_prob=True,
        )[0]

    def _token_times_s(self, encoded: _Encoded, prompt: list[int], tokens: list[int]) -> list[float]:
        """When each token begins, and the end of the last: len(tokens) + 1 times."""
        if not tokens:
            return [0.0]
        mel_frames = max(2, round(encoded.seconds * 2 * ENCODER_FRAMES_PER_S))
        path = self._model.align(encoded.states, prompt, [tokens], [mel_frames])[0].alignments
        times: dict[int, float] = {}
        for token, frame in path:
            times.setdefault(token, frame / ENCODER_FRAMES_PER_S)
        return [times[index] for index in range(len(tokens))] + [times.get(len(tokens), encoded.seconds)]

    def _prompt(self, language: str) -> list[int]:
        start = self._token("<|startoftranscript|>")
        return [start, self._token(f"<|{language}|>"), self._token("<|transcribe|>")] if self._multilingual else [start]

    def _token(self, name: str) -> int:
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise ValueError(f"the tokenizer has no {name}: not a Whisper model")
        return int(number)


def _silence_s(kind: Kind, language: str) -> float:
    return MANDARIN_RECORDING_SILENCE_S if kind == "recording" and language == "zh" else SILENCE_S[kind]


def _rejection(text: str, tokens: int, result: Any) -> str | None:
    """Why the hypothesis is no speech that was heard, or None."""
    if not text.strip() or result.no_speech_prob > MOST_NO_SPEECH:
        return "no_speech"
    # The score is a mean over the tokens; the end token is the one more.
    mean_log_probability = result.scores[0] * tokens / (tokens + 1)
    if any(result.no_speech_prob > no_speech and mean_log_probability < least for no_speech, least in DOUBTFUL):
        return "no_speech"
    encoded = text.encode()
    if len(encoded) / len(zlib.compress(encoded)) > MOST_COMPRESSION or _is_loop(text):
        return "repetition"
    if mean_log_probability < LEAST_MEAN_LOG_PROBABILITY:
        return "low_confidence"
    return None


def _is_loop(text: str) -> bool:
    """Whether most of the text is one unit over and over."""
    longest = max((len(match[0]) for match in _LOOP.finditer(text)), default=0)
    return longest >= SHORTEST_LOOP and 2 * longest > len(text)
