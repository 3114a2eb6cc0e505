"""webrtcvad as the gate: microseconds a frame, inline."""

from __future__ import annotations

import webrtcvad

from gateway.call.vad import Gate


class WebrtcGate(Gate):
    """One channel's gate; it adapts to the channel's noise, so it belongs to one call."""

    def __init__(self, rate_hz: int, aggressiveness: int) -> None:
        """`rate_hz` is 8000, 16000 or 48000; `aggressiveness` 0 to 3, higher lets less through."""
        self._vad = webrtcvad.Vad(aggressiveness)
        self._rate_hz = rate_hz

    def is_speech(self, frame: bytes) -> bool:
        return bool(self._vad.is_speech(frame, self._rate_hz))
