"""The short way of a connection: whatever the cuts, what it takes are whole frames, and nothing changes its place."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Opcode

from gateway.doors.connection import NativeConnection
from gateway.doors.frames import FrameCutter, payloads_of
from tests.unit.doors.test_frames import framed

MOST = 4


class Listened(NativeConnection):
    """Past its upgrade, with a conversation that takes all audio it is offered, and more like it."""

    def __init__(self) -> None:
        self._frames = FrameCutter(1 << 18)
        self._alike = None
        self.came: list[bytes] = []
        """In order, whole frames of audio and whatever was left to the library."""
        self.waiting: list[bytes] = []
        self.taken: list[bytes] = []

    def _heard(self, frame: bytes, header_bytes: int) -> bool:
        self.waiting.append(frame)
        self.take_alike(self.waiting, header_bytes, MOST, self.look)
        return True

    def _parse(self, data: bytes) -> None:
        self.look()
        self.came.append(data)

    def look(self) -> None:
        self.came += self.waiting
        self.taken += self.waiting
        self.waiting = []
        self.take_on(self.waiting)


def streamed(stream: bytes, cuts: Sequence[int]) -> Listened:
    one, begin = Listened(), 0
    for end in [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]:
        if end > begin:
            one.data_received(stream[begin:end])
        begin = end
    one.look()
    return one


SOUND = framed(Opcode.BINARY, bytes(range(40)))
WITHIN = framed(Opcode.BINARY, b"\0" * 6 + SOUND, mask=b"\0\0\0\0")
"""A frame whose payload ends with what looks like another."""

Frames = st.lists(
    st.builds(
        framed,
        st.sampled_from([Opcode.BINARY, Opcode.BINARY, Opcode.BINARY, Opcode.TEXT, Opcode.CONT]),
        st.sampled_from([0, 1, 40, 125, 126, 300]).map(bytes),
        fin=st.sampled_from([True, True, True, False]),
    )
    | st.sampled_from([SOUND, WITHIN]),
    max_size=12,
)


@given(Frames, st.lists(st.integers(0, 5000), max_size=12))
@example([SOUND, WITHIN, SOUND], [len(SOUND), len(SOUND) + 12])
@example([SOUND, WITHIN], [len(SOUND) + 12])
def test_whole_frames_are_taken_and_all_else_stays_in_its_place(frames: list[bytes], cuts: list[int]) -> None:
    one = streamed(b"".join(frames), cuts)
    assert b"".join(one.came) + one._frames.rest() == b"".join(frames)  # type: ignore[union-attr]  # it has one
    assert all(taken in frames for taken in one.taken)


@given(st.lists(st.sampled_from([1, 3, 7, 20]), min_size=1))
def test_frames_of_one_shape_are_taken_alone_and_together(together: list[int]) -> None:
    one = Listened()
    for count in together:
        one.data_received(SOUND * count)
    one.look()
    assert one.taken == [SOUND] * sum(together)


def test_the_rest_of_a_frame_is_not_taken_for_another() -> None:
    one = streamed(SOUND + WITHIN, [len(SOUND) + 12])
    assert WITHIN.endswith(SOUND)
    assert b"".join(one.came) == SOUND + WITHIN
    assert one.taken == [SOUND]


@given(st.lists(st.sampled_from([0, 5, 125, 126, 65_535, 65_536, 70_000]).map(bytes), max_size=3))
def test_masks_are_taken_off_frames_of_any_length(payloads: list[bytes]) -> None:
    assert payloads_of([framed(Opcode.BINARY, data, mask=b"\1\2\3\4") for data in payloads]) == payloads
