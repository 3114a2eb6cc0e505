"""The numbered record of one call's server messages: sent once, kept for those who missed some."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from protocol.messages import Ack, ServerMessage, Transcript

PACKED_TOGETHER = 128
"""So many messages go into one packed block, once twice as many have come."""
_END = b"\n"
"""Stands in no message: they are JSON on one line."""


class MessageRecord:
    """What a client that comes back may have missed, without what later messages have made needless.

    Of acks only the newest is kept, of a segment's texts only the latest: it says all that the others said. Older
    messages are kept packed, to about a tenth: a call of hours takes little memory, and few clients ask for them.
    """

    def __init__(self) -> None:
        self._packed: list[_Block] = []
        self._recent: dict[int, bytes] = {}
        self._partials: dict[str, int] = {}
        self._ack: tuple[int, bytes] | None = None
        self.last_seq = self.last_kept_seq = 0
        """`last_kept_seq`: of the latest message that is no ack."""

    def add(self, message: ServerMessage, payload: bytes) -> None:
        self.last_seq = message.seq
        if isinstance(message, Ack):
            self._ack = message.seq, payload
            return
        self.last_kept_seq = message.seq
        if isinstance(message, Transcript):
            self._replace_text(message)
        self._recent[message.seq] = payload
        if len(self._recent) >= 2 * PACKED_TOGETHER:
            oldest = dict(islice(self._recent.items(), PACKED_TOGETHER))
            self._packed.append(_pack(oldest))
            for seq in oldest:
                del self._recent[seq]

    def after(self, seq: int) -> list[bytes]:
        """The payloads with a higher number, in order."""
        kept = self.numbered_after(seq)
        if self._ack is not None and self._ack[0] > seq:
            kept.append(self._ack)
            kept.sort()
        return [payload for _, payload in kept]

    def numbered_after(self, seq: int) -> list[tuple[int, bytes]]:
        """Number and payload of what came after, without acks, in order."""
        kept = [entry for block in self._packed if block.last_seq > seq for entry in _unpacked(block)]
        kept += self._recent.items()
        return sorted(entry for entry in kept if entry[0] > seq)

    def _replace_text(self, message: Transcript) -> None:
        earlier = self._partials.pop(message.segment_id, None)
        if earlier is not None:
            self._recent.pop(earlier, None)  # one that is packed already comes again, which does no harm
        if not message.final:
            self._partials[message.segment_id] = message.seq


@dataclass(frozen=True, slots=True)
class _Block:
    numbers: tuple[int, ...]
    data: bytes

    @property
    def last_seq(self) -> int:
        return self.numbers[-1]


def _pack(messages: dict[int, bytes]) -> _Block:
    return _Block(tuple(messages), zlib.compress(_END.join(messages.values()), 1))


def _unpacked(block: _Block) -> Iterator[tuple[int, bytes]]:
    return zip(block.numbers, zlib.decompress(block.data).split(_END), strict=True)
