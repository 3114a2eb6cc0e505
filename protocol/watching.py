"""The messages of `/v1/watch` (subprotocol `earshot.watch.v1`): what a watcher asks for, and what it is told.

Beside the messages below a watcher of one call gets that call's own server messages (`protocol.messages`) as they
were sent, without acks and what concerns only the call's own socket; they carry `call_id`, `seq` and `at_ms`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from protocol.messages import CallId, ShortText

SUBPROTOCOL = "earshot.watch.v1"


class _Watcher(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", forbid_unknown_fields=True):
    """Base of what a watcher sends."""


class Watch(_Watcher, frozen=True, kw_only=True, tag="watch"):
    """Begin to watch. With `call_id`: that call's every message. With `agent`, or with neither: a summary of each live
    call (of that agent, or of the app), told anew whenever it changes."""

    id: ShortText = ""
    """Comes back in `watching`, and names the watch to `unwatch`; the same id again replaces the watch."""
    call_id: CallId | None = None
    agent: ShortText | None = None
    """The `agent` of the calls' metadata."""
    from_seq: Annotated[int, Meta(ge=0)] = 0
    """With `call_id`: messages after this number; 0: from the call's start."""
    levels: bool = False
    """Also tell how loud the calls are, four times a second."""


class Unwatch(_Watcher, frozen=True, kw_only=True, tag="unwatch"):
    """End a watch."""

    id: ShortText = ""


WatcherMessage = Watch | Unwatch


class _Told(Struct, frozen=True, kw_only=True, omit_defaults=False, tag_field="type"):
    """Base of what a watcher is told."""


class Watching(_Told, frozen=True, kw_only=True, tag="watching"):
    """The watch has begun; what it shows of now follows."""

    id: str


class LatestText(Struct, frozen=True, kw_only=True):
    """What was said last."""

    role: str
    text: str
    final: bool
    end_ms: int


class AlertInBrief(Struct, frozen=True, kw_only=True):
    alert_id: str
    category: str
    rule: str
    status: str
    """`provisional`, `final`, `confirmed`, `not_confirmed`, `indeterminate`; retracted ones are left out."""
    at_ms: int


class CallInBrief(_Told, frozen=True, kw_only=True, tag="call"):
    """One call as a board shows it, as of now; a later one takes the place of an earlier one."""

    call_id: str
    state: Literal["live", "paused", "judging", "judged", "failed"]
    """As of `/v1/calls/{call_id}`, and `paused`. From `judging` on the call is over."""
    agent: str
    """The `agent` of its metadata, else nothing."""
    roles: list[str]
    language: str
    rate: int
    channels: int
    began_at_ms: int
    """Wall clock, ms since the Unix epoch."""
    ended_at_ms: int | None
    duration_ms: int
    """Audio received so far."""
    seq: int
    """Number of its latest message."""
    speaking: list[str]
    """Roles whose segment is open."""
    speakers: dict[str, str]
    """Role to the name of who is known to speak there."""
    latest: LatestText | None
    alerts: list[AlertInBrief]
    connected: bool
    """Whether a softphone carries it at the moment."""


class CallGone(_Told, frozen=True, kw_only=True, tag="call_gone"):
    """A call leaves the board: it is over, its verdict is in or will not be waited for, or it cannot be reached."""

    call_id: str


class CaughtUp(_Told, frozen=True, kw_only=True, tag="caught_up"):
    """With `call_id` in the watch: everything up to `seq` was told, what follows happens now."""

    id: str
    call_id: str
    seq: int
    live: bool
    """False: the call has ended and nothing follows; its document is at `/v1/calls/{call_id}`."""


class Levels(_Told, frozen=True, kw_only=True, tag="levels"):
    """How loud each channel was in the last quarter of a second: peak in dB of full scale, -90 (nothing) to 0."""

    calls: dict[str, list[int]]


class WatchError(_Told, frozen=True, kw_only=True, tag="error"):
    code: str
    message: str
    retryable: bool
    id: str = ""


class GoingAway(_Told, frozen=True, kw_only=True, tag="going_away"):
    """The server shuts down; connect again, with a new ticket."""

    deadline_ms: int


Told = Watching | CallInBrief | CallGone | CaughtUp | Levels | WatchError | GoingAway
