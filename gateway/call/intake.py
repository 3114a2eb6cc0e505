"""Puts the frames of the wire into one contiguous stream of all channels."""

from __future__ import annotations

from typing import Literal

import numpy as np

from gateway.call.events import AudioArrived, AudioLost
from protocol.codec import ALL_CHANNELS, AudioFrame
from protocol.errors import ProtocolError

MAX_HOLE_S = 120
"""A hole longer than this is no loss on the way but a client that lost count."""
MAX_PAUSE_S = 600
"""What a client that sends nothing while paused may leave out."""
MAX_LEAD_S = 2
"""A channel that lags this far behind the other is given up for that stretch."""


class Intake:
    """Loss and overlap are arithmetic on sample indices: overlap is dropped, a hole becomes declared silence."""

    def __init__(self, rate_hz: int, channels: int, *, first_sample: int = 0) -> None:
        self._rate_hz = rate_hz
        self._planes = [bytearray() for _ in range(channels)]
        self._emitted = first_sample
        self._cause: Literal["network", "pause"] = "network"

    @property
    def next_sample(self) -> int:
        """The first instant that is not whole on every channel yet."""
        return self._emitted

    def paused(self) -> None:
        """The client may leave out what follows: a hole before the next frame is no loss."""
        self._cause = "pause"

    def follow(self, instants: int) -> bool:
        """Count audio of all channels that goes on where the last left off, and need not pass through here.

        False, and nothing is counted, if a part of it is on the way already.
        """
        if any(self._planes):
            return False
        self._cause = "network"
        self._emitted += instants
        return True

    def push(self, frame: AudioFrame) -> list[AudioArrived | AudioLost]:
        """Take one frame. Raises ProtocolError (`bad_audio`) when its index cannot be true; nothing changes then."""
        everything = frame.channel == ALL_CHANNELS or len(self._planes) == 1
        if everything and frame.first_sample in (None, self._emitted) and not any(self._planes):
            self._cause = "network"  # the rule, and all there is to it: what was expected has come
            return self._emit(frame.pcm)
        if everything and len(self._planes) > 1:
            interleaved = np.frombuffer(frame.pcm, dtype="<i2").reshape(-1, len(self._planes))
            arrived = {index: interleaved[:, index].tobytes() for index in range(len(self._planes))}
        else:
            arrived = {0 if everything else frame.channel: frame.pcm}
        for channel in arrived:
            self._refuse_wild(channel, frame.first_sample)
        cause, self._cause = self._cause, "network"
        events: list[AudioArrived | AudioLost] = []
        for channel, pcm in arrived.items():
            events += self._place(channel, pcm, frame.first_sample, cause)
        events += self._give_up_laggards()
        whole = min(len(plane) for plane in self._planes)
        return events + self._emit(self._take(whole)) if whole else events

    def _expected(self, channel: int) -> int:
        return self._emitted + len(self._planes[channel]) // 2

    def _refuse_wild(self, channel: int, first_sample: int | None) -> None:
        expected = self._expected(channel)
        most_s = MAX_HOLE_S if self._cause == "network" else MAX_PAUSE_S
        if first_sample is not None and first_sample - expected > most_s * self._rate_hz:
            raise ProtocolError(
                "bad_audio",
                f"first sample index {first_sample}, where {expected} comes next: over {most_s} s missing",
            )

    def _place(
        self, channel: int, pcm: bytes, first_sample: int | None, cause: Literal["network", "pause"]
    ) -> list[AudioArrived | AudioLost]:
        plane = self._planes[channel]
        expected = self._expected(channel)
        if first_sample is None:
            first_sample = expected
        lost: list[AudioArrived | AudioLost] = []
        if first_sample > expected:
            lost.append(AudioLost(channel, expected, first_sample, cause))
            plane += bytes(2 * (first_sample - expected))
        plane += pcm[2 * max(0, expected - first_sample) :]
        return lost

    def _give_up_laggards(self) -> list[AudioArrived | AudioLost]:
        lost: list[AudioArrived | AudioLost] = []
        leading = max(len(plane) for plane in self._planes)
        for channel, plane in enumerate(self._planes):
            if leading - len(plane) > 2 * MAX_LEAD_S * self._rate_hz:
                begin = self._emitted + len(plane) // 2
                lost.append(AudioLost(channel, begin, self._emitted + leading // 2, "network"))
                plane += bytes(leading - len(plane))
        return lost

    def _take(self, plane_bytes: int) -> bytes:
        planes = [np.frombuffer(bytes(plane[:plane_bytes]), dtype="<i2") for plane in self._planes]
        for plane in self._planes:
            del plane[:plane_bytes]
        return np.stack(planes, axis=1).tobytes() if len(planes) > 1 else planes[0].tobytes()

    def _emit(self, pcm: bytes) -> list[AudioArrived | AudioLost]:
        if not pcm:
            return []
        self._emitted += len(pcm) // (2 * len(self._planes))
        return [AudioArrived(pcm)]
