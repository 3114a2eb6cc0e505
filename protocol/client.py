"""A softphone's side of the native socket: streams audio, keeps what is not acked, comes back when the network fails.

async with CallClient(url, Start(rate=8000), app_id="demo", secret="...") as call:
    await call.send_audio(pcm)
    await call.hang_up()
    async for message in call:
        ...
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from protocol.audio import AudioFormat
from protocol.codec import SUBPROTOCOL, decode_client, decode_server, encode
from protocol.messages import (
    Ack,
    ClientMessage,
    Ended,
    Error,
    Flow,
    Hangup,
    Ping,
    Replaced,
    Resume,
    Resumed,
    ServerMessage,
    Start,
    Started,
)
from protocol.voiceprint import sign

MAX_UNACKED_S = 60
"""Audio kept for sending again; when full, `send_audio` waits for an ack."""
FIRST_RETRY_S, MOST_RETRY_S = 0.1, 5.0
RESTART_S = 120.0
"""What a server may take to be there again. Its resume window counts from then."""
GOING_AWAY = 1012
"""Close code of a server that shuts down: another node, if there is one, is the better place to come back to."""
CONNECT_TIMEOUT_S = 5.0
PING_S = 5.0
"""A server that answers no ping for three times as long is as good as gone."""
ANSWER_TIMEOUT_S = 10.0
"""`started` and `resumed` come before any slow work; a server that takes longer is as good as gone."""


class CallRefused(Exception):
    """The server would not take the call. `code` is a native error code or that of the HTTP answer's body."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class CallLost(Exception):
    """The connection was lost and could not be had again in time, or another socket took the call, or the server no
    longer has what it had acknowledged."""


class CallClient:
    """One call. Enter it to connect; iterate it for the server's messages, `ended` being the last.

    It outlives its connection, and the server's process: what is not acknowledged is kept, and sent again when the
    server is back, audio and control messages in the order in which they were first sent.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        start: Start,
        *,
        app_id: str,
        secret: str,
        tls: ssl.SSLContext | None = None,
        patience_s: float | None = None,
    ) -> None:
        """`url` is ws(s)://host:port/v1/calls, or one for each node of a cluster: where one does not answer, or does
        not take the call, the next is asked. Audio is sent raw: framing is for clients that lose frames.

        `patience_s` bounds each break: by default the server's resume window, and two minutes for it to start again.
        """
        self.start = msgspec.structs.replace(start, framing="raw")
        self.started: Started | None = None
        self.acked_samples = 0
        if not url:
            raise ValueError("no url: a call needs at least one server")
        self._urls = [url] if isinstance(url, str) else list(url)
        """The one in use, or to be tried next, in front."""
        self._app_id = app_id
        self._secret = secret
        self._tls = tls
        self._patience_s = patience_s
        self._audio = AudioFormat(start.encoding, start.rate, start.channels)
        self._unacked = bytearray()
        self._unacked_from_sample = 0
        self._last_seq = 0
        self._controls: deque[tuple[int, int, bytes]] = deque()
        """(number from 1, instants of audio before it, message) of those that the server may not have taken."""
        self._controls_sent = 0
        self._socket: ClientConnection | None = None
        self._inbox: asyncio.Queue[ServerMessage | Exception] = asyncio.Queue()
        self._room = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        """Not set: the server takes no audio for now, or what was kept meanwhile is still on its way."""
        self._may_send = True
        self._next_byte = 0
        """While not flowing: the first byte of the call's audio that no socket has been given."""
        self._letting_go: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def call_id(self) -> str:
        assert self.started is not None, "enter the client first"
        return self.started.call_id

    async def __aenter__(self) -> Self:
        """Connect and start the call. Raises CallRefused, or OSError when nobody answers."""
        for others_left in reversed(range(len(self._urls))):
            try:
                self._socket, message = await self._open(self.start)
                break
            except (OSError, CallRefused) as fault:
                if not others_left or (isinstance(fault, CallRefused) and not fault.retryable):
                    raise
                self._try_next_url()
        if not isinstance(message, Started):
            raise CallRefused("bad_message", f"expected started, got {message.__struct_config__.tag}")
        self.started = message
        self._last_seq = message.seq
        self._inbox.put_nowait(message)
        self._reader = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the socket. Without `hang_up` the server waits its resume window, then hangs up."""
        tasks = [task for task in (self._reader, self._letting_go) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()

    async def send_audio(self, payload: bytes) -> None:
        """Send the next bytes, in the call's encoding, channels interleaved; any size will do.

        They are kept until acked and sent again after a break. While the server says `xoff` they are only kept.
        Waits while over a minute is unacked.
        """
        limit_bytes = MAX_UNACKED_S * self._audio.rate_hz * self._audio.bytes_per_instant
        while len(self._unacked) > limit_bytes and not self._over:
            self._room.clear()
            await self._room.wait()
        self._unacked += payload
        if self._flowing.is_set():
            await self._send(payload)

    async def send(self, message: ClientMessage) -> None:
        """Send a control message, after the audio that the server has not taken yet.

        One that a break swallows is sent again, in its place. Raises ProtocolError for one that the server would refuse
        to read; nothing is sent then.
        """
        payload = encode(message)
        decode_client(payload)
        await self._flowing.wait()
        if not isinstance(message, Ping | Start | Resume):
            self._controls_sent += 1
            at_sample = self._unacked_from_sample + len(self._unacked) // self._audio.bytes_per_instant
            self._controls.append((self._controls_sent, at_sample, payload))
        await self._send(payload, text=True)

    async def hang_up(self, reason: str = "hangup", *, wait_qc_ms: int = 180_000) -> None:
        """End the call; messages go on until `ended`."""
        await self.send(Hangup(reason=reason, wait_qc_ms=wait_qc_ms))

    async def __aiter__(self) -> AsyncIterator[ServerMessage]:
        """The server's messages, each once, in order.

        When there will be no more: raises CallLost, CallRefused, or ProtocolError if the server broke the protocol.
        """
        while True:
            message = await self._inbox.get()
            if isinstance(message, Exception):
                raise message
            yield message
            if isinstance(message, Ended):
                return

    # --- the connection ---

    @property
    def _over(self) -> bool:
        return self._reader is not None and self._reader.done()

    def _try_next_url(self) -> None:
        self._urls.append(self._urls.pop(0))

    async def _connect(self) -> ClientConnection:
        ts = str(int(time.time()))
        headers = {
            "X-App-Key": self._app_id,
            "X-Timestamp": ts,
            "X-App-Signature": sign(self._app_id, ts, self._secret),
        }
        try:
            return await connect(
                self._urls[0],
                additional_headers=headers,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                max_size=None,
                proxy=None,
                ssl=self._tls,
                user_agent_header=None,
                open_timeout=CONNECT_TIMEOUT_S,
                ping_interval=PING_S,
                ping_timeout=3 * PING_S,
            )
        except InvalidStatus as refusal:
            raise _refusal(refusal) from refusal
        except InvalidURI as fault:
            raise CallRefused("bad_url", f"{self._urls[0]} is no ws(s)://host:port/v1/calls") from fault
        except InvalidHandshake as fault:
            raise CallRefused("bad_handshake", f"what answers at {self._urls[0]} is no Earshot: {fault}") from fault

    async def _open(self, first: Start | Resume) -> tuple[ClientConnection, ServerMessage]:
        """A new socket and what the server answered to our first message on it."""
        socket = await self._connect()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await socket.send(encode(first), text=True)
                message = decode_server(await socket.recv())
        except ConnectionClosed as closed:
            raise CallRefused("closed", f"the server closed the socket: {closed}", retryable=True) from closed
        except BaseException:
            socket.transport.abort()
            raise
        if isinstance(message, Error):
            await socket.close()
            retry_after_s = message.retry_after_ms / 1000
            raise CallRefused(message.code, message.message, retryable=message.retryable, retry_after_s=retry_after_s)
        return socket, message

    async def _send(self, payload: bytes, *, text: bool = False) -> None:
        socket = self._socket
        if socket is not None:
            try:
                await socket.send(payload, text=text)
            except ConnectionClosed:
                if self._socket is socket:
                    self._socket = None  # the reader brings a new one, and with it what was not acked

    async def _read(self) -> None:
        """Hand messages over until `ended`; bring the connection back as often as it takes."""
        try:
            while True:
                socket = self._socket
                if socket is None:
                    socket = await self._come_back()
                try:
                    async for payload in socket:
                        if self._take(decode_server(payload)):
                            return
                except ConnectionClosed:
                    pass
                self._socket = None
                if socket.close_code == GOING_AWAY:
                    self._try_next_url()
        except Exception as fault:  # whatever it is, who iterates must hear of it: nothing more will come
            self._inbox.put_nowait(fault)
        finally:
            self._room.set()
            self._flowing.set()

    def _take(self, message: ServerMessage) -> bool:
        """Note and pass on one message; True when it is the last."""
        if message.seq and message.seq <= self._last_seq:
            return False
        self._last_seq = message.seq or self._last_seq
        if isinstance(message, Ack):
            self._forget(message.samples)
        elif isinstance(message, Flow):
            self._heed(message)
        elif isinstance(message, Replaced):
            raise CallLost("another socket resumed this call")  # to come back would throw that one out in turn
        self._inbox.put_nowait(message)
        return isinstance(message, Ended)

    def _forget(self, samples: int) -> None:
        self.acked_samples = samples
        del self._unacked[: (samples - self._unacked_from_sample) * self._audio.bytes_per_instant]
        self._unacked_from_sample = samples
        # The server takes everything in order: what was sent before safe audio is safe.
        while self._controls and self._controls[0][1] < samples:
            self._controls.popleft()
        self._room.set()

    # --- holding back ---

    def _heed(self, flow: Flow) -> None:
        self._may_send = flow.state == "xon"
        if not self._may_send and self._flowing.is_set():
            self._flowing.clear()
            self._next_byte = self._unacked_from_byte + len(self._unacked)
        elif self._may_send and not self._flowing.is_set() and (self._letting_go is None or self._letting_go.done()):
            # Not here: whoever reads must go on reading, or both sides wait for each other.
            self._letting_go = asyncio.get_running_loop().create_task(self._let_go())

    async def _let_go(self) -> None:
        """Send what was kept since `xoff`; what `send_audio` adds meanwhile goes the same way, in order."""
        socket = self._socket
        try:
            while self._may_send and socket is not None and socket is self._socket:
                begin = self._next_byte - self._unacked_from_byte
                chunk = bytes(self._unacked[begin : begin + self._chunk_bytes])
                if not chunk:
                    self._flowing.set()
                    return
                self._next_byte += len(chunk)
                await socket.send(chunk, text=False)
        except ConnectionClosed:
            pass  # on the next socket everything that is not acked goes anyway

    @property
    def _unacked_from_byte(self) -> int:
        return self._unacked_from_sample * self._audio.bytes_per_instant

    @property
    def _chunk_bytes(self) -> int:
        return self._audio.rate_hz // 2 * self._audio.bytes_per_instant

    async def _come_back(self) -> ClientConnection:
        started = self.started
        assert started is not None
        patience_s = started.resume_window_s + RESTART_S if self._patience_s is None else self._patience_s
        give_up_at_s = time.monotonic() + patience_s
        retry_s = FIRST_RETRY_S
        while True:
            try:
                return await self._resume(started)
            except (OSError, ConnectionClosed, CallRefused) as fault:
                if isinstance(fault, CallRefused) and not (fault.retryable or fault.code == "bad_handshake"):
                    raise  # a server that dies breaks its handshakes off: that alone says nothing
                if isinstance(fault, CallRefused) and fault.code == "recovering":
                    give_up_at_s = time.monotonic() + patience_s  # it is there, and it has the call
                if time.monotonic() > give_up_at_s:
                    raise CallLost(f"no connection within {patience_s:g} s: {fault}") from fault
                least_s = fault.retry_after_s if isinstance(fault, CallRefused) else 0.0
            self._try_next_url()
            await asyncio.sleep(least_s + random.uniform(0, retry_s))  # noqa: S311 - spreads clients, hides nothing
            retry_s = min(MOST_RETRY_S, retry_s * 2)

    async def _resume(self, started: Started) -> ClientConnection:
        resume = Resume(
            call_id=started.call_id,
            resume_token=started.resume_token,
            last_seq=self._last_seq,
            from_sample=self._unacked_from_sample,
        )
        socket, answer = await self._open(resume)
        if not isinstance(answer, Resumed):
            raise CallRefused("bad_message", f"expected resumed, got {answer.__struct_config__.tag}")
        if answer.samples < self._unacked_from_sample:
            await socket.close()
            raise CallLost(f"the server acknowledged {self.acked_samples} samples and now has {answer.samples}")
        await self._send_again(socket, answer.samples, answer.controls)
        return socket

    async def _send_again(self, socket: ClientConnection, from_sample: int, controls: int) -> None:
        """Send what the server has not got; what is added meanwhile goes the same way, in order."""
        while self._controls and self._controls[0][0] <= controls:
            self._controls.popleft()
        width = self._audio.bytes_per_instant
        at = from_sample * width
        sent = controls
        while True:
            # Acks that were read with the answer may move the beginning of what is kept: positions are the call's.
            begin = at - self._unacked_from_byte
            control = next((one for one in self._controls if one[0] > sent), None)
            until = len(self._unacked) if control is None else control[1] * width - self._unacked_from_byte
            if begin < until:
                chunk = bytes(self._unacked[begin : min(until, begin + self._chunk_bytes)])
                await socket.send(chunk, text=False)
                at += len(chunk)
            elif control is not None:
                await socket.send(control[2], text=True)
                sent = control[0]
            else:
                break
        self._socket = socket
        self._may_send = True  # a new socket begins with `xon`
        self._flowing.set()


def _refusal(refusal: InvalidStatus) -> CallRefused:
    status = refusal.response.status_code
    try:
        body = msgspec.json.decode(refusal.response.body or b"", type=dict[str, str])
    except msgspec.DecodeError:
        return CallRefused(f"http_{status}", f"the server answered HTTP {status}", retryable=status >= 500)
    return CallRefused(body.get("code", f"http_{status}"), body.get("message", ""), retryable=status >= 500)
