"""The cheapest softphones: masked frames made once, written to plain sockets when they are due, one thread for all.

What a line costs is a system call a frame. Lateness cannot hide: a lag counts from when its frame was due.
"""

from __future__ import annotations

import base64
import os
import re
import select
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

from loadtest.softphones.frames import BINARY, TEXT, client_frame

FRAME_MS = 20
SLOT_MS = 1
PROBE_EVERY_MS = 5
"""Once in so long a message goes behind some line's frame whose answer tells when both were dealt with."""
_ANSWER = re.compile(rb'"id":"p(\d+)"')
_ACKED = re.compile(rb'"type":"ack"[^}]*"samples":(\d+)[,}]')
_READ_BYTES = 65_536


class LineRefused(Exception):
    """A server did not take the line; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """How a line begins: headers of the upgrade, then a message, then what must come back before audio may go."""

    headers: tuple[str, ...] = ()
    first_message: bytes = b""
    awaited: bytes = b""


@dataclass(slots=True)
class Line:
    """One softphone."""

    connection: socket.socket
    next_frame: int
    sent_frames: int = 0
    acked_samples: int = 0
    behind: bytes = b""
    """What the socket did not take of the latest frame."""
    rest: bytes = b""
    """What came of a message that is not whole yet."""


@dataclass(slots=True)
class Lags:
    """What one stretch of sending showed, in ms."""

    lag_ms: list[float] = field(default_factory=list)
    """From when a frame was due to the answer behind it, one for each probe."""
    late_ms: list[float] = field(default_factory=list)
    """How late the sender itself was, one for each slot."""
    unanswered: int = 0
    blocked: int = 0
    """Frames that a socket did not take whole: its peer reads far too slowly."""


def frames_of(pcm: bytes, rate_hz: int) -> list[bytes]:
    """Mono s16le as masked binary frames of 20 ms; a rest is left out."""
    step = 2 * rate_hz * FRAME_MS // 1000
    return [client_frame(BINARY, pcm[at : at + step]) for at in range(0, len(pcm) - step + 1, step)]


class FrameSender:
    """Holds lines to one server, and sends on as many of them as is asked for."""

    def __init__(self, port: int, upgrade: Upgrade, frames: Sequence[bytes]) -> None:
        """`frames` are played over and over, by each line from another place on."""
        self.lines: list[Line] = []
        self._port = port
        self._upgrade = upgrade
        self._frames = frames
        self._epoll = select.epoll()
        self._by_fd: dict[int, Line] = {}
        self._asked_at: dict[int, float] = {}
        self._asked = 0

    def open(self, lines: int, on_open: Callable[[], None] = lambda: None) -> None:
        """Have so many lines in all. Raises LineRefused, OSError."""
        while len(self.lines) < lines:
            connection = self._connected()
            line = Line(connection, len(self.lines) * 137 % len(self._frames))
            connection.setblocking(False)
            self.lines.append(line)
            self._by_fd[connection.fileno()] = line
            self._epoll.register(connection.fileno(), select.EPOLLIN)
            on_open()

    def _connected(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            "GET /v1/calls HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *self._upgrade.headers,
        )
        connection.sendall("\r\n".join((*head, "", "")).encode())
        _read_until(connection, b"\r\n\r\n", b" 101 ")
        if self._upgrade.first_message:
            connection.sendall(client_frame(TEXT, self._upgrade.first_message))
            _read_until(connection, self._upgrade.awaited, self._upgrade.awaited)
        return connection

    def send(self, lines: int, duration_s: float) -> Lags:
        """Send on the first `lines` lines in real time for so long."""
        lags = Lags()
        slots = FRAME_MS // SLOT_MS
        by_slot = [self.lines[slot:lines:slots] for slot in range(slots)]
        begun = monotonic() + 0.02
        for tick in range(int(duration_s * 1000 / SLOT_MS)):
            due = begun + tick * SLOT_MS / 1000
            self._listen_until(due, lags)
            lags.late_ms.append(max(0.0, monotonic() - due) * 1000)
            chosen = by_slot[tick % slots]
            if tick % (PROBE_EVERY_MS // SLOT_MS) == 0 and chosen:
                self._ask(chosen[tick // slots % len(chosen)], due)
            self._send_frames(chosen, lags)
        patience = monotonic() + 2
        while self._asked_at and monotonic() < patience:
            self._listen_until(monotonic() + 0.005, lags)
        lags.unanswered = len(self._asked_at)
        self._asked_at.clear()
        return lags

    def _ask(self, line: Line, due: float) -> None:
        """Put a question behind the frame that the line sends next, by sending both together."""
        self._asked += 1
        self._asked_at[self._asked] = due
        line.behind += self._frames[line.next_frame]
        line.behind += client_frame(TEXT, b'{"type":"ping","id":"p%d"}' % self._asked)
        line.next_frame = (line.next_frame + 1) % len(self._frames)
        line.sent_frames += 1

    def _send_frames(self, lines: Sequence[Line], lags: Lags) -> None:
        frames, write = self._frames, os.write
        count = len(frames)
        for line in lines:
            if line.behind:
                self._catch_up(line, lags)
                continue
            number = line.next_frame
            frame = frames[number]
            line.next_frame = (number + 1) % count
            line.sent_frames += 1
            try:
                sent = write(line.connection.fileno(), frame)
            except BlockingIOError:
                sent = 0
            if sent != len(frame):
                line.behind = frame[sent:]
                lags.blocked += 1

    def _catch_up(self, line: Line, lags: Lags) -> None:
        try:
            line.behind = line.behind[os.write(line.connection.fileno(), line.behind) :]
        except BlockingIOError:
            lags.blocked += 1

    def _listen_until(self, until: float, lags: Lags) -> None:
        while True:
            wait_s = until - monotonic()
            ready = self._epoll.poll(0)
            for fd, _ in ready:
                self._read(self._by_fd[fd], lags)
            if wait_s <= 0:
                return
            if not ready:
                # epoll waits in whole milliseconds only
                select.select([self._epoll.fileno()], (), (), wait_s)

    def _read(self, line: Line, lags: Lags) -> None:
        data = line.connection.recv(_READ_BYTES)
        if not data:
            raise LineRefused("the server has closed a line")
        now, data = monotonic(), line.rest + data
        for number in _ANSWER.findall(data):
            due = self._asked_at.pop(int(number), None)
            if due is not None:
                lags.lag_ms.append((now - due) * 1000)
        if b'"ack"' in data and (acked := _ACKED.findall(data)):
            line.acked_samples = int(acked[-1])
        begun = data.rfind(b"{")
        line.rest = data[begun:] if begun > data.rfind(b"}") else b""

    @property
    def sent_frames(self) -> int:
        return sum(line.sent_frames for line in self.lines)

    def unacked_frames(self, frame_samples: int, patience_s: float) -> int:
        """Frames that the server has not acknowledged, once all are or `patience_s` is over."""
        lags, patience = Lags(), monotonic() + patience_s
        while True:
            self._listen_until(monotonic() + 0.05, lags)
            for line in self.lines:
                if line.behind:
                    self._catch_up(line, lags)
            missing = sum(line.sent_frames - line.acked_samples // frame_samples for line in self.lines)
            if missing == 0 or monotonic() > patience:
                return missing

    def rest(self, seconds: float) -> None:
        """Send nothing, and read what comes."""
        self._listen_until(monotonic() + seconds, Lags())

    def close(self) -> None:
        for line in self.lines:
            line.connection.close()
        self._epoll.close()


def _read_until(connection: socket.socket, end: bytes, expected: bytes) -> None:
    seen = b""
    while end not in seen:
        data = connection.recv(_READ_BYTES)
        if not data:
            raise LineRefused(f"closed after {seen[:400]!r}")
        seen += data
        if b" 101 " not in seen[:32] and seen.startswith(b"HTTP/1.1"):
            sleep(0.05)
            raise LineRefused(seen[:400].decode("latin-1"))
        if b'"type":"error"' in seen:
            raise LineRefused(seen[:400].decode("latin-1"))
    if expected not in seen:
        raise LineRefused(seen[:400].decode("latin-1"))
