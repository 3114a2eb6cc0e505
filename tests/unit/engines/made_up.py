"""Sounds that are no speech, made by arithmetic: music, tones, noises. All at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16000
Samples = NDArray[np.float64]


def sound(name: str, loudness: int) -> bytes:
    """One of `SOUNDS` as mono 16-bit PCM whose peak is `loudness`."""
    samples = SOUNDS[name]()
    return bytes((samples / np.abs(samples).max() * loudness).astype("<i2").tobytes())


def _time(seconds: float) -> Samples:
    return np.arange(int(seconds * RATE_HZ)) / RATE_HZ


def _note(hz: float, seconds: float) -> Samples:
    """A plucked string: five harmonics that die away."""
    time = _time(seconds)
    return np.exp(-3 * time) * sum(np.sin(2 * np.pi * hz * nth * time) / nth for nth in range(1, 6))


def _tune(notes_hz: Sequence[float], each_s: float) -> Samples:
    return np.concatenate([_note(hz, each_s) for hz in notes_hz])


def _pink(seconds: float) -> Samples:
    count = int(seconds * RATE_HZ)
    spectrum = np.fft.rfft(np.random.default_rng(7).normal(0, 1, count))
    return np.asarray(np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), count))


def _keys(seconds: float) -> Samples:
    pairs = [(697, 1209), (770, 1336), (852, 1477)] * int(seconds / 0.6)
    time, pause = _time(0.1), np.zeros(RATE_HZ // 10)
    return np.concatenate(
        [part for a, b in pairs for part in (np.sin(2 * np.pi * a * time) + np.sin(2 * np.pi * b * time), pause)]
    )


def _ringing(seconds: float) -> Samples:
    time = _time(seconds)
    return (np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 480 * time)) * (time % 1.5 < 1)


def _clicks(seconds: float) -> Samples:
    samples = np.zeros(int(seconds * RATE_HZ))
    samples[:: RATE_HZ // 4] = 1
    return samples


SCALE_HZ = (262, 294, 330, 392, 440, 523)
SOUNDS: dict[str, Callable[[], Samples]] = {
    "melody": lambda: _tune([SCALE_HZ[nth * nth % 6] for nth in range(20)], 0.3),
    "chords": lambda: np.sum([_tune([hz * ratio for hz in SCALE_HZ * 2], 0.5) for ratio in (1, 1.26, 1.5)], axis=0),
    "tone": lambda: np.sin(2 * np.pi * 440 * _time(4)),
    "sweep": lambda: np.sin(2 * np.pi * (200 + 150 * _time(5)) * _time(5)),
    "keys": lambda: _keys(3),
    "ringing": lambda: _ringing(6),
    "pink noise": lambda: _pink(5),
    "noise that pulses": lambda: _pink(5) * (1 + np.sin(2 * np.pi * 4 * _time(5))),
    "clicks": lambda: _clicks(4),
}
