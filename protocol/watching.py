"""The messages of `/v1/watch` (subprotocol `earshot.watch.v1`): what a watcher asks for, and what it is told.

Beside the messages below a watcher of one call gets that call's own server messages (`protocol.messages`) as they
were sent, without acks and what concerns only the call's own socket; they carry `call_id`, `seq` and `at_ms`.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from protocol import messages
from protocol.codec import decode_one_of, decode_server
from protocol.errors import ErrorCode, ProtocolError
from protocol.messages import CallId, ServerMessage, ShortText

SUBPROTOCOL = "earshot.watch.v1"
PATH = "/v1/watch"
MAX_WATCHES = 64
"""Of one socket."""
MAX_LATEST_CHARACTERS = 240
MAX_ALERTS_IN_BRIEF = 50


class _Watcher(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", forbid_unknown_fields=True):
    """Base of what a watcher sends."""


class Watch(_Watcher, frozen=True, kw_only=True, tag="watch"):
    """Begin to watch. With `call_id`: that call's every message. With `agent`, or with neither: a summary of each live
    call (of that agent, or of the app), told anew whenever it changes."""

    id: ShortText = ""
    """Comes back in `watching`, and names the watch to `unwatch`; the same id again replaces the watch."""
    call_id: CallId | None = None
    """The call to watch."""
    agent: ShortText | None = None
    """The `agent` of the calls' metadata."""
    from_seq: Annotated[int, Meta(ge=0)] = 0
    """With `call_id`: messages after this number; 0: from the call's start."""
    levels: bool = False
    """Also tell how loud the calls are, four times a second."""


class Unwatch(_Watcher, frozen=True, kw_only=True, tag="unwatch"):
    """End a watch. One that is not there is no fault."""

    id: ShortText = ""
    """The `id` of the watch."""


WatcherMessage = Watch | Unwatch


class _Told(Struct, frozen=True, kw_only=True, omit_defaults=False, tag_field="type"):
    """Base of what a watcher is told."""


class Watching(_Told, frozen=True, kw_only=True, tag="watching"):
    """The watch has begun; what it shows of now follows."""

    id: str
    """The watch."""


class LatestText(Struct, frozen=True, kw_only=True):
    """What was said last."""

    role: str
    """Whose channel it was."""
    text: str
    """The end of it, at most 240 characters."""
    final: bool
    """No later text of this utterance will come."""
    end_ms: int
    """On the media clock."""


class AlertInBrief(Struct, frozen=True, kw_only=True):
    """An alert as it stands now."""

    alert_id: str
    """As in the call's messages."""
    category: str
    """The rule's category."""
    rule: str
    """The rule's expression; of a longer one the first 256 characters."""
    status: str
    """`provisional`, `final`, `confirmed`, `not_confirmed`, `indeterminate`; retracted ones are left out."""
    at_ms: int
    """When it came, on the media clock."""


class CallInBrief(_Told, frozen=True, kw_only=True, tag="call"):
    """One call as a board shows it, as of now; a later one takes the place of an earlier one."""

    call_id: str
    """The call."""
    state: Literal["live", "paused", "judging", "judged", "failed"]
    """As of `/v1/calls/{call_id}`, and `paused`. From `judging` on the call is over."""
    agent: str
    """The `agent` of its metadata, else nothing."""
    roles: list[str]
    """Of its channels."""
    language: str
    """As in `start`, or as updated."""
    rate: int
    """Samples per second of each channel."""
    channels: int
    """1 or 2."""
    began_at_ms: int
    """Wall clock, ms since the Unix epoch."""
    ended_at_ms: int | None
    """Likewise; null while the call is on."""
    duration_ms: int
    """Audio received so far. It grows all the time, and is told with whatever else is new, or every 5 s."""
    seq: int
    """Number of its latest message."""
    speaking: list[str]
    """Roles whose segment is open."""
    speakers: dict[str, str]
    """Role to the name of who is known to speak there."""
    conflicts: list[str]
    """Roles where a known voice speaks that cannot be there: on both channels, or the agent's on the customer's."""
    latest: LatestText | None
    """Null before the first word."""
    alerts: list[AlertInBrief]
    """The latest 50, oldest first."""
    alerts_before: int
    """How many came before these."""
    connected: bool
    """Whether a softphone carries it at the moment."""


class CallGone(_Told, frozen=True, kw_only=True, tag="call_gone"):
    """A call leaves the board: it is over, its verdict is in or will not be waited for, or it cannot be reached."""

    call_id: str
    """The call."""


class CaughtUp(_Told, frozen=True, kw_only=True, tag="caught_up"):
    """With `call_id` in the watch: everything up to `seq` was told, what follows happens now."""

    id: str
    """The watch."""
    call_id: str
    """The call."""
    seq: int
    """Number of the latest message; 0 of a call that ended a while ago."""
    live: bool
    """False: the call has ended and nothing follows; its document is at `/v1/calls/{call_id}`."""


class Levels(_Told, frozen=True, kw_only=True, tag="levels"):
    """How loud each channel was in the last quarter of a second: peak in dB of full scale, -90 (nothing) to 0."""

    calls: dict[str, list[int]]
    """By call id, a number for each channel."""


class WatchError(_Told, frozen=True, kw_only=True, tag="error"):
    """What was wrong, whose fault it was (by `code`) and whether the same may work later."""

    code: str
    """One of the codes of this socket."""
    message: str
    """Names the fault and what was expected, for people."""
    retryable: bool
    """Whether the same may work later."""
    id: str = ""
    """The watch that it is about; empty: the socket, or the watch without an id."""


class WatchGoingAway(_Told, frozen=True, kw_only=True, tag="going_away"):
    """The server shuts down; connect again, with a new ticket."""

    deadline_ms: int
    """How long this server will still be there."""


Told = Watching | CallInBrief | CallGone | CaughtUp | Levels | WatchError | WatchGoingAway

CODES = {
    entry.code: entry
    for entry in (
        ErrorCode("bad_json", 1007, False, "A text frame is not one JSON object in UTF-8.", "Correct the client."),
        ErrorCode(
            "unknown_type", 1008, False, "`type` is missing or names no message that a watcher may send.",
            "Correct the client.",
        ),
        ErrorCode(
            "bad_message", 1008, False, "A field is missing, unknown, of another type or out of range.",
            "Correct the client.",
        ),
        ErrorCode("timeout", 1008, True, "No first message in 10 s.", "Connect again, and send `watch`."),
        ErrorCode(
            "too_fast", 1008, True, "Far too many messages: pings count too.", "Connect again, and ask less often."
        ),
        ErrorCode(
            "too_slow", 1008, True, "Too much that may not be left out waits for you to read it.",
            "Connect again, and watch from the last `seq` you have.",
        ),
        ErrorCode(
            "unknown_call", None, False, "No such call, or none that your ticket lets you watch.",
            "Ask `GET /v1/calls/{id}` what became of it.",
        ),
        ErrorCode(
            "too_many_watches", None, False, f"A socket holds at most {MAX_WATCHES} watches.",
            "End some, or open another socket.",
        ),
        ErrorCode(
            "cluster_unavailable", None, True, "Other processes hold calls too, and cannot be asked right now.",
            "What is here is told; ask again later for the rest.",
        ),
        ErrorCode("shutting_down", 1012, True, "The server is going away.", "Connect again, with a new ticket."),
        ErrorCode("internal", 1011, True, "The server failed.", "Connect again; report it to the operator."),
    )
}  # fmt: skip


class WatchFault(ProtocolError):
    """A watcher broke the protocol, or asked for what cannot be had. `code` is a key of this module's `CODES`."""

    def __init__(self, code: str, message: str, watch_id: str = "") -> None:
        Exception.__init__(self, message)
        self.entry = CODES[code]
        self.watch_id = watch_id

    def told(self) -> WatchError:
        return WatchError(code=self.code, message=self.message, retryable=self.entry.retryable, id=self.watch_id)


_watcher: msgspec.json.Decoder[WatcherMessage] = msgspec.json.Decoder(WatcherMessage)
_told: msgspec.json.Decoder[Told] = msgspec.json.Decoder(Told)
_WATCHER_TYPES = tuple(kind.__struct_config__.tag for kind in get_args(WatcherMessage))
_tag = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OWN = {msgspec.json.encode(kind.__struct_config__.tag) for kind in get_args(Told)}


def decode_watcher(payload: str | bytes) -> WatcherMessage:
    """What a watcher says. Raises WatchFault (`bad_json`, `unknown_type`, `bad_message`) for anything else."""
    return decode_one_of(payload, _watcher, _WATCHER_TYPES, WatchFault)


def decode_told(payload: str | bytes) -> Told | ServerMessage:
    """What a watcher is told: a message of this socket, or one of a call.

    Raises msgspec.DecodeError, or ProtocolError for what nobody knows.
    """
    # A call's own `error` and `going_away` are about its own socket, and never come here.
    if bytes(_tag.decode(payload).get("type", b"")) in _OWN:
        return _told.decode(payload)
    return decode_server(payload)


NOT_FOR_WATCHERS = (messages.Ack,)
"""Numbered messages of a call that only its own softphone needs."""
ABOUT_A_SOCKET = (
    messages.Resumed, messages.Replaced, messages.GoingAway, messages.Flow, messages.Error, messages.Pong,
)  # fmt: skip
"""Messages without a number, which only the socket they are about is sent."""
