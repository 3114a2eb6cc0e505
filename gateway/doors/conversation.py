"""One socket's frames, read into its session in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Literal

from gateway.call.events import ClientSpoke, Continued, Noted, Paused, Updated
from gateway.call.intake import Intake
from gateway.call.states import IllegalEvent
from gateway.doors.connection import NativeConnection
from gateway.doors.frames import payloads_of
from gateway.doors.limits import CATCH_UP_S, MAX_SAID_BYTES, TINY_MS, DoorLimits
from gateway.doors.outgoing import Outgoing
from gateway.doors.sweep import Sweep
from gateway.session.calls import MAX_UNACKED_MS
from gateway.session.session import CallSession
from gateway.token_bucket import TokenBucket
from protocol import messages
from protocol.codec import ALL_CHANNELS, AudioFrame, RawDecoder, decode_client, decode_framed
from protocol.errors import ProtocolError
from protocol.messages import ClientMessage, Error

_KEPT = (messages.ClientTranscript, messages.Dtmf, messages.Mark, messages.Update)

MOST_TOGETHER_MS = 100.0
"""So much audio of one call is looked at in any case: it came faster than in real time."""


class Conversation:
    """Reads until the socket closes. A fault that only this message is guilty of is answered and the call goes on."""

    def __init__(
        self,
        connection: NativeConnection,
        session: CallSession,
        outgoing: Outgoing,
        limits: DoorLimits,
        sweep: Sweep,
    ) -> None:
        self._connection = connection
        self._session = session
        self._outgoing = outgoing
        self._limits = limits
        self._audio = session.terms.audio
        self._raw = RawDecoder(self._audio)
        self._intake = Intake(self._audio.rate_hz, self._audio.channels, first_sample=session.samples)
        if session.paused:
            self._intake.paused()
        self._loop = asyncio.get_running_loop()
        self._last_audio_s = self._loop.time()
        speed = limits.catch_up_speed
        self._speed = TokenBucket(1000 * speed, 1000 * CATCH_UP_S, self._loop.time())
        """Milliseconds of audio."""
        self._watching: asyncio.TimerHandle
        self._told_to_wait = False
        self.held = False
        """Whether a message waits for the server to have room, and nothing is read meanwhile."""
        self._idle = False
        """Whether every message so far has been dealt with: audio may be taken as it comes."""
        self._fault: Exception | None = None
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

    async def run(self) -> None:
        """Return when another socket has taken the call, or the call has failed.

        Raises ConnectionClosed when the socket is gone, ProtocolError for a fault that closes it.
        """
        self._patience = patience = asyncio.timeout(None)
        self._watch()
        try:
            async with patience:
                if self._connection.has_shortcut:
                    self._connection.on_audio = self._hear_at_once
                await self._converse()
        except TimeoutError:
            if self._fault is not None:
                raise self._fault from None
            if not patience.expired():
                raise
            seconds = self._limits.audio_timeout_s
            raise ProtocolError("timeout", f"no audio for {seconds:g} s outside a pause") from None
        finally:
            self._connection.on_audio = None
            self._look()
            self._watching.cancel()

    async def _converse(self) -> None:
        while True:
            self._idle = True
            payload = await self._connection.recv()
            self._idle = False
            self._look()  # what came before
            if self._fault is not None:
                raise self._fault
            if not self._session.carried_by(self._outgoing):
                return  # what is still in the buffers of this socket will come again on the other
            with self._complaining():
                if isinstance(payload, bytes):
                    await self._hear(payload)
                else:
                    await self._listen(payload)

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Tell the client of a fault that only its message is guilty of."""
        try:
            yield
        except IllegalEvent as fault:
            self._complain("unexpected_message", str(fault))
        except ProtocolError as fault:
            if fault.entry.close is not None:
                raise
            self._complain(fault.code, fault.message)

    def _hear_at_once(self, frame: bytes, header_bytes: int) -> bool:
        """Take audio on its short way; False, having changed nothing, when it has to wait its turn as a message."""
        if not self._idle or self._fault is not None:
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
            self._look()
        else:
            self._connection.take_alike(heard, header_bytes, most, self._look)
        return True

    def _enter_sweep(self) -> None:
        if not self._in_sweep:
            self._in_sweep = True
            self._sweep.enter(self._swept)

    def _swept(self) -> None:
        self._in_sweep = False
        self._look()

    def _look(self) -> None:
        """Make of the audio that was taken at once what is to be made of it."""
        frames = self._heard
        if not frames:
            self._connection.take_no_more()
            return
        self._heard = []
        self._sweep.note(len(frames))
        heard = payloads_of(frames)
        self._last_audio_s = self._loop.time()
        too_fast_s = self._speed.borrow(sum(map(len, heard)) / self._bytes_per_ms, self._last_audio_s)
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
        return self._idle and self._fault is None and self._connection.on_audio is not None

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
            self._fault = fault
            if self._connection.on_audio is not None:
                self._patience.reschedule(self._loop.time())

    def _hear_now(self, data: bytes) -> None:
        session = self._session
        if session.framed:
            with self._complaining():
                self._take(decode_framed(data, self._audio))
        elif (
            len(data) % self._instant_bytes
            or self._raw.pending_bytes
            or not self._intake.follow(len(data) // self._instant_bytes)
        ):
            with self._complaining():
                self._take(self._raw.decode(data))
        else:
            # What the above comes to where whole instants follow whole instants.
            try:
                session.hear(self._audio.to_pcm(data))
            except IllegalEvent as fault:
                self._complain("unexpected_message", str(fault))
            if session.samples > self._max_samples:
                session.hang_up("max_duration")

    def _watch(self) -> None:
        """End the conversation if audio is overdue; else look again when it may be. One timer for all the packets."""
        now_s = self._loop.time()
        if self.held or not self._session.expects_audio:
            due_s = now_s + self._limits.audio_timeout_s
        else:
            due_s = self._last_audio_s + self._limits.audio_timeout_s
        if due_s <= now_s:
            self._patience.reschedule(now_s)
        else:
            self._watching = self._loop.call_at(due_s, self._watch)

    async def _hear(self, payload: bytes) -> None:
        self._last_audio_s = self._loop.time()
        frame = decode_framed(payload, self._audio) if self._session.framed else self._raw.decode(payload)
        await self._welcome(frame)
        self._take(frame)
        self._last_audio_s = self._loop.time()

    async def _welcome(self, frame: AudioFrame) -> None:
        """Return when this audio may come in; a client that has to wait for long is told to keep it meanwhile."""
        planes = self._audio.channels if frame.channel == ALL_CHANNELS else 1
        audio_ms = len(frame.pcm) / (2 * planes) * 1000 / self._audio.rate_hz * planes / self._audio.channels
        too_fast_s = self._speed.borrow(audio_ms, self._loop.time())
        if too_fast_s == 0 and self._session.has_room:
            return
        self.held = True
        telling = self._loop.call_later(self._limits.flow_after_s, self._hold_back)
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
        flow = messages.Flow(call_id=self._session.call_id, state=state, window_samples=window_samples)
        self._session.whisper(flow)

    async def _listen(self, payload: str) -> None:
        message = decode_client(payload)
        if not isinstance(message, messages.Ping):
            self.held = True
            await self._session.memory()
            self.held = False
        if isinstance(message, _KEPT):
            self._session.said_bytes += len(payload)
            if self._session.said_bytes > MAX_SAID_BYTES:
                kinds = "transcript, dtmf, mark and update"
                raise ProtocolError("said_too_much", f"the call's {kinds} messages are over {MAX_SAID_BYTES} bytes")
        self._obey(message)

    def _take(self, frame: AudioFrame) -> None:
        for event in self._intake.push(frame):
            self._session.receive(event)
        if self._session.samples > self._max_samples:
            self._session.hang_up("max_duration")

    def _obey(self, message: ClientMessage) -> None:
        session = self._session
        if not isinstance(message, messages.Ping | messages.Start | messages.Resume):
            session.told += 1
        match message:
            case messages.Update():
                if message.roles is not None and len(message.roles) != self._audio.channels:
                    count = self._audio.channels
                    raise ProtocolError(
                        "bad_message", f"{len(message.roles)} roles for {count} channels - at `$.roles`"
                    )
                session.receive(
                    Updated(
                        message.language,
                        None if message.roles is None else tuple(message.roles),
                        message.metadata,
                        None if message.categories is None else tuple(message.categories),
                    )
                )
            case messages.Pause():
                session.receive(Paused())
                self._intake.paused()
            case messages.Continue():
                session.receive(Continued())
                self._last_audio_s = self._loop.time()
            case messages.ClientTranscript():
                self._quote(message)
            case messages.Dtmf(digit=digit):
                session.receive(Noted("dtmf", digit))
            case messages.Mark(name=name):
                session.receive(Noted("mark", name))
            case messages.Ping(id=ping_id):
                session.whisper(messages.Pong(call_id=session.call_id, id=ping_id))
            case messages.Hangup():
                self._hang_up(message)
            case messages.Start() | messages.Resume():
                kind = message.__struct_config__.tag
                self._complain("unexpected_message", f"{kind} comes first on a socket, and only once")

    def _quote(self, message: messages.ClientTranscript) -> None:
        if message.channel >= self._audio.channels or message.end_ms < message.begin_ms:
            raise ProtocolError("bad_message", f"channel {message.channel}, {message.begin_ms} to {message.end_ms} ms")
        self._session.receive(ClientSpoke(message.channel, message.text, message.begin_ms, message.end_ms))

    def _hang_up(self, message: messages.Hangup) -> None:
        if self._raw.pending_bytes:
            expected = self._audio.bytes_per_instant
            self._complain(
                "partial_sample",
                f"the audio ended with {self._raw.pending_bytes} of the {expected} bytes of a sample; dropped",
            )
        self._session.hang_up(message.reason, message.wait_qc_ms)

    def _complain(self, code: str, text: str) -> None:
        self._session.whisper(error_message(ProtocolError(code, text), call_id=self._session.call_id))


def error_message(fault: ProtocolError, *, call_id: str = "", retry_after_ms: int = 0) -> Error:
    """A fault as the message that tells the client."""
    return Error(
        call_id=call_id,
        code=fault.code,
        message=fault.message,
        retryable=fault.entry.retryable,
        retry_after_ms=retry_after_ms,
    )
