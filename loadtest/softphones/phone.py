"""One softphone of thousands: sends frames that were made ahead when they are due, and notes what comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import ClassVar, Final, Literal

from msgspec import Struct, json

from loadtest.softphones.listener import Listener
from loadtest.softphones.socket import Socket, Target
from loadtest.softphones.speech import Script
from protocol.codec import SUBPROTOCOL, decode_server
from protocol.errors import ProtocolError
from protocol.messages import Ended, Error, Flow, Hangup, Started

HELD_S: Final = 0.02
"""How often a phone that the server holds back looks again."""
_ACK: Final = b'{"type":"ack"'
_REFUSALS: Final = frozenset({"overloaded", "too_many_calls", "shutting_down"})


class _AckBrief(Struct, gc=False):
    seq: int
    samples: int


_ack = json.Decoder(_AckBrief)


class Phone(Socket):
    """States: `waiting` for the call to be started, `live`, `hung_up`, `over`."""

    subprotocol: ClassVar[str] = SUBPROTOCOL

    def __init__(
        self,
        target: Target,
        script: Script,
        first_frame: int,
        listener: Listener,
        *,
        lateness_s: list[float],
        on_live: Callable[[Phone], None],
        on_over: Callable[[Phone], None],
        start: bytes,
    ) -> None:
        """`start`: the frame of the first message. `on_live`: the phone wants to be called (`act`) from `due_s` on."""
        super().__init__(target)
        self.listener = listener
        self.script = script
        self.first_frame = first_frame
        self.sent_samples = 0
        self.sent_frames = 0
        self.due_s = 0.0
        """When the next frame is to be sent: when its last sample has been spoken."""
        self.hang_up_at_s = float("inf")
        self.state: Literal["waiting", "live", "hung_up", "over"] = "waiting"
        self.since_s = 0.0
        """When the state was reached that something is waited for in."""
        self.failure = ""
        self.refused = False
        self._held = False
        self._released_s = 0.0
        """When the server last let us go on: what was due before has waited for it, not for us."""
        self._start = start
        self._frame = first_frame
        self._rate_hz = script.audio.rate_hz
        self._sizes = script.sizes
        self._lateness_s = lateness_s
        self._on_live = on_live
        self._on_over = on_over

    # --- sending ---

    def act(self, now_s: float) -> float:
        """Send every frame that is due by now; the next due time, or 0 when no more will come."""
        if self.state != "live":
            return 0.0
        if self._held:
            return now_s + HELD_S
        clock, late, write = self._clock, self._lateness_s, self.write
        frames, sizes, at = self.script.frames, self._sizes, self._frame
        due_s, released_s = self.due_s, self._released_s
        until_s = min(now_s, self.hang_up_at_s)
        while due_s <= until_s:
            write(frames[at])
            late.append(clock() - (due_s if due_s > released_s else released_s))
            self.sent_samples += sizes[at]
            self.sent_frames += 1
            at += 1
            if at == len(sizes):
                at = 0
            due_s = self.listener.began_s + (self.sent_samples + sizes[at]) / self._rate_hz
        self._frame, self.due_s = at, due_s
        if now_s < self.hang_up_at_s:
            return min(due_s, self.hang_up_at_s)
        self._hang_up(now_s)
        return 0.0

    def _hang_up(self, now_s: float) -> None:
        self.state, self.since_s = "hung_up", now_s
        self.say(Hangup(wait_qc_ms=0))

    def read_slowly(self, pause_s: float, every_s: float) -> None:
        """Read nothing for `pause_s`, every so often, while the call is live."""
        transport = self._transport
        if self.state != "live" or transport is None or transport.is_closing():
            return
        transport.pause_reading()
        loop = asyncio.get_running_loop()
        loop.call_later(pause_s, self._read_again)
        loop.call_later(max(every_s, pause_s + 0.1), self.read_slowly, pause_s, every_s)

    def _read_again(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- what comes ---

    def opened(self, now_s: float) -> None:
        self.write(self._start)

    def heard(self, text: bytes) -> None:
        now_s = time.monotonic()
        listener = self.listener
        if text.startswith(_ACK):
            ack = _ack.decode(text)
            listener.note_seq(ack.seq)
            listener.ack(ack.samples, now_s)
            return
        try:
            message = decode_server(text)
        except ProtocolError as fault:
            self.give_up(f"the server broke the protocol: {fault}")
            return
        listener.note_seq(message.seq)
        listener.hear(message, now_s)
        match message:
            case Started():
                listener.began_s, self.state = now_s, "live"
                self.due_s = now_s + self._sizes[self._frame] / self._rate_hz
                self._on_live(self)
            case Flow():
                self._held = message.state == "xoff"
                if not self._held:
                    self._released_s = now_s
                    self.act(now_s)
            case Error() if self.state == "waiting":
                self.give_up(message.code, refused=message.code in _REFUSALS)
            case Ended():
                self.give_up(listener.fault)
            case _:
                pass

    def lost(self, reason: str, *, refused: bool = False) -> None:
        self.give_up(reason, refused=refused)

    def give_up(self, failure: str, *, refused: bool = False) -> None:
        """The call is over, well if `failure` is empty."""
        if self.state != "over":
            self.state, self.failure, self.refused = "over", failure, refused
            self.close()
            self._on_over(self)
