"""The native socket's error codes: one table, from which the documents are made.

A `ProtocolError` is the client's fault and says what was expected instead.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A code of the native socket: what it means and what happens to the socket."""

    code: str
    close: int | None
    """The WebSocket close code that follows, or None when the call goes on."""
    retryable: bool
    meaning: str


CODES = {
    entry.code: entry
    for entry in (
        ErrorCode("bad_json", 1007, False, "A text frame is not one JSON object in UTF-8."),
        ErrorCode("unknown_type", 1008, False, "`type` is missing or names no message that a client may send."),
        ErrorCode("bad_message", 1008, False, "A field is missing, unknown, of another type or out of range."),
        ErrorCode("start_expected", 1008, False, "The first message must be `start` or `resume`."),
        ErrorCode(
            "unexpected_message", None, False, "The call's state does not allow this message; it changed nothing."
        ),
        ErrorCode("bad_audio", 1007, False, "A binary frame does not hold whole samples, or its header is wrong."),
        ErrorCode("partial_sample", None, False, "Raw audio ended inside a sample; the bytes over were dropped."),
        ErrorCode("too_large", 1009, False, "A message is larger than `limits.max_message_bytes`."),
        ErrorCode("too_fast", 1008, True, "Far more audio than real time, or more messages than a call can mean."),
        ErrorCode("timeout", 1008, True, "No first message in 10 s, or no audio in 15 s outside a pause."),
        ErrorCode(
            "unknown_call", 1008, False, "No such call to resume, or its token is wrong, or its window has passed."
        ),
        ErrorCode(
            "overloaded", 1013, True, "The server takes no new calls right now; try again after `retry_after_ms`."
        ),
        ErrorCode("shutting_down", 1012, True, "The server is going away; connect again."),
        ErrorCode("internal", 1011, True, "The server failed; what was recorded is kept and will be judged."),
    )
}


class ProtocolError(Exception):
    """A peer broke the protocol. `code` is a key of `CODES`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.entry = CODES[code]

    @property
    def code(self) -> str:
        return self.entry.code

    @property
    def message(self) -> str:
        return str(self)
