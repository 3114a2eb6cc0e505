"""Made-up sounds of made-up sources: tones, noises and cries, whose every property is drawn by lot.

A source is heard several times, each time at another pitch, force and length and through another room; what stays is
what makes it that source. No recording of anything is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16000
_HIGHEST_HZ = 7600
_PEAK = 0.7

Samples = NDArray[np.float64]
Dice = np.random.Generator
Source = Callable[[Dice], Samples]
"""Makes one more sound of itself."""


@dataclass(frozen=True, slots=True)
class _Colour:
    """Gain over frequency: a line through random points, and a tilt."""

    log_hz: Samples
    gains_db: Samples
    tilt_db: float

    @classmethod
    def drawn(cls, dice: Dice) -> _Colour:
        points = int(dice.integers(3, 8))
        log_hz = np.sort(dice.uniform(np.log(60), np.log(8000), points))
        return cls(log_hz, dice.normal(0, 9, points), float(dice.uniform(-14, -1)))

    def gain(self, hz: Samples) -> Samples:
        audible = np.maximum(hz, 30)
        line = np.interp(np.log(audible), self.log_hz, self.gains_db)
        return np.asarray(10 ** ((line + self.tilt_db * np.log2(audible / 200)) / 20), np.float64)

    def noise(self, samples: int, dice: Dice) -> Samples:
        hz = np.asarray(np.fft.rfftfreq(samples, 1 / RATE_HZ), np.float64)
        made = np.fft.rfft(dice.standard_normal(samples)) * self.gain(hz)
        return _full(np.fft.irfft(made, samples))


def _full(samples: Samples) -> Samples:
    return samples / (float(np.abs(samples).max()) + 1e-9)


def tone(dice: Dice) -> Source:
    """Something that is blown, bowed, plucked or struck: partials of a pitch, and some noise."""
    colour, breath = _Colour.drawn(dice), _Colour.drawn(dice)
    rise_s, breath_level = 10 ** dice.uniform(-2.7, -0.8), 10 ** dice.uniform(-3.5, -0.8)
    fade_s = 10 ** dice.uniform(-1, 0.8) if dice.random() < 0.6 else np.inf
    fade_slope, roll_off_db = dice.uniform(0, 1.5), dice.uniform(0, 12)
    stiffness = dice.choice([0, 0, 1]) * 10 ** dice.uniform(-4.5, -2.3)
    even_db = dice.choice([0, 0, -25, -12])
    vibrato, vibrato_hz = dice.choice([0, 0, 1]) * dice.uniform(0.002, 0.012), dice.uniform(4, 7)
    tremolo, tremolo_hz = dice.choice([0, 0, 1]) * dice.uniform(0.1, 0.6), dice.uniform(3, 12)
    lowest_hz, octaves = dice.uniform(40, 400), dice.uniform(1, 3)
    is_bell = dice.random() < 0.15
    partials = np.sort(dice.uniform(1, 8, 9)) if is_bell else np.arange(1, 41)

    def sound(dice: Dice) -> Samples:
        t = np.arange(int(dice.uniform(0.8, 2.0) * RATE_HZ)) / RATE_HZ
        pitch_hz, force = lowest_hz * 2 ** dice.uniform(0, octaves), dice.uniform(-1, 1)
        sway = 1 + vibrato * np.sin(2 * np.pi * vibrato_hz * t + dice.uniform(0, 6))
        phase = 2 * np.pi * np.cumsum(pitch_hz * sway) / RATE_HZ
        made = np.zeros_like(t)
        for partial in partials:
            ratio = partial * np.sqrt(1 + stiffness * partial**2)
            if pitch_hz * ratio > _HIGHEST_HZ:
                break
            level_db = -roll_off_db * np.log2(partial) * (1 - 0.25 * force)
            level_db += even_db if not is_bell and partial % 2 == 0 else 0
            gain = 10 ** (level_db / 20) * float(colour.gain(np.array([pitch_hz * ratio]))[0])
            fading = np.exp(-t / fade_s * (1 + fade_slope * np.log2(partial)))
            made += gain * fading * np.sin(ratio * phase + dice.uniform(0, 2 * np.pi))
        made *= 1 - tremolo / 2 * (1 + np.sin(2 * np.pi * tremolo_hz * t))
        made = _full(made) + breath_level * breath.noise(len(t), dice) * np.exp(-3 * t / fade_s)
        let_go_s = dice.uniform(0.5, 0.95) * t[-1]
        ends = np.minimum(1, t / rise_s) * np.exp(-np.maximum(0, t - let_go_s) / 0.05)
        return np.asarray(made * ends, np.float64)

    return sound


def noise(dice: Dice) -> Source:
    """Something that blows, flows, rattles or knocks."""
    colour, depth = _Colour.drawn(dice), dice.uniform(0.3, 1)
    kind, times_hz, fade_s = dice.integers(3), 10 ** dice.uniform(-0.2, 1.3), 10 ** dice.uniform(-2.3, -0.5)

    def sound(dice: Dice) -> Samples:
        t = np.arange(int(dice.uniform(1, 2.5) * RATE_HZ)) / RATE_HZ
        made = colour.noise(len(t), dice)
        if kind == 1:
            made *= 1 - depth / 2 * (1 + np.sin(2 * np.pi * times_hz * t + dice.uniform(0, 6)))
        if kind == 2:
            knocks, at_s = np.zeros_like(t), dice.uniform(0, 0.2)
            while at_s < t[-1]:
                later = t >= at_s
                fading = dice.uniform(0.6, 1) * np.exp(-(t[later] - at_s) / fade_s)
                knocks[later] = np.maximum(knocks[later], fading)
                at_s += dice.uniform(0.7, 1.3) / times_hz
            made *= knocks
        return made

    return sound


def cry(dice: Dice) -> Source:
    """Something that calls again and again, each time along about the same curve of pitch."""
    colour, breath = _Colour.drawn(dice), _Colour.drawn(dice)
    pitch_hz, octaves, curve = 10 ** dice.uniform(2, 3.6), dice.uniform(0.1, 1.5), dice.uniform(-1, 1, 4)
    length_s, gap_s = 10 ** dice.uniform(-1.3, -0.1), 10 ** dice.uniform(-1.5, -0.3)
    partials, breath_level = int(dice.integers(1, 25)), 10 ** dice.uniform(-3, 0)
    rasp, rasp_hz = dice.choice([0, 1]) * dice.uniform(0.3, 1), 10 ** dice.uniform(1, 2)

    def once(dice: Dice) -> Samples:
        length = int(length_s * dice.uniform(0.8, 1.25) * RATE_HZ)
        t, way = np.arange(length) / RATE_HZ, np.linspace(0, 1, length)
        hz = pitch_hz * 2 ** (dice.normal(0, 0.08) + octaves * np.interp(way, np.linspace(0, 1, 4), curve))
        phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
        made = np.zeros_like(t)
        for partial in range(1, partials + 1):
            made += colour.gain(hz * partial) * (hz * partial < _HIGHEST_HZ) * np.sin(partial * phase)
        made *= 1 - rasp / 2 * (1 + np.sin(2 * np.pi * rasp_hz * t))
        return (_full(made) + breath_level * breath.noise(length, dice)) * np.sqrt(np.sin(np.pi * way))

    def sound(dice: Dice) -> Samples:
        made = np.zeros(int(dice.uniform(1, 2.5) * RATE_HZ))
        at_s = dice.uniform(0, 0.15)
        while at_s < len(made) / RATE_HZ - 0.05:
            begin, one = int(at_s * RATE_HZ), once(dice)
            kept = one[: len(made) - begin]
            made[begin : begin + len(kept)] += kept
            at_s += length_s + gap_s * dice.uniform(0.6, 1.6)
        return made

    return sound


def _recorded(samples: Samples, dice: Dice) -> NDArray[np.float32]:
    """Through a room and a microphone of its own, with a little hiss."""
    points = np.log(np.array([60.0, 250, 1000, 4000, 8000]))
    hz = np.maximum(np.fft.rfftfreq(len(samples), 1 / RATE_HZ), 30)
    gains = 10 ** (np.interp(np.log(hz), points, dice.normal(0, 4, len(points))) / 20)
    heard = _full(np.fft.irfft(np.fft.rfft(samples) * gains, len(samples)))
    heard += 10 ** dice.uniform(-4, -1.7) * dice.standard_normal(len(heard))
    return np.asarray(_full(heard) * _PEAK, np.float32)


def sounds(sources: int, each: int, seed: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The number of a source and one of its sounds: float32 at 16 kHz, 0.8 to 2.5 s. The same for the same seed."""
    dice = np.random.default_rng(seed)
    for number in range(sources):
        kind = (tone, noise, cry)[int(dice.choice(3, p=[0.6, 0.2, 0.2]))]
        source = kind(dice)
        for _ in range(each):
            yield number, _recorded(source(dice), dice)
