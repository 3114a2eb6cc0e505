"""The feed: no hole and no repetition where the past meets what happens now, and queues that stay small."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.call.document import CallDocument
from gateway.call.settings import CallTerms
from gateway.doors.watch_line import WatchQueue
from gateway.session.app_feed import TELL_EVERY_S, AppFeed
from gateway.session.brief import CallBrief
from gateway.session.feed import Feed, item_of
from gateway.session.level_meter import SILENCE_DB, LevelMeter, decibels
from gateway.session.record import PACKED_TOGETHER, MessageRecord
from gateway.session.watchers import Item, Summary
from protocol import messages
from protocol.codec import decode_server, encode
from protocol.messages import ServerMessage, Start
from protocol.watching import MAX_ALERTS_IN_BRIEF, CallInBrief


class TalkingCall:
    """A call as the feed sees one; `say` numbers and tells a message as a session does."""

    def __init__(self, feed: Feed, call_id: str = "c1", app_id: str = "demo") -> None:
        start = Start(rate=8000, channels=2, metadata={"agent": "Anna"})
        self.app_id, self.call_id = app_id, call_id
        self.terms = CallTerms.of(call_id, start)
        self.document = CallDocument(call_id, start, self.terms.roles)
        self.record = MessageRecord()
        self.meter: LevelMeter | None = None
        self.began_at_ms, self.samples = 1_700_000_000_000, 0
        self.ended_at_ms: int | None = None
        self.live, self.paused, self.attached = True, False, True
        self.said: list[ServerMessage] = []
        self._feed = feed

    @property
    def progress(self) -> tuple[int, int]:
        return self.record.last_seq, self.samples

    def say(self, kind: type[ServerMessage], **fields: Any) -> ServerMessage:
        message = kind(call_id=self.call_id, seq=self.record.last_seq + 1, **fields)
        payload = encode(message)
        self.record.add(message, payload)
        self.document.apply(message)
        self._feed.said(self, message, payload)
        self.said.append(message)
        return message


class Listener:
    """A CallWatcher that remembers."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.moves = 0

    def put(self, item: Item) -> None:
        self.items.append(item)

    def moved(self) -> None:
        self.moves += 1


class Board:
    """An AppWatcher that remembers."""

    levels = False

    def __init__(self) -> None:
        self.told: list[CallInBrief] = []
        self.gone_ids: list[str] = []

    def tell(self, summary: Summary) -> None:
        self.told.append(msgspec.json.decode(summary.payload, type=CallInBrief))

    def gone(self, call_id: str) -> None:
        self.gone_ids.append(call_id)

    def left(self, call_id: str) -> None:
        self.gone_ids.append(call_id)

    def tell_levels(self, levels: Mapping[str, list[int]]) -> None:
        raise AssertionError("nobody asked")


def text(segment: str, words: str, *, final: bool, channel: int = 0) -> dict[str, Any]:
    where = {"segment_id": segment, "channel": channel, "role": "agent", "begin_ms": 0, "end_ms": len(words)}
    return {**where, "text": words, "final": final, "language": "en", "words": []}


KINDS = st.sampled_from(["ack", "mark", "partial", "final", "speaker"])


def speak(call: TalkingCall, kind: str, number: int) -> None:
    segment = f"s{number % 3}"
    match kind:
        case "ack":
            call.say(messages.Ack, samples=number)
        case "partial" | "final":
            call.say(messages.Transcript, **text(segment, f"w{number}", final=kind == "final"))
        case "speaker":
            whose = {"segment_id": segment, "channel": 0, "role": "agent", "state": "known", "name": "Anna"}
            rest = {"score": 80.0, "margin": 9.0, "net_speech_ms": 3000, "stable": True, "candidates": []}
            call.say(messages.Speaker, **whose, **rest)
        case _:
            call.say(messages.Warning, code="degraded", message=str(number))


# --- the seam ----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(KINDS, max_size=3 * PACKED_TOGETHER), st.lists(KINDS, max_size=30), st.data())
def test_past_and_present_meet_without_a_hole_or_a_repetition(past: list[str], now: list[str], data: Any) -> None:
    feed = Feed()
    call, listener = TalkingCall(feed), Listener()
    feed.began(call)
    for number, kind in enumerate(past):
        speak(call, kind, number)
    from_seq = data.draw(st.integers(0, len(past) + 1))
    replay = feed.watch_call("demo", "c1", from_seq, listener)
    assert replay is not None
    for number, kind in enumerate(now, start=len(past)):
        speak(call, kind, number)
    told = [seq for seq, _ in replay.said] + [item.seq for item in listener.items]
    assert told == sorted(set(told))
    assert all(seq > from_seq for seq in told[: len(replay.said)])
    # Of the past only texts that a later one replaced may be missing; of what happens now, nothing but acks.
    wanted = {one.seq for one in call.said if one.seq > from_seq and not isinstance(one, messages.Ack)}
    latest = {one.segment_id: one.seq for one in call.said[: len(past)] if isinstance(one, messages.Transcript)}
    replaced = {
        one.seq
        for one in call.said[: len(past)]
        if isinstance(one, messages.Transcript) and not one.final and latest[one.segment_id] != one.seq
    }
    live = {one.seq for one in call.said[len(past) :] if not isinstance(one, messages.Ack)}
    assert wanted - replaced <= set(told) | {seq for seq in live if seq <= from_seq}
    assert live == {item.seq for item in listener.items}
    assert replay.seq == len(past)
    assert [decode_server(item.payload).seq for item in listener.items] == [item.seq for item in listener.items]


def test_who_no_longer_watches_is_told_nothing_and_a_call_costs_nothing_more() -> None:
    feed = Feed()
    call, listener = TalkingCall(feed), Listener()
    feed.began(call)
    assert feed.watch_call("demo", "c1", 0, listener) is not None
    feed.unwatch_call("demo", "c1", listener)
    speak(call, "mark", 1)
    assert listener.items == []
    assert not feed._watchers


def test_a_call_that_comes_calls_those_who_looked_for_it_but_not_for_another_s() -> None:
    feed = Feed()
    seeker, stranger = Listener(), Listener()
    assert feed.watch_call("demo", "c1", 0, seeker) is None
    call = TalkingCall(feed)
    feed.began(call)
    assert seeker.moves == 1
    assert feed.watch_call("other", "c1", 0, stranger) is None
    speak(call, "mark", 1)
    assert (stranger.moves, stranger.items) == (0, [])


def test_a_call_that_leaves_tells_its_watchers_to_look_elsewhere() -> None:
    feed = Feed()
    call, listener = TalkingCall(feed), Listener()
    feed.began(call)
    feed.watch_call("demo", "c1", 0, listener)
    feed.left(call)
    assert listener.moves == 1
    assert feed.find("demo", "c1") is None


def test_started_is_told_without_what_resumes_the_call() -> None:
    feed = Feed()
    call, late = TalkingCall(feed), Listener()
    feed.began(call)
    secret = {"resume_token": "secret", "resume_window_s": 60.0, "rate": 8000, "channels": 2, "limits": {}}
    feed.watch_call("demo", "c1", 0, late)
    started = call.say(messages.Started, **secret)
    replay = feed.watch_call("demo", "c1", 0, Listener())
    assert replay is not None
    for payload in (late.items[0].payload, replay.said[0][1]):
        assert decode_server(payload) == msgspec.structs.replace(started, resume_token="")


# --- briefs ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.lists(KINDS, max_size=60), st.integers(0, 60))
def test_a_brief_made_late_is_the_brief_that_was_kept_up(kinds: list[str], at: int) -> None:
    call = TalkingCall(Feed())
    kept = CallBrief(call.document.content)
    for number, kind in enumerate(kinds):
        before = len(call.said)
        speak(call, kind, number)
        for message in call.said[before:]:
            kept.apply(message)
    late = CallBrief(call.document.content)
    one, other = kept.of(call), late.of(call)
    # The document knows the latest utterance, and not which of two was spoken of last.
    assert msgspec.structs.replace(one, latest=None) == msgspec.structs.replace(other, latest=None)
    assert (one.latest is None) == (other.latest is None)


def test_a_brief_holds_the_latest_alerts_and_says_how_many_came_before() -> None:
    call = TalkingCall(Feed())
    brief = CallBrief(call.document.content)
    for number in range(MAX_ALERTS_IN_BRIEF + 3):
        alert = {"alert_id": f"a{number}", "category": "c", "rule": "r" * 500, "rule_version": 1}
        rest = {"certainty": "provisional", "pending": [], "keywords": [], "evidence": []}
        brief.apply(call.say(messages.Alert, **alert, **rest))
    retracted = {"alert_id": "a0", "status": "retracted", "reason": "forbidden_keyword", "evidence": []}
    brief.apply(call.say(messages.AlertUpdate, **retracted))
    seen = brief.of(call)
    assert [alert.alert_id for alert in seen.alerts] == [f"a{number}" for number in range(3, MAX_ALERTS_IN_BRIEF + 3)]
    assert seen.alerts_before == 2
    assert len(seen.alerts[0].rule) == 256
    assert CallBrief(call.document.content).of(call) == seen


def test_a_brief_names_the_roles_of_voices_that_cannot_be_there_while_they_are() -> None:
    call = TalkingCall(Feed())
    brief = CallBrief(call.document.content)
    voice = {"segment_id": "s1", "channel": 0, "role": call.document.content["roles"][0], "name": "Ann", "score": 80.0}
    rest = {"margin": 20.0, "net_speech_ms": 3000, "stable": True, "candidates": []}
    brief.apply(call.say(messages.Speaker, **voice, **rest, state="conflict"))
    assert brief.of(call).conflicts == [voice["role"]]
    assert CallBrief(call.document.content).of(call).conflicts == [voice["role"]]
    brief.apply(call.say(messages.Speaker, **voice, **rest, state="known"))
    assert brief.of(call).conflicts == []


async def test_a_board_is_told_the_newest_state_and_no_more_often_than_twice_a_second() -> None:
    feed = Feed()
    call, board = TalkingCall(feed), Board()
    feed.began(call)
    feed.watch_app("demo", board)
    app: AppFeed = feed._apps["demo"]
    assert len(board.told) == 1
    for round_ in range(5):
        for number in range(100):
            speak(call, "final", number + 100 * round_)
            app._tell_what_is_due(1000.0 + round_ * TELL_EVERY_S)
    assert len(board.told) <= 1 + 2 * 5
    app._tell_what_is_due(2000.0)
    assert board.told[-1].latest is not None
    assert board.told[-1].latest.text == "w499"
    feed.ended(call)
    assert board.gone_ids == ["c1"]
    feed.unwatch_app("demo", board)
    assert not feed._apps
    await asyncio.sleep(0)


# --- what waits --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(KINDS, st.booleans()), max_size=200))
def test_a_slow_watcher_loses_only_what_a_newer_message_stands_for(steps: list[tuple[str, bool]]) -> None:
    feed = Feed()
    call = TalkingCall(feed)
    queue = WatchQueue(max_messages=1000, max_bytes=1 << 20)
    told: list[bytes] = []
    for number, (kind, reads) in enumerate(steps):
        before = len(call.said)
        speak(call, kind, number)
        for message in call.said[before:]:
            assert queue.put(item_of(message, encode(message)))
        if reads and (payload := queue.pop()) is not None:
            told.append(payload)
    while (payload := queue.pop()) is not None:
        told.append(payload)
    got = [decode_server(one) for one in told]
    assert [one.seq for one in got] == sorted(one.seq for one in got)
    for message in call.said:
        if message in got:
            continue
        assert isinstance(message, messages.Speaker) or (
            isinstance(message, messages.Transcript) and not message.final
        ), "this must not be left out"
        assert any(
            later.seq > message.seq and later.segment_id == message.segment_id
            for later in got
            if isinstance(later, messages.Speaker | messages.Transcript)
        )
    assert len(told) + queue.coalesced == len(call.said)


def test_what_waits_is_bounded_in_number_and_in_bytes() -> None:
    few = WatchQueue(max_messages=3, max_bytes=1000)
    assert [few.put(Item(b"x")) for _ in range(5)] == [True, True, True, False, False]
    small = WatchQueue(max_messages=100, max_bytes=10)
    assert [small.put(Item(b"x" * 4)) for _ in range(4)] == [True, True, False, False]
    assert small.pop() == b"x" * 4
    assert small.put(Item(b"x" * 4))


def test_one_message_may_be_larger_than_all_that_may_wait() -> None:
    queue = WatchQueue(max_messages=3, max_bytes=10)
    assert queue.put(Item(b"x" * 100))
    assert queue.pop() == b"x" * 100


def test_the_past_and_summaries_do_not_count_against_the_bound() -> None:
    queue = WatchQueue(max_messages=2, max_bytes=10)
    queue.put_past([b"p" * 100] * 50)
    assert all(queue.put(Item(b"s" * 100, key=f"call/{number}", bounded=False)) for number in range(50))
    assert queue.put(Item(b"x"))
    assert [queue.pop() for _ in range(50)] == [b"p" * 100] * 50


# --- levels ------------------------------------------------------------------------------------------------------


def test_a_meter_tells_the_peak_of_each_channel_over_the_last_quarter_of_a_second() -> None:
    meter = LevelMeter(8000, 2)
    loud_then_quiet = np.zeros((8000, 2), "<i2")
    loud_then_quiet[:4000, 0] = 32767
    loud_then_quiet[-1000:, 1] = -32768
    meter.hear(loud_then_quiet.tobytes())
    assert meter.look() == [SILENCE_DB, 0]
    assert meter.look() == [SILENCE_DB, SILENCE_DB], "what was looked at is forgotten"


@pytest.mark.parametrize(("peak", "db"), [(0, -90), (1, -90), (2, -84), (328, -40), (16384, -6), (32768, 0)])
def test_a_peak_in_decibels(peak: int, db: int) -> None:
    assert decibels(peak) == db


@given(st.lists(st.integers(1, 400), max_size=200))
def test_a_meter_that_nobody_looks_at_stays_small(frames: list[int]) -> None:
    meter = LevelMeter(8000, 1)
    for instants in frames:
        meter.hear(bytes(2 * instants))
        assert meter._heard_bytes <= 4 * 4000 + 800
        assert meter._heard_bytes == sum(map(len, meter._heard))
