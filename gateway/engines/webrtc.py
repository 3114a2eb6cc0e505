"""webrtcvad as the gate: microseconds a frame, inline."""

from __future__ import annotations

import webrtcvad

from gateway.call.framer import FRAME_MS
from gateway.call.vad import Gate


class WebrtcGate(Gate):
    """One channel's gate; it adapts to the channel's noise, so it belongs to one call."""

    def __init__(self, rate_hz: int, aggressiveness: int) -> None:
        """`rate_hz` is 8000, 16000 or 48000; `aggressiveness` 0 to 3, higher lets less through."""
        self._is_speech = webrtcvad.Vad(aggressiveness).is_speech
        self._rate_hz = rate_hz
        self._samples = rate_hz * FRAME_MS // 1000

    def is_speech(self, frame: bytes) -> bool:
        return bool(self._is_speech(frame, self._rate_hz, self._samples))
