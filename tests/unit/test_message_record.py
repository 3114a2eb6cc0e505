"""What a client that comes back is sent again."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gateway.session.record import PACKED_TOGETHER, MessageRecord
from protocol.codec import encode
from protocol.messages import Ack, Gap, ServerMessage, Transcript


def gap(seq: int) -> Gap:
    return Gap(seq=seq, channel=0, from_sample=0, to_sample=1, cause="network")


def recorded(*messages: ServerMessage) -> MessageRecord:
    record = MessageRecord()
    for message in messages:
        record.add(message, encode(message))
    return record


def test_an_empty_record_has_nothing_to_send() -> None:
    assert MessageRecord().after(0) == []
    assert MessageRecord().last_seq == 0


def test_what_the_client_has_seen_is_not_sent_again() -> None:
    record = recorded(gap(1), gap(2), gap(3))
    assert record.after(1) == [encode(gap(2)), encode(gap(3))]
    assert record.after(3) == []
    assert record.last_seq == 3


def test_of_acks_only_the_newest_is_kept_and_in_its_place() -> None:
    record = recorded(gap(1), Ack(seq=2, samples=10), Ack(seq=3, samples=20), gap(4))
    assert record.after(0) == [encode(gap(1)), encode(Ack(seq=3, samples=20)), encode(gap(4))]
    assert record.after(3) == [encode(gap(4))]
    assert record.last_seq == 4


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 31))
def test_every_message_after_the_last_seen_comes_in_order_but_for_older_acks(acks: list[bool], seen: int) -> None:
    messages = [Ack(seq=at, samples=at) if ack else gap(at) for at, ack in enumerate(acks, 1)]
    newest = max((one.seq for one in messages if isinstance(one, Ack)), default=0)
    expected = [one for one in messages if one.seq > seen and (isinstance(one, Gap) or one.seq == newest)]
    assert recorded(*messages).after(seen) == [encode(one) for one in expected]


def text(seq: int, segment_id: str, *, final: bool = False) -> Transcript:
    return Transcript(
        seq=seq,
        segment_id=segment_id,
        channel=0,
        role="mixed",
        text="words",
        final=final,
        begin_ms=0,
        end_ms=1,
        language="en",
        words=[],
    )


def test_of_a_segments_texts_only_the_latest_is_kept() -> None:
    record = recorded(text(1, "s1"), text(2, "s2"), text(3, "s1"), text(4, "s1", final=True), text(5, "s2"))
    assert record.after(0) == [encode(text(4, "s1", final=True)), encode(text(5, "s2"))]


def test_what_is_packed_comes_again_in_order_and_as_it_was() -> None:
    messages = [gap(at) for at in range(1, 5 * PACKED_TOGETHER)]
    record = recorded(*messages)
    for seen in (0, 1, PACKED_TOGETHER, PACKED_TOGETHER + 7, 5 * PACKED_TOGETHER - 2, 5 * PACKED_TOGETHER):
        assert record.after(seen) == [encode(one) for one in messages if one.seq > seen]


def test_hours_of_busy_talk_take_little_memory() -> None:
    tracemalloc.start()
    record = MessageRecord()
    for at in range(1, 20_000):
        message = text(at, f"s{at // 6}", final=at % 6 == 5)
        record.add(message, encode(message))
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 500_000
