"""The numbered record of one call's server messages: sent once, kept for those who missed some."""

from __future__ import annotations

from protocol.messages import Ack, ServerMessage


class MessageRecord:
    """What a client that comes back may have missed. Of acks only the newest is kept: it says all the others said."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, bytes]] = []
        self._ack: tuple[int, bytes] | None = None
        self.last_seq = 0

    def add(self, message: ServerMessage, payload: bytes) -> None:
        self.last_seq = message.seq
        if isinstance(message, Ack):
            self._ack = message.seq, payload
        else:
            self._messages.append((message.seq, payload))

    def after(self, seq: int) -> list[bytes]:
        """The payloads with a higher number, in order."""
        kept = self._messages if self._ack is None else sorted([*self._messages, self._ack])
        return [payload for number, payload in kept if number > seq]
