"""One connection between the main process and a worker, on which either side asks and tells the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from socket import socket
from typing import Any, TypeVar, cast

import msgspec
import structlog

from gateway.ports import Rejected, Unavailable
from gateway.workers.wire import (
    Answered,
    Asked,
    BadFrame,
    Frame,
    FrameReader,
    GivenUp,
    Notice,
    Question,
    Refused,
    Told,
    framed,
    packed,
)
from protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")

MAX_TELLING = 16_384
"""Notices that may wait to be sent where losing one is allowed ..."""
MAX_TELLING_BYTES = 16 * 1024 * 1024
"""... and how large they may be together."""


class LinkFault(Exception):
    """The other side failed at a question in a way that it should not; its log says how."""


class Link(asyncio.Protocol):
    """One end. Questions are answered each in a task of its own, cancelled when the asker gives up or is gone.

    What when the other side does not read? Who asks waits, and whoever asks has a time-out; notices that may be lost
    are dropped and counted. Belongs to one event loop.
    """

    def __init__(self, peer: str, on_dropped: Callable[[int], None] = lambda notices: None) -> None:
        """`peer` names the other side in errors; `on_dropped` hears how many notices were not sent."""
        self._peer = peer
        self.on_dropped = on_dropped
        self._handlers: dict[str, tuple[msgspec.msgpack.Decoder[Any], Callable[[Any], Awaitable[Any]]]] = {}
        self._ears: dict[str, tuple[msgspec.msgpack.Decoder[Any], Callable[[Any], None]]] = {}
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._reader = FrameReader()
        self._early: bytearray | None = bytearray()
        """What came before `listen`."""
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._telling: deque[bytes] = deque()
        self._telling_bytes = 0
        self._flushing = False
        self.gone = asyncio.Event()
        """Set when the connection is no more."""

    @classmethod
    async def over(cls, end: socket, peer: str, on_dropped: Callable[[int], None] = lambda notices: None) -> Link:
        """A link on a connected Unix socket, which it owns from here on.

        Nothing is taken before `listen`: say first what is answered here.
        """
        link = cls(peer, on_dropped)
        end.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=end)
        return link

    def listen(self) -> None:
        """Take questions and notices from here on, also what has come already."""
        early, self._early = self._early or b"", None
        self.data_received(bytes(early))

    def answers(self, question: Question[Q, A], handler: Callable[[Q], Awaitable[A]]) -> None:
        """Answer questions of this kind by `handler`, whose PortError, ProtocolError or OSError the asker gets."""
        self._handlers[question.name] = msgspec.msgpack.Decoder(question.asked), handler

    def hears(self, notice: Notice[Q], ear: Callable[[Q], None]) -> None:
        """Hand notices of this kind to `ear`, in their order."""
        self._ears[notice.name] = msgspec.msgpack.Decoder(notice.told), ear

    async def ask(self, question: Question[Q, A], body: Q) -> A:
        """The other side's answer. Raises what its handler raised (see `answers`), LinkFault, or Unavailable when
        it is gone. Cancelled, the other side is told to give up."""
        if not self._writable.is_set():
            waiting = asyncio.ensure_future(self._writable.wait())
            lost = asyncio.ensure_future(self.gone.wait())
            try:
                await asyncio.wait((waiting, lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                lost.cancel()
        if self._transport is None or self.gone.is_set():
            raise Unavailable(f"{self._peer} is gone")
        number = next(self._numbers)
        future: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._transport.write(framed(Asked(number, question.name, packed(body))))
        try:
            answer = await future
        except asyncio.CancelledError:
            self._write(GivenUp(number))
            raise
        finally:
            self._asked.pop(number, None)
        return msgspec.msgpack.decode(answer, type=question.answered)

    def tell(self, notice: Notice[Q], body: Q) -> None:
        """Tell the other side, if it is there. Never waits: for what is small and rare."""
        self._write(Told(notice.name, packed(body)))

    def tell_if_it_can(self, notice: Notice[Q], body: Q) -> bool:
        """Tell the other side unless too much waits to be told; False, and counted, when it was dropped."""
        frame = framed(Told(notice.name, packed(body)))
        full = len(self._telling) >= MAX_TELLING or self._telling_bytes + len(frame) > MAX_TELLING_BYTES
        if full or self.gone.is_set():
            self.on_dropped(1)
            return False
        self._telling.append(frame)
        self._telling_bytes += len(frame)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        return True

    def close(self) -> None:
        """End the connection; what is asked gets Unavailable, what is being answered is cancelled."""
        if self._transport is not None:
            self._transport.close()

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(Unavailable(f"{self._peer} is gone"))
        for task in self._answering.values():
            task.cancel()
        if self._telling:
            self.on_dropped(len(self._telling))
            self._telling.clear()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._early is not None:
            self._early += data
            return
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except (BadFrame, msgspec.DecodeError) as fault:
            log.error("link_broken", peer=self._peer, fault=str(fault))  # noqa: TRY400 - the text says it all
            assert self._transport is not None
            self._transport.abort()

    def _take(self, frame: Frame) -> None:
        match frame:
            case Told(name, body):
                try:
                    decoder, ear = self._ears[name]
                    ear(decoder.decode(body))
                except Exception:  # of this notice: what follows is not its fault
                    log.exception("notice_not_taken", peer=self._peer, name=name)
            case Asked(number, name, body):
                task = asyncio.get_running_loop().create_task(self._answer(number, name, body))
                self._answering[number] = task
                task.add_done_callback(partial(self._answered, number))
            case Answered(number, body):
                future = self._asked.get(number)
                if future is not None and not future.done():
                    future.set_result(body)
            case Refused(number):
                future = self._asked.get(number)
                if future is not None and not future.done():
                    future.set_exception(_raised(frame, self._peer))
            case GivenUp(number):
                given_up = self._answering.pop(number, None)
                if given_up is not None:
                    given_up.cancel()

    async def _answer(self, number: int, name: str, body: msgspec.Raw) -> None:
        try:
            decoder, handler = self._handlers[name]
            answer = packed(await handler(decoder.decode(body)))
        except Unavailable as fault:
            self._write(Refused(number, "unavailable", str(fault), retry_after_s=fault.retry_after_s))
        except Rejected as fault:
            self._write(Refused(number, "rejected", str(fault), fault.code))
        except ProtocolError as fault:
            self._write(Refused(number, "protocol", fault.message, fault.code))
        except OSError as fault:
            self._write(Refused(number, "os", fault.strerror or str(fault), str(fault.errno or 0)))
        except Exception as fault:
            log.exception("question_failed", peer=self._peer, name=name)
            self._write(Refused(number, "internal", f"{type(fault).__name__}: {fault}"))
        else:
            self._write(Answered(number, answer))

    def _answered(self, number: int, task: asyncio.Task[None]) -> None:
        still_asked = self._answering.pop(number, None) is not None
        if task.cancelled():
            if still_asked:  # not by the asker: something that the handler waited for was
                self._write(Refused(number, "unavailable", "what was asked for was cancelled"))
        elif task.exception() is not None:
            log.error("question_failed", peer=self._peer, exc_info=task.exception())

    def _write(self, frame: Frame) -> None:
        if self._transport is not None and not self.gone.is_set():
            self._transport.write(framed(frame))

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is None or self.gone.is_set():
            return
        if self._telling and self._writable.is_set():
            self._transport.write(b"".join(self._telling))
            self._telling.clear()
            self._telling_bytes = 0


def _raised(refused: Refused, peer: str) -> Exception:
    match refused.fault:
        case "unavailable":
            return Unavailable(refused.message, retry_after_s=refused.retry_after_s)
        case "rejected":
            return Rejected(refused.message, code=refused.code)
        case "protocol":
            return ProtocolError(refused.code, refused.message)
        case "os":
            return OSError(int(refused.code), refused.message)
        case "internal":
            return LinkFault(f"{peer}: {refused.message}")
