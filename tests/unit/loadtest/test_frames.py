"""Frames as the WebSocket library reads them, and what a server sends taken apart however it is cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame
from websockets.streams import StreamReader

from loadtest.softphones.frames import BINARY, CLOSE, PING, TEXT, BadFrame, ServerFrames, client_frame


@given(st.binary(max_size=70_000), st.sampled_from([TEXT, BINARY, PING]))
def test_a_library_reads_our_frames(payload: bytes, opcode: int) -> None:
    payload = payload[:125] if opcode == PING else payload
    reader = StreamReader()
    reader.feed_data(client_frame(opcode, payload))
    reading = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as read:
        next(reading)
    assert (read.value.value.opcode, bytes(read.value.value.data)) == (opcode, payload)


MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([TEXT, BINARY]), st.binary(max_size=70_000)),
        st.tuples(st.sampled_from([PING, CLOSE]), st.binary(max_size=125)),
    ),
    max_size=8,
)


@given(MESSAGES, st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(1, 5))
def test_any_cut_gives_the_same_messages(messages: list[tuple[int, bytes]], cuts: list[int], parts: int) -> None:
    wire = b"".join(_sent(opcode, payload, parts) for opcode, payload in messages)
    heard: list[tuple[int, bytes]] = []
    frames = ServerFrames(lambda opcode, payload: heard.append((opcode, payload)))
    at = turn = 0
    while at < len(wire):
        size = cuts[turn % len(cuts)]
        frames.feed(wire[at : at + size])
        at, turn = at + size, turn + 1
    assert heard == messages


@pytest.mark.parametrize("wire", [b"\x81\x81abcd!", b"\xc1\x01x", b"\x80\x01x", b"\x01\x01x\x81\x01y"])
def test_what_no_server_may_send_is_refused(wire: bytes) -> None:
    with pytest.raises(BadFrame):
        ServerFrames(lambda opcode, payload: None).feed(wire)


def _sent(opcode: int, payload: bytes, parts: int) -> bytes:
    """As a server sends it: data in up to so many fragments."""
    if opcode >= CLOSE or parts == 1:
        return _frame(0x80 | opcode, payload)
    size = -(-len(payload) // parts) or 1
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    heads = [opcode if at == 0 else 0 for at in range(len(pieces))]
    heads[-1] |= 0x80
    return b"".join(_frame(head, piece) for head, piece in zip(heads, pieces, strict=True))


def _frame(first: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload
