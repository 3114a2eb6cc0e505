"""Cuts interleaved PCM into 20 ms frames of each channel, whatever the packets were."""

from __future__ import annotations

import numpy as np

FRAME_MS = 20


class Framer:
    """Holds less than one frame; frames come out in order and depend on the samples alone."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self.frame_samples = rate_hz * FRAME_MS // 1000
        self._channels = channels
        self._frame_bytes = self.frame_samples * channels * 2
        self._rest = b""

    def whole(self, pcm: bytes) -> bytes:
        """The frames that `pcm` completes as they come: behind one another, interleaved."""
        data = self._rest + pcm if self._rest else pcm
        rest_bytes = len(data) % self._frame_bytes
        if not rest_bytes:
            self._rest = b""
            return data
        self._rest = data[-rest_bytes:]
        return data[:-rest_bytes]

    def push(self, pcm: bytes) -> list[tuple[bytes, ...]]:
        """The frames that `pcm` completes: for each, one s16le mono frame per channel."""
        data = self.whole(pcm)
        whole = len(data)
        starts = range(0, whole, self._frame_bytes)
        if self._channels == 1:
            return [(data[at : at + self._frame_bytes],) for at in starts]
        interleaved = np.frombuffer(data, dtype="<i2")
        planes = [interleaved[channel :: self._channels].tobytes() for channel in range(self._channels)]
        step = self.frame_samples * 2
        return [tuple(plane[at : at + step] for plane in planes) for at in range(0, len(planes[0]), step)]
