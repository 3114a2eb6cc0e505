"""How loud a call is right now, for those who watch it."""

from __future__ import annotations

from collections import deque
from math import log10

import numpy as np

SILENCE_DB = -90
WINDOW_MS = 250
_MOST_WINDOWS = 4
"""So much audio is kept between two looks; of what came faster than real time the rest does not count."""


class LevelMeter:
    """Hears a call's audio as it comes; looking at it forgets what it heard. Hearing costs an append."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._channels = channels
        self._window_bytes = 2 * channels * (rate_hz * WINDOW_MS // 1000)
        self._heard: deque[bytes] = deque()
        self._heard_bytes = 0

    def hear(self, pcm: bytes) -> None:
        """`pcm`: s16le, interleaved, whole instants."""
        self._heard.append(pcm)
        self._heard_bytes += len(pcm)
        while self._heard_bytes > _MOST_WINDOWS * self._window_bytes and len(self._heard) > 1:
            self._heard_bytes -= len(self._heard.popleft())

    def look(self) -> list[int]:
        """Peak of each channel over the latest 250 ms that were heard since the last look, in dB of full scale: -90
        (nothing) to 0."""
        pcm = b"".join(self._heard)[-self._window_bytes :]
        self._heard.clear()
        self._heard_bytes = 0
        if not pcm:
            return [SILENCE_DB] * self._channels
        samples = np.frombuffer(pcm, dtype="<i2").reshape(-1, self._channels)
        peaks = np.maximum(samples.max(axis=0), -samples.min(axis=0).astype(np.int32))
        return [decibels(int(peak)) for peak in peaks]


def decibels(peak: int) -> int:
    """A peak of 0 to 32768 in whole dB of full scale, -90 at least."""
    return SILENCE_DB if peak <= 0 else max(SILENCE_DB, round(20 * log10(peak / 32768)))
