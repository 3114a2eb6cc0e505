"""From the journal's bytes back to a call, its messages and its document."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from gateway.call.document import CallDocument
from gateway.call.events import Noted, RulesChanged
from gateway.call.machine import Call
from gateway.call.replay import CallHistory, Diverged, KeptEvent, Replayed, replay
from gateway.call.settings import CallSettings, CallTerms
from gateway.ports import CallStore
from gateway.session.record import MessageRecord
from gateway.session.rulesets import RulesOfCall
from protocol.messages import Alert, AlertUpdate, ServerMessage, Start

PIECE_MS = 200
BREATH_S = 0.0002
"""Between two pieces, so that the thread of the event loop gets the interpreter without having to wrest it away."""


class Recovered(Protocol):
    """A call that an earlier process left in the journal."""

    @property
    def call_id(self) -> str: ...
    @property
    def header(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def rate_hz(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def end_sample(self) -> int: ...
    @property
    def gaps(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def messages(self) -> tuple[tuple[int, bytes], ...]: ...
    @property
    def events(self) -> tuple[tuple[int, bytes], ...]: ...
    def read_audio(self) -> Iterator[bytes]: ...


class CallHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal keeps at the head of a call: all that its events need to be folded again."""

    rate_hz: int
    channels: int
    app_id: str
    began_at_ms: int
    start: Start
    settings: dict[str, Any] = {}
    """The settings in force when it began (`CallSettings.as_data`)."""
    rules: str = ""
    """Digest of the rules in force when it began."""

    @property
    def pinyin(self) -> bool:
        return bool(self.settings.get("pinyin", True))


_RULES_CHANGED = b'"%s"' % RulesChanged.__name__.encode()


def rule_digests(found: Recovered) -> list[str]:
    """Under which the rules of a call are kept: those it began with, then those that came while it ran.

    Empty where its header does not say.
    """
    try:
        digests = [msgspec.json.decode(found.header, type=CallHeader).rules]
        for _, payload in found.events:
            if _RULES_CHANGED in payload:  # few are: the others need not be decoded here
                event = msgspec.json.decode(payload, type=KeptEvent).event
                digests += [event.digest] if isinstance(event, RulesChanged) else []
    except msgspec.DecodeError:
        return []
    return list(dict.fromkeys(filter(None, digests)))


async def header_of(found: Recovered, calls: CallStore) -> CallHeader | None:
    """The head of a call. Where the disk has damaged that record, what the store noted when the call began stands in
    for it, without the rules: such a call can be judged, not resumed. None when the store knows nothing either."""
    if found.header:
        return msgspec.json.decode(found.header, type=CallHeader)
    known = await calls.left_behind(found.call_id)
    if known is None:
        return None
    told = {name: known.document[name] for name in ("rate", "channels", "roles", "language", "metadata", "categories")}
    start = msgspec.convert(told, Start)
    return CallHeader(
        rate_hz=start.rate, channels=start.channels, app_id=known.app_id, began_at_ms=known.began_at_ms, start=start
    )


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A call as it was when its process ended."""

    header: CallHeader
    past: Replayed
    document: CallDocument
    record: MessageRecord
    rules: RulesOfCall


def rebuild(
    found: Recovered, header: CallHeader, settings: CallSettings, rules: RulesOfCall, breathe: Callable[[], None]
) -> Rebuilt:
    """Replay a call; `settings` give the gate, all else comes with the call. Blocking: for a thread of its own.

    `breathe` is called every 200 ms of audio, and may raise to give up. Raises Diverged, whatever the fault was: an
    earlier program's call may break this one anywhere, and must not keep the others from being taken up.
    """
    terms = CallTerms.of(found.call_id, header.start)
    document, record = CallDocument(found.call_id, header.start, terms.roles), MessageRecord()

    def on_message(message: ServerMessage, payload: bytes) -> None:
        record.add(message, payload)
        document.apply(message)

    def on_shadow(message: Alert | AlertUpdate) -> None:
        document.keep_in_shadow(message)

    def on_note(note: Noted, at_ms: int) -> None:
        document.note(note.kind, note.value, at_ms)

    piece_bytes = terms.audio.ms_to_samples(PIECE_MS) * 2 * terms.audio.channels
    audio = _in_pieces(found.read_audio(), piece_bytes, breathe)
    history = CallHistory(found.events, found.messages, found.samples, audio)
    try:
        call = Call(terms, CallSettings.from_data(header.settings, settings.gate), rules.in_force.rules, rules.find)
        past = replay(call, history, on_message, on_note, on_shadow)
    except (Diverged, Interrupted):
        raise
    except Exception as fault:
        raise Diverged(f"it cannot be replayed: {fault!r}") from fault
    document.agree(call.terms)
    return Rebuilt(header, past, document, record, rules)


class Interrupted(Exception):
    """The server stops: the call stays in the journal for the next start."""


def breather(*, busy: Callable[[], bool], stopping: Callable[[], bool]) -> Callable[[], None]:
    """What a replay does between pieces: let others work while there are any, and end when the server does."""

    def breathe() -> None:
        if stopping():
            raise Interrupted
        if busy():
            time.sleep(BREATH_S)

    return breathe


def _in_pieces(audio: Iterator[bytes], piece_bytes: int, breathe: Callable[[], None]) -> Iterator[bytes]:
    for pcm in audio:
        for begin in range(0, len(pcm), piece_bytes):
            breathe()
            yield pcm[begin : begin + piece_bytes]
