"""The cutter of frames beside the library's own parser: whatever comes, however cut, both find the same."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import apply_mask

from gateway.doors.frames import FrameCutter, Payload, text_frame

MAX_BYTES = 300
Seen = tuple[list[tuple[Opcode, bytes, bool]], list[object]]


def framed(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bytes = b"\1\2\3\4") -> bytes:
    """A frame, sound or not: the library's own writer would refuse a control frame that is too long."""
    size, high = len(data), 0x80 if mask else 0
    length = (
        bytes([high | size])
        if size < 126
        else bytes([high | 126]) + size.to_bytes(2)
        if size < 65_536
        else bytes([high | 127]) + size.to_bytes(8)
    )
    return bytes([(0x80 if fin else 0) | opcode]) + length + mask + (apply_mask(data, mask) if mask else data)


payloads = st.one_of(
    st.binary(max_size=20), st.integers(120, 320).map(bytes), st.sampled_from([65_535, 65_536]).map(bytes)
)
any_frames = st.builds(
    framed, st.sampled_from(Opcode), payloads, fin=st.booleans(), mask=st.binary(min_size=4, max_size=4)
)
audio_frames = st.builds(framed, st.just(Opcode.BINARY), st.binary(min_size=1, max_size=299))
unmasked_frames = st.builds(framed, st.sampled_from(Opcode), st.binary(max_size=200), mask=st.just(b""))
streams = st.lists(
    st.one_of(audio_frames, audio_frames, any_frames, unmasked_frames, st.binary(max_size=6)), max_size=12
).map(b"".join)
cuts = st.lists(st.integers(1, 400), min_size=1, max_size=40)


def chunks(stream: bytes, sizes: Sequence[int]) -> list[bytes]:
    cut, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        cut.append(stream[at : at + size])
        at, turn = at + size, turn + 1
    return cut


class Library:
    """The library's parser, after the handshake."""

    def __init__(self) -> None:
        self.protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=MAX_BYTES)
        self.seen: list[tuple[Opcode, bytes, bool]] = []

    def feed(self, data: bytes) -> None:
        self.protocol.receive_data(data)
        self.collect()

    def end(self) -> Seen:
        self.protocol.receive_eof()
        self.collect()
        return self.seen, [self.protocol.close_code, self.protocol.close_reason, self.protocol.data_to_send()]

    def collect(self) -> None:
        frames = [event for event in self.protocol.events_received() if isinstance(event, Frame)]
        self.seen += [(frame.opcode, bytes(frame.data), frame.fin) for frame in frames]


def by_the_library(pieces: Sequence[bytes]) -> Seen:
    library = Library()
    for piece in pieces:
        library.feed(piece)
    return library.end()


def on_the_short_way(pieces: Sequence[bytes]) -> Seen:
    """As the connection does it: whole binary frames past the library while nothing of a message is with it."""
    library, cutter = Library(), FrameCutter(MAX_BYTES)
    for data in pieces:
        for piece in cutter.cut(data):
            if isinstance(piece, bytes):
                library.feed(piece)
            elif library.protocol.state is State.OPEN and library.protocol.current_size is None:
                library.seen.append((Opcode.BINARY, piece.data(), True))
            else:
                library.feed(piece.frame)
    library.feed(cutter.rest())
    return library.end()


@settings(max_examples=300)
@given(stream=streams, sizes=cuts)
@example(framed(Opcode.TEXT, b"a", fin=False) + framed(Opcode.BINARY, b"no continuation"), [400])
@example(framed(Opcode.TEXT, b"a", fin=False) + framed(Opcode.BINARY, b"no continuation"), [5])
@example(framed(Opcode.BINARY, bytes(MAX_BYTES + 1)), [400])
@example(framed(Opcode.BINARY, bytes(MAX_BYTES + 1)), [1])
@example(framed(Opcode.CLOSE, b"\x03\xe8") + framed(Opcode.BINARY, b"after the close"), [400])
@example(framed(Opcode.BINARY, bytes(65_536)) + framed(Opcode.BINARY, b"after what is far too long"), [1000])
def test_any_stream_however_cut_gives_the_messages_and_closes_of_the_library_alone(
    stream: bytes, sizes: list[int]
) -> None:
    pieces = chunks(stream, sizes)
    assert on_the_short_way(pieces) == by_the_library(pieces)


@given(stream=streams, sizes=cuts)
def test_the_pieces_are_the_stream(stream: bytes, sizes: list[int]) -> None:
    cutter = FrameCutter(MAX_BYTES)
    pieces = [piece for data in chunks(stream, sizes) for piece in cutter.cut(data)]
    whole = b"".join(piece.frame if isinstance(piece, Payload) else piece for piece in pieces) + cutter.rest()
    assert whole == stream
    assert cutter.rest() == b""


@given(data=st.lists(st.binary(min_size=1, max_size=299), min_size=1, max_size=10))
def test_frames_that_come_whole_all_take_the_short_way(data: list[bytes]) -> None:
    cutter = FrameCutter(MAX_BYTES)
    pieces = list(cutter.cut(b"".join(framed(Opcode.BINARY, one) for one in data)))
    assert [piece.data() for piece in pieces if isinstance(piece, Payload)] == data
    assert len(pieces) == len(data)


def test_what_can_be_no_whole_binary_frame_leaves_at_once() -> None:
    cutter = FrameCutter(MAX_BYTES)
    assert list(cutter.cut(b"\x89")) == [b"\x89"]
    assert list(cutter.cut(b"\x80")) == [b"\x80"]
    assert list(cutter.cut(b"mask" + b"\x82")) == [b"mask"]
    assert list(cutter.cut(b"\x05")) == [b"\x82\x05"], "unmasked"
    assert list(cutter.cut(b"hello" + b"\x82\xff")) == [b"hello"]
    assert list(cutter.cut(bytes(8) + b"mas")) == []
    assert cutter.rest() == b"\x82\xff" + bytes(8) + b"mas"


@given(st.lists(st.one_of(audio_frames, audio_frames, any_frames, unmasked_frames, st.binary(max_size=6)), max_size=8))
def test_a_piece_that_is_one_whole_frame_is_seen_to_be_that_and_no_other_piece_is(pieces: list[bytes]) -> None:
    cutter, twin = FrameCutter(MAX_BYTES), FrameCutter(MAX_BYTES)
    for piece in pieces:
        header_bytes = cutter.whole(piece)
        cut = list(twin.cut(piece))
        if header_bytes:
            assert cut == [Payload(piece, header_bytes)]
        else:
            assert len(piece) < 8 or [one.frame for one in cut if isinstance(one, Payload)] != [piece]
            list(cutter.cut(piece))


@given(st.one_of(st.text(max_size=200), st.integers(120, 70_000).map("x".__mul__)))
def test_a_text_is_framed_as_the_library_frames_it(text: str) -> None:
    assert text_frame(text.encode()) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
