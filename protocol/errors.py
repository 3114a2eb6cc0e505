"""The native socket's error codes: one table, from which the documents are made.

A `ProtocolError` is the client's fault and says what was expected instead.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A code of the native socket: what it means, what happens to the socket, and what a client should do."""

    code: str
    close: int | None
    """The WebSocket close code that follows, or None when the call goes on."""
    retryable: bool
    meaning: str
    remedy: str


_FIX = "Correct the client. A call that had started waits for `resume`."

CODES = {
    entry.code: entry
    for entry in (
        ErrorCode("bad_json", 1007, False, "A text frame is not one JSON object in UTF-8.", _FIX),
        ErrorCode("unknown_type", 1008, False, "`type` is missing or names no message that a client may send.", _FIX),
        ErrorCode("bad_message", 1008, False, "A field is missing, unknown, of another type or out of range.", _FIX),
        ErrorCode(
            "start_expected", 1008, False, "The first message must be `start` or `resume`.", "Correct the client."
        ),
        ErrorCode(
            "unexpected_message",
            None,
            False,
            "The call's state does not allow this message; it changed nothing.",
            "Go on; see the states of a call.",
        ),
        ErrorCode(
            "bad_audio", 1007, False, "A binary frame does not hold whole samples, or its header is wrong.", _FIX
        ),
        ErrorCode(
            "partial_sample",
            None,
            False,
            "Raw audio ended inside a sample; the bytes over were dropped.",
            "Nothing; the call ends as asked.",
        ),
        ErrorCode(
            "too_large",
            1009,
            False,
            "A message over `limits.max_message_bytes`. Most often the socket closes without it.",
            _FIX,
        ),
        ErrorCode(
            "too_fast",
            1008,
            True,
            "Far too many messages: control messages, pings and frames with less than 10 ms of audio count together.",
            "`resume`; put at least 10 ms of audio into a frame.",
        ),
        ErrorCode(
            "too_slow",
            1008,
            True,
            "Too much waits for you to read it; most often the network is stuck and you never see this.",
            "`resume`, and read on: what you missed is sent again.",
        ),
        ErrorCode(
            "said_too_much",
            1008,
            False,
            "The call's `transcript`, `dtmf`, `mark` and `update` messages are over 8 MiB together.",
            "`resume` without sending more of them.",
        ),
        ErrorCode(
            "timeout",
            1008,
            True,
            "No first message in 10 s, or no audio in 15 s outside a pause.",
            "`resume`, then send audio, `pause` or `hangup`.",
        ),
        ErrorCode(
            "unknown_call",
            1008,
            False,
            "No such call to resume, or its token is wrong, or its window has passed.",
            "Ask `GET /v1/calls/{id}` what became of it; start a new call.",
        ),
        ErrorCode(
            "recovering",
            1013,
            True,
            "The server has just started and is still rebuilding this call.",
            "`resume` again after `retry_after_ms`; keep what is not acknowledged.",
        ),
        ErrorCode(
            "not_resumable",
            1008,
            False,
            "The call could not be rebuilt as it was before the server's restart, and was hung up (`node_lost`); "
            "what is left of it is recorded and judged.",
            "Ask `GET /v1/calls/{id}` what became of it; start a new call.",
        ),
        ErrorCode(
            "held_elsewhere",
            1013,
            True,
            "Another node of the cluster holds this call, and is well.",
            "`resume` there; here only once that node is gone.",
        ),
        ErrorCode(
            "cluster_unavailable",
            1013,
            True,
            "What the nodes of the cluster share cannot be reached, or does not know this call for now.",
            "Try again, at any node.",
        ),
        ErrorCode(
            "overloaded",
            1013,
            True,
            "The server takes no new calls, or cannot store audio, right now.",
            "Try again after `retry_after_ms`.",
        ),
        ErrorCode(
            "too_many_calls",
            1013,
            True,
            "The app has as many calls going on as it may: what the voiceprint API calls 10800.",
            "Hang up another call of the app first; its place is free at once.",
        ),
        ErrorCode("shutting_down", 1012, True, "The server is going away.", "Connect again, elsewhere if you can."),
        ErrorCode(
            "internal",
            1011,
            True,
            "The server failed; what was recorded is kept and will be judged.",
            "`resume` for the verdict; report it to the operator.",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """How an upgrade is refused before there is a socket: an HTTP answer with `{"code", "message"}`."""

    status: int
    code: str
    meaning: str


REFUSALS = (
    Refusal(400, "bad_request", "The address is no URL, or a header that may come once comes twice."),
    Refusal(
        400,
        "bad_subprotocol",
        "`Sec-WebSocket-Protocol` does not offer `earshot.v1`, or `earshot.watch.v1` on `/v1/watch`.",
    ),
    Refusal(
        401,
        "access_denied",
        "No credentials, or wrong ones, a timestamp outside the accepted skew, or a ticket that is no good any more.",
    ),
    Refusal(403, "foreign_origin", "A browser page asks whose origin is neither ours nor in `origins`."),
    Refusal(404, "not_found", "The path is neither `/v1/calls` nor `/v1/watch`."),
    Refusal(
        503,
        "overloaded",
        "No new calls right now, and none of the app that could be resumed; or no more watchers; or a ticket that "
        "cannot be checked: wait for `Retry-After`.",
    ),
    Refusal(503, "shutting_down", "The server is going away."),
)

CLOSE_CODES = {
    1000: "After `ended` or `replaced`: nothing more comes on this socket.",
    1007: "`bad_json` or `bad_audio` came before.",
    1008: "An `error` came before and says what was wrong.",
    1009: "A message over `limits.max_message_bytes`; most often without an `error` before it.",
    1011: "`internal`, or a keep-alive ping that nobody answered for 20 s.",
    1012: "The server is going away; `going_away` or `shutting_down` came before.",
    1013: "`overloaded`, `too_many_calls`, `recovering`, `held_elsewhere` or `cluster_unavailable`.",
    1006: "No close frame: the network failed, or the client read too slowly and was cut off. `resume`.",
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
