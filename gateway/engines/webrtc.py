"""webrtcvad as the gate: microseconds a frame, inline."""

from __future__ import annotations

import _webrtcvad  # what `webrtcvad` wraps in a method that costs a tenth of the decision

from gateway.call.framer import FRAME_MS
from gateway.call.vad import Gate


class WebrtcGate(Gate):
    """One channel's gate; it adapts to the channel's noise, so it belongs to one call."""

    def __init__(self, rate_hz: int, aggressiveness: int) -> None:
        """`rate_hz` is 8000, 16000 or 48000; `aggressiveness` 0 to 3, higher lets less through."""
        self._vad = _webrtcvad.create()
        _webrtcvad.init(self._vad)
        _webrtcvad.set_mode(self._vad, aggressiveness)
        self._rate_hz = rate_hz
        self._samples = rate_hz * FRAME_MS // 1000

    def is_speech(self, frame: bytes) -> bool:
        if len(frame) != 2 * self._samples:  # C takes our word for it
            raise ValueError(f"a frame of {len(frame)} bytes, expected {2 * self._samples}")
        return bool(_webrtcvad.process(self._vad, self._rate_hz, frame, self._samples))

    def speech_in(self, pcm: bytes, frame_bytes: int) -> list[bool]:
        if frame_bytes != 2 * self._samples:
            raise ValueError(f"frames of {frame_bytes} bytes, expected {2 * self._samples}")
        process, vad, rate_hz, samples = _webrtcvad.process, self._vad, self._rate_hz, self._samples
        starts = range(0, len(pcm) - frame_bytes + 1, frame_bytes)
        return [process(vad, rate_hz, pcm[at : at + frame_bytes], samples) for at in starts]
