import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.stores.journal_records import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    BadRecord,
    Damage,
    Kind,
    Located,
    Record,
    UnknownVersion,
    decode,
    decode_header,
    encode,
    encode_header,
    scan,
)

MARKER = b"\x93marker\x07"

WITH_RATE = [Kind.OPEN, Kind.AUDIO]
common = {
    "call_id": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    "number": st.integers(0, 2**64 - 1),
    "payload": st.binary(max_size=300),
    "channels": st.integers(0, 8),
}
records = st.builds(Record, kind=st.sampled_from(WITH_RATE), rate_hz=st.sampled_from([0, 8000, 48000]), **common) | (
    st.builds(
        Record,
        kind=st.sampled_from([kind for kind in Kind if kind not in WITH_RATE]),
        epoch=st.integers(0, 2**32 - 1),
        **common,
    )
)


def segment(many: list[Record]) -> bytes:
    return encode_header(1, MARKER) + b"".join(encode(one, MARKER) for one in many)


def read(data: bytes) -> list[Record]:
    return [found.record for found in scan(data) if isinstance(found, Located)]


def assert_covers(data: bytes) -> None:
    """What was found stands in order, without overlap, and leaves out nothing but the intact header."""
    found = list(scan(data))
    if not found:
        return
    offset = found[0].offset_bytes
    assert offset in (0, HEADER_BYTES)
    for one in found:
        assert one.offset_bytes == offset
        offset += one.size_bytes
    assert offset == len(data)


@given(st.lists(records, max_size=8))
def test_what_was_encoded_is_read_back(many: list[Record]) -> None:
    assert read(segment(many)) == many


@given(st.lists(records, min_size=1, max_size=5), st.data())
def test_a_truncated_segment_gives_its_good_prefix_and_reports_the_rest(
    many: list[Record], data: st.DataObject
) -> None:
    whole = segment(many)
    cut = data.draw(st.integers(HEADER_BYTES, len(whole)))
    kept = read(whole[:cut])
    assert kept == many[: len(kept)]
    complete_bytes = len(segment(kept))
    damaged = [found for found in scan(whole[:cut]) if isinstance(found, Damage)]
    assert sum(found.size_bytes for found in damaged) == cut - complete_bytes
    assert_covers(whole[:cut])


def test_a_segment_cut_at_any_byte_is_read_up_to_there() -> None:
    many = [Record(Kind.AUDIO, "a", 160 * n, bytes([n]) * 40, 8000, 1) for n in range(6)]
    whole = segment(many)
    ends = [len(segment(many[:n])) for n in range(len(many) + 1)]
    for cut in range(len(whole) + 1):
        intact = sum(end <= cut for end in ends[1:])
        assert read(whole[:cut]) == many[:intact]
        assert_covers(whole[:cut])


@settings(max_examples=300)
@given(st.lists(records, min_size=2, max_size=5), st.data())
def test_a_flipped_bit_costs_at_most_the_record_it_hits(many: list[Record], data: st.DataObject) -> None:
    whole = bytearray(segment(many))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << (bit % 8)
    kept = read(bytes(whole))
    ends = [len(segment(many[:n])) for n in range(len(many) + 1)]
    hit = next((n for n, end in enumerate(ends) if bit // 8 < end), len(many)) - 1
    assert kept == [record for n, record in enumerate(many) if n != hit]
    assert_covers(bytes(whole))


@given(st.binary(max_size=400))
def test_any_bytes_at_all_are_survived(data: bytes) -> None:
    assert_covers(data)
    assert_covers(encode_header(1, MARKER) + data)
    assert_covers(encode_header(1, MARKER) + MARKER + data)


def test_audio_that_looks_like_a_record_is_not_taken_for_one_after_damage() -> None:
    forged = encode(Record(Kind.MESSAGE, "victim", 1, b"forged"), b"guessed!")
    whole = bytearray(segment([Record(Kind.AUDIO, "attacker", 0, forged * 3, 8000, 1), Record(Kind.CLOSE, "attacker")]))
    whole[HEADER_BYTES + 9] ^= 0xFF
    assert [record.call_id for record in read(bytes(whole))] == ["attacker"]


def test_a_lost_header_is_made_up_for_by_a_siblings_marker_even_when_the_first_record_is_bad() -> None:
    many = [Record(Kind.CLOSE, "a"), Record(Kind.CLOSE, "b")]
    whole = bytearray(segment(many))
    whole[3] ^= 1
    whole[HEADER_BYTES + 3] ^= 1
    assert read(bytes(whole)) == []
    assert [found.record for found in scan(bytes(whole), MARKER) if isinstance(found, Located)] == many[1:]


def test_a_newer_version_is_refused_not_read() -> None:
    header = bytearray(encode_header(1, MARKER))
    header[8] = 3
    header[-4:] = struct.pack("<I", zlib.crc32(header[:-4]))
    with pytest.raises(UnknownVersion):
        decode_header(bytes(header))


def test_a_length_beyond_the_limit_is_not_believed() -> None:
    data = bytearray(encode(Record(Kind.MESSAGE, "a", 1, b"x"), MARKER))
    data[8:12] = b"\xff\xff\xff\xff"
    with pytest.raises(BadRecord, match="claims"):
        decode(bytes(data), 0, MARKER)


@pytest.mark.parametrize("call_id", ["", "../x", "a/b", "a.b", "x" * 65, "ä", "a\n"])
def test_an_unsafe_call_id_is_not_written(call_id: str) -> None:
    with pytest.raises(ValueError, match="call id"):
        encode(Record(Kind.CLOSE, call_id), MARKER)


def test_a_payload_beyond_the_limit_is_not_written() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode(Record(Kind.MESSAGE, "a", 1, bytes(MAX_PAYLOAD_BYTES + 1)), MARKER)
