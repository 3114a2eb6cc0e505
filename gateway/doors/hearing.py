"""The audio of one socket on its way into the call: the short way where frames are parsed, the long way as messages.

What comes on the short way waits to be looked at together with more of its kind, see `sweep`; so whoever lets anything
else happen to the call first lets it `look`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import ceil
from typing import Literal

from gateway.call.intake import Intake
from gateway.call.states import IllegalEvent
from gateway.doors.complaints import complain, complaining
from gateway.doors.connection import NativeConnection
from gateway.doors.frames import payloads_of
from gateway.doors.limits import CATCH_UP_S, TINY_MS, DoorLimits
from gateway.doors.outgoing import Outgoing
from gateway.doors.sweep import Sweep
from gateway.session.calls import MAX_UNACKED_MS
from gateway.session.session import CallSession
from gateway.token_bucket import TokenBucket
from protocol.codec import ALL_CHANNELS, AudioFrame, RawDecoder, decode_framed
from protocol.messages import Flow

MOST_TOGETHER_MS = 250.0
"""So much audio of one call is looked at in any case: it came faster than in real time."""


class Hearing:
    """Belongs to one conversation, which says when the next message in line may be audio: while it is `idle`."""

    def __init__(
        self,
        connection: NativeConnection,
        session: CallSession,
        outgoing: Outgoing,
        limits: DoorLimits,
        sweep: Sweep,
        on_fault: Callable[[], None],
    ) -> None:
        """`on_fault` is called when audio on the short way has ended the conversation; `fault` says why."""
        self.idle = False
        """Whether every message so far has been dealt with: audio may be taken as it comes."""
        self.held = False
        """Whether audio waits for the server to have room, and nothing is read meanwhile."""
        self.fault: Exception | None = None
        self._on_fault = on_fault
        self._connection = connection
        self._session = session
        self._outgoing = outgoing
        self._flow_after_s = limits.flow_after_s
        self._audio = session.terms.audio
        self._raw = RawDecoder(self._audio)
        self._intake = Intake(self._audio.rate_hz, self._audio.channels, first_sample=session.samples)
        if session.paused:
            self._intake.paused()
        self._loop = asyncio.get_running_loop()
        self.last_audio_s = self._loop.time()
        self._speed = TokenBucket(1000 * limits.catch_up_speed, 1000 * CATCH_UP_S, self.last_audio_s)
        """Milliseconds of audio."""
        self._told_to_wait = False
        tiny = self._audio.rate_hz * TINY_MS // 1000 * (self._audio.bytes_per_instant // self._audio.channels)
        connection.tiny_bytes = tiny
        self._sweep = sweep
        self._heard: list[bytes] = []
        """Frames of audio taken and not looked at."""
        self._in_sweep = False
        self._instant_bytes = self._audio.bytes_per_instant
        self._bytes_per_ms = self._audio.bytes_per_instant * self._audio.rate_hz / 1000
        self._most_together_bytes = ceil(MOST_TOGETHER_MS * self._bytes_per_ms)
        self._max_samples = limits.max_call_s * self._audio.rate_hz

    @property
    def pending_bytes(self) -> int:
        """Of a sample that is not whole yet."""
        return self._raw.pending_bytes

    def begin(self) -> None:
        """Offer audio the short way from here on, where the library lets us see that it is next in line."""
        if self._connection.has_shortcut:
            self._connection.on_audio = self._hear_at_once

    def end(self) -> None:
        """Offer it no more; what was taken is looked at."""
        self._connection.on_audio = None
        self.look()

    def paused(self) -> None:
        """The client has paused: the clock of what it sends stands still."""
        self._intake.paused()

    # --- the short way ---

    def _hear_at_once(self, frame: bytes, header_bytes: int) -> bool:
        """Take audio on its short way; False, having changed nothing, when it has to wait its turn as a message."""
        if not self.idle or self.fault is not None:
            return False
        heard = self._heard
        if not heard:
            # Asked once for what is looked at together, which is bounded: it is a tenth of what a packet costs.
            if not self._welcome_at_once or not self._speed.take(0, self._loop.time()):
                return False
            self._enter_sweep()
        heard.append(frame)
        # As many of its size as make up what is looked at in any case.
        most = -(-self._most_together_bytes // (len(frame) - header_bytes))
        if len(heard) >= most:
            self.look()
        else:
            self._connection.take_alike(heard, header_bytes, most, self.look)
        return True

    def _enter_sweep(self) -> None:
        if not self._in_sweep:
            self._in_sweep = True
            self._sweep.enter(self._swept)

    def _swept(self) -> None:
        self._in_sweep = False
        self.look()

    def look(self) -> None:
        """Make of the audio that was taken at once what is to be made of it."""
        frames = self._heard
        if not frames:
            self._connection.take_no_more()
            return
        self._heard = []
        self._sweep.note(len(frames))
        heard = payloads_of(frames)
        self.last_audio_s = self._loop.time()
        too_fast_s = self._speed.borrow(sum(map(len, heard)) / self._bytes_per_ms, self.last_audio_s)
        self._make_of(heard)
        if self._sweep.waits and not too_fast_s and self._listening and self._welcome_at_once:
            # Asked here for what comes until the next look, too, which is bounded: no packet has to be asked about.
            self._connection.take_on(self._heard)
            self._enter_sweep()
        else:
            self._connection.take_no_more()

    @property
    def _listening(self) -> bool:
        """Whether the conversation goes on, and waits for what comes next."""
        return self.idle and self.fault is None and self._connection.on_audio is not None

    @property
    def _welcome_at_once(self) -> bool:
        return self._session.carried_by(self._outgoing) and self._session.has_room

    def _make_of(self, heard: list[bytes]) -> None:
        if not self._session.carried_by(self._outgoing):
            return  # not acknowledged: it will come again on the other socket
        try:
            if self._session.framed:
                for data in heard:
                    self._hear_now(data)
            else:
                self._hear_now(heard[0] if len(heard) == 1 else b"".join(heard))
        except Exception as fault:
            # What ends a conversation ends it in its own task.
            self.fault = fault
            if self._connection.on_audio is not None:
                self._on_fault()

    def _hear_now(self, data: bytes) -> None:
        session = self._session
        if session.framed:
            with complaining(session):
                self._take(decode_framed(data, self._audio))
        elif (
            len(data) % self._instant_bytes
            or self._raw.pending_bytes
            or not self._intake.follow(len(data) // self._instant_bytes)
        ):
            with complaining(session):
                self._take(self._raw.decode(data))
        else:
            # What the above comes to where whole instants follow whole instants.
            try:
                session.hear(self._audio.to_pcm(data))
            except IllegalEvent as fault:
                complain(session, "unexpected_message", str(fault))
            if session.samples > self._max_samples:
                session.hang_up("max_duration")

    # --- the long way ---

    async def hear(self, payload: bytes) -> None:
        """Take a message of audio, once there is room for it. Raises ProtocolError and IllegalEvent."""
        self.last_audio_s = self._loop.time()
        frame = decode_framed(payload, self._audio) if self._session.framed else self._raw.decode(payload)
        await self._welcome(frame)
        if not self._session.carried_by(self._outgoing):
            return  # not acknowledged: it will come again on the socket that has taken the call meanwhile
        self._take(frame)
        self.last_audio_s = self._loop.time()

    def _take(self, frame: AudioFrame) -> None:
        for event in self._intake.push(frame):
            self._session.receive(event)
        if self._session.samples > self._max_samples:
            self._session.hang_up("max_duration")

    async def _welcome(self, frame: AudioFrame) -> None:
        """Return when this audio may come in; a client that has to wait for long is told to keep it meanwhile."""
        planes = self._audio.channels if frame.channel == ALL_CHANNELS else 1
        audio_ms = len(frame.pcm) / (2 * planes) * 1000 / self._audio.rate_hz * planes / self._audio.channels
        too_fast_s = self._speed.borrow(audio_ms, self._loop.time())
        if too_fast_s == 0 and self._session.has_room:
            return
        self.held = True
        telling = self._loop.call_later(self._flow_after_s, self._hold_back)
        try:
            await asyncio.sleep(too_fast_s)
            await self._session.room()
        finally:
            telling.cancel()
            self.held = False
        if self._told_to_wait:
            self._told_to_wait = False
            self._flow("xon", self._audio.rate_hz * MAX_UNACKED_MS // 1000)

    def _hold_back(self) -> None:
        self._told_to_wait = True
        self._flow("xoff", self._session.unacked_samples)

    def _flow(self, state: Literal["xoff", "xon"], window_samples: int) -> None:
        self._session.whisper(Flow(call_id=self._session.call_id, state=state, window_samples=window_samples))
