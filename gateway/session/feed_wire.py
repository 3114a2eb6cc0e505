"""What processes tell one another of the calls that somebody watches: MessagePack, over the bus."""

from __future__ import annotations

import zlib
from typing import TypeVar

import msgspec
from msgspec import Struct

T = TypeVar("T")

INTEREST = "feed.interest"
"""Topic: what whom watches, said again and again."""
CALLS = "feed.calls"
"""Question: the calls of an app, in brief."""
SAID = "feed.said"
"""Question: what a call has said."""


def app_topic(app_id: str) -> str:
    return f"feed.app.{app_id}"


def call_topic(call_id: str) -> str:
    return f"feed.call.{call_id}"


class Interest(Struct, frozen=True, array_like=True):
    """What a process's watchers watch at other processes."""

    apps: dict[str, bool]
    """By app id, whether levels are wanted too."""
    calls: list[CallWanted]


class CallWanted(Struct, frozen=True, array_like=True):
    app_id: str
    call_id: str
    levels: bool
    from_seq: int = 0
    """In the question: what came after this number."""


class AppWanted(Struct, frozen=True, array_like=True):
    app_id: str
    levels: bool


class Brief(Struct, frozen=True, array_like=True):
    call_id: str
    agent: str
    payload: bytes


class AppHeard(Struct, frozen=True, array_like=True):
    """What is new of an app's calls at a process; also the answer to CALLS."""

    briefs: list[Brief] = []
    gone: list[str] = []
    levels: dict[str, list[int]] = {}


class CallHeard(Struct, frozen=True, array_like=True):
    """One message of a call, or only where the call stands."""

    before_seq: int
    """Number of the message before this one: who has not heard that has missed something."""
    seq: int
    """Its own; the same as before where there is no message."""
    payload: bytes = b""
    key: str = ""
    ends: str = ""


class CallSaid(Struct, frozen=True, array_like=True):
    """The answer to SAID, or a part of it."""

    said: list[tuple[int, bytes]]
    through_seq: int
    """Everything up to here is told with this."""
    whole: bool
    """False: ask again from there."""
    seq: int
    """Number of the latest of all messages."""
    live: bool


def packed(told: Struct) -> bytes:
    return msgspec.msgpack.encode(told)


def unpacked(data: bytes, kind: type[T]) -> T:
    return msgspec.msgpack.decode(data, type=kind)


def deflated(told: Struct) -> bytes:
    return zlib.compress(packed(told), 1)


def inflated(data: bytes, kind: type[T]) -> T:
    return unpacked(zlib.decompress(data), kind)
