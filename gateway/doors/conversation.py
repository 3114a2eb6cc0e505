"""One socket's frames, read into its session in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from websockets.asyncio.server import ServerConnection

from gateway.call.events import ClientSpoke, Continued, Noted, Paused, Updated
from gateway.call.intake import Intake
from gateway.call.states import IllegalEvent
from gateway.doors.outgoing import Outgoing
from gateway.session.session import CallSession
from protocol import messages
from protocol.codec import AudioFrame, RawDecoder, decode_client, decode_framed
from protocol.errors import ProtocolError
from protocol.messages import ClientMessage, Error


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What a socket may take its time for, in seconds, and what a refused client is told."""

    first_message_timeout_s: float
    audio_timeout_s: float
    max_call_s: float
    overloaded_retry_ms: int = 5000


class Conversation:
    """Reads until the socket closes. A fault that only this message is guilty of is answered and the call goes on."""

    def __init__(
        self, connection: ServerConnection, session: CallSession, outgoing: Outgoing, limits: DoorLimits
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
        self._last_audio_s = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Return when another socket has taken the call, or the call has failed.

        Raises ConnectionClosed when the socket is gone, ProtocolError for a fault that closes it.
        """
        while True:
            payload = await self._next()
            if not self._session.carried_by(self._outgoing):
                return  # what is still in the buffers of this socket will come again on the other
            try:
                if isinstance(payload, bytes):
                    await self._hear(payload)
                else:
                    self._obey(decode_client(payload))
            except IllegalEvent as fault:
                self._complain("unexpected_message", str(fault))
            except ProtocolError as fault:
                if fault.entry.close is not None:
                    raise
                self._complain(fault.code, fault.message)

    async def _next(self) -> str | bytes:
        deadline_s = self._last_audio_s + self._limits.audio_timeout_s
        try:
            async with asyncio.timeout_at(deadline_s if self._session.expects_audio else None):
                return await self._connection.recv()
        except TimeoutError:
            seconds = self._limits.audio_timeout_s
            raise ProtocolError("timeout", f"no audio for {seconds:g} s outside a pause") from None

    async def _hear(self, payload: bytes) -> None:
        self._last_audio_s = asyncio.get_running_loop().time()
        frame = decode_framed(payload, self._audio) if self._session.framed else self._raw.decode(payload)
        await self._session.room()
        self._take(frame)
        if self._session.samples > self._limits.max_call_s * self._audio.rate_hz:
            self._session.hang_up("max_duration")
        self._last_audio_s = asyncio.get_running_loop().time()

    def _take(self, frame: AudioFrame) -> None:
        for event in self._intake.push(frame):
            self._session.receive(event)

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
                self._last_audio_s = asyncio.get_running_loop().time()
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
