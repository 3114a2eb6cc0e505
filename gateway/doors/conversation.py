"""One socket's messages, read into its session in order."""

from __future__ import annotations

import asyncio

from gateway.call.events import ClientSpoke, Continued, Noted, Paused, Updated
from gateway.doors.complaints import complain, complaining
from gateway.doors.connection import NativeConnection
from gateway.doors.hearing import Hearing
from gateway.doors.limits import MAX_SAID_BYTES, DoorLimits
from gateway.doors.outgoing import Outgoing
from gateway.doors.sweep import Sweep
from gateway.session.session import CallSession
from protocol import messages
from protocol.codec import decode_client
from protocol.errors import ProtocolError
from protocol.messages import ClientMessage

_KEPT = (messages.ClientTranscript, messages.Dtmf, messages.Mark, messages.Update)


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
        self._audio_timeout_s = limits.audio_timeout_s
        self._audio = session.terms.audio
        self._loop = asyncio.get_running_loop()
        self._hearing = Hearing(connection, session, outgoing, limits, sweep, self._end_now)
        self._patience = asyncio.timeout(None)
        self._watching: asyncio.TimerHandle
        self._held = False

    @property
    def held(self) -> bool:
        """Whether a message waits for the server to have room, and nothing is read meanwhile."""
        return self._held or self._hearing.held

    async def run(self) -> None:
        """Return when another socket has taken the call, or the call has failed.

        Raises ConnectionClosed when the socket is gone, ProtocolError for a fault that closes it.
        """
        self._watch()
        try:
            async with self._patience:
                self._hearing.begin()
                await self._converse()
        except TimeoutError:
            if self._hearing.fault is not None:
                raise self._hearing.fault from None
            if not self._patience.expired():
                raise
            raise ProtocolError("timeout", f"no audio for {self._audio_timeout_s:g} s outside a pause") from None
        finally:
            self._hearing.end()
            self._watching.cancel()

    async def _converse(self) -> None:
        hearing = self._hearing
        while True:
            hearing.idle = True
            payload = await self._connection.recv()
            hearing.idle = False
            hearing.look()  # what came before
            if hearing.fault is not None:
                raise hearing.fault
            if not self._session.carried_by(self._outgoing):
                return  # what is still in the buffers of this socket will come again on the other
            with complaining(self._session):
                if isinstance(payload, bytes):
                    await hearing.hear(payload)
                else:
                    await self._listen(payload)

    def _end_now(self) -> None:
        self._patience.reschedule(self._loop.time())

    def _watch(self) -> None:
        """End the conversation if audio is overdue; else look again when it may be. One timer for all the packets."""
        now_s = self._loop.time()
        if self.held or not self._session.expects_audio:
            due_s = now_s + self._audio_timeout_s
        else:
            due_s = self._hearing.last_audio_s + self._audio_timeout_s
        if due_s <= now_s:
            self._patience.reschedule(now_s)
        else:
            self._watching = self._loop.call_at(due_s, self._watch)

    async def _listen(self, payload: str) -> None:
        message = decode_client(payload)
        if not isinstance(message, messages.Ping):
            self._held = True
            await self._session.memory()
            self._held = False
            if not self._session.carried_by(self._outgoing):
                return  # not taken: it will come again on the socket that has taken the call meanwhile
        if isinstance(message, _KEPT):
            self._session.said_bytes += len(payload)
            if self._session.said_bytes > MAX_SAID_BYTES:
                kinds = "transcript, dtmf, mark and update"
                raise ProtocolError("said_too_much", f"the call's {kinds} messages are over {MAX_SAID_BYTES} bytes")
        self._obey(message)

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
                self._hearing.paused()
            case messages.Continue():
                session.receive(Continued())
                self._hearing.last_audio_s = self._loop.time()
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
                complain(self._session, "unexpected_message", f"{kind} comes first on a socket, and only once")

    def _quote(self, message: messages.ClientTranscript) -> None:
        if message.channel >= self._audio.channels or message.end_ms < message.begin_ms:
            raise ProtocolError("bad_message", f"channel {message.channel}, {message.begin_ms} to {message.end_ms} ms")
        self._session.receive(ClientSpoke(message.channel, message.text, message.begin_ms, message.end_ms))

    def _hang_up(self, message: messages.Hangup) -> None:
        if self._hearing.pending_bytes:
            expected = self._audio.bytes_per_instant
            complain(
                self._session,
                "partial_sample",
                f"the audio ended with {self._hearing.pending_bytes} of the {expected} bytes of a sample; dropped",
            )
        self._session.hang_up(message.reason, message.wait_qc_ms)
