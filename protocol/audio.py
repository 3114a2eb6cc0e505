"""Audio on the wire: formats, and the arithmetic between samples, milliseconds and bytes.

A *sample* here is one sampling instant over all channels (a frame, in WAV terms): positions on the media clock count
instants, so that they mean the same for one channel and for two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["pcm_s16le", "pcmu", "pcma"]
RATES_HZ = (8000, 16000, 48000)
BYTES_PER_SAMPLE = {"pcm_s16le": 2, "pcmu": 1, "pcma": 1}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What the bytes of a call are: encoding, sampling rate, interleaved channels."""

    encoding: Encoding
    rate_hz: int
    channels: int

    @property
    def bytes_per_instant(self) -> int:
        """Bytes on the wire for one instant of all channels."""
        return BYTES_PER_SAMPLE[self.encoding] * self.channels

    def samples_to_ms(self, samples: int) -> int:
        return samples * 1000 // self.rate_hz

    def ms_to_samples(self, ms: int) -> int:
        return ms * self.rate_hz // 1000

    def to_pcm(self, payload: bytes | memoryview) -> bytes:
        """The payload as s16le, interleaved as it came. `payload` holds whole instants."""
        if self.encoding == "pcm_s16le":
            return bytes(payload)
        table = _expansion(self.encoding)
        return table[np.frombuffer(payload, dtype=np.uint8)].tobytes()


@cache
def _expansion(encoding: Encoding) -> NDArray[np.int16]:
    """The 256 linear values of a companding law: shape (256,), little-endian int16. Source: ITU-T G.711."""
    code = np.arange(256, dtype=np.int32)
    if encoding == "pcmu":
        code = ~code & 0xFF
        magnitude = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
        linear = np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84)
    else:
        code ^= 0x55
        exponent = (code & 0x70) >> 4
        mantissa = ((code & 0x0F) << 4) + 8
        magnitude = np.where(exponent > 0, (mantissa + 0x100) << np.maximum(exponent - 1, 0), mantissa)
        linear = np.where(code & 0x80, magnitude, -magnitude)
    return linear.astype("<i2")


def compress(encoding: Encoding, pcm: bytes) -> bytes:
    """s16le as `encoding`: each sample becomes the code whose linear value lies nearest."""
    if encoding == "pcm_s16le":
        return pcm
    table = _expansion(encoding).astype(np.int32)
    order = np.argsort(table, kind="stable")
    levels = table[order]
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.int32)
    above = np.clip(np.searchsorted(levels, samples), 1, 255)
    nearer_below = samples - levels[above - 1] < levels[above] - samples
    return order[np.where(nearer_below, above - 1, above)].astype(np.uint8).tobytes()
