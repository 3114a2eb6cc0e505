"""Where utterances begin and end, decided frame by frame."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.call.segmenter import Boundary, Closed, Opened, Segmenter, SegmenterSettings, Spoke


def run(pattern: str, loudness: Callable[[int], float] = lambda _: 1.0, **settings: int) -> list[Boundary]:
    """Boundaries for frames written as `#` (speech) and `.` (not)."""
    segmenter = Segmenter(SegmenterSettings(**settings), loudness)
    boundaries = [one for frame in pattern for one in segmenter.step(frame == "#")]
    return boundaries + segmenter.flush()


def bounds(boundaries: list[Boundary]) -> list[tuple[int, int]]:
    """Begin and end of each segment, in frames."""
    begins = [one.begin for one in boundaries if isinstance(one, Opened)]
    ends = [one.end for one in boundaries if isinstance(one, Closed)]
    return list(zip(begins, ends, strict=True))


def test_200_ms_of_speech_open_a_segment_and_less_does_not() -> None:
    assert run("." * 50 + "#" * 9 + "." * 50) == []
    assert len(bounds(run("." * 50 + "#" * 10 + "." * 50))) == 1


def test_speech_with_short_holes_opens_within_half_as_long_again() -> None:
    assert len(bounds(run("." * 30 + "##." * 5 + "." * 50))) == 1
    assert run("." * 30 + "#." * 10 + "." * 50) == []


def test_short_noises_never_open() -> None:
    assert run((("#" * 9) + "." * 15) * 40) == []


def test_it_opens_with_a_lead_in_and_keeps_a_tail() -> None:
    (segment,) = bounds(run("." * 50 + "#" * 20 + "." * 50))
    assert segment == (50 - 15, 70 + 10)


def test_the_lead_in_stops_at_the_beginning_of_the_call() -> None:
    assert bounds(run("...." + "#" * 20 + "." * 50)) == [(0, 34)]


def test_every_frame_of_speech_is_told_also_those_that_opened_it() -> None:
    boundaries = run("." * 20 + "#" * 12 + "." * 5 + "#" * 3 + "." * 40)
    assert [one.index for one in boundaries if isinstance(one, Spoke)] == [*range(20, 32), *range(37, 40)]


def test_600_ms_of_silence_close_it_and_less_does_not() -> None:
    assert len(bounds(run("#" * 20 + "." * 29 + "#" * 20 + "." * 30))) == 1
    assert len(bounds(run("#" * 20 + "." * 30 + "#" * 20 + "." * 30))) == 2


def test_it_closes_with_the_frame_that_makes_the_silence_long_enough() -> None:
    segmenter = Segmenter(SegmenterSettings(), lambda _: 1.0)
    for _ in range(20):
        segmenter.step(True)
    assert segmenter.is_open
    assert all(segmenter.step(False) == [] for _ in range(29))
    assert segmenter.silence_frames == 29
    assert segmenter.step(False) == [Closed(30, split=False)]
    assert not segmenter.is_open


def test_the_end_of_the_audio_closes_what_is_open_within_the_audio() -> None:
    assert bounds(run("." * 30 + "#" * 20)) == [(15, 50)]
    assert bounds(run("." * 30 + "#" * 20 + "." * 5)) == [(15, 55)]
    assert bounds(run("." * 30 + "#" * 20 + "." * 20)) == [(15, 60)]


def test_back_to_back_segments_share_no_frame() -> None:
    first, second = bounds(run("#" * 20 + "." * 30 + "#" * 20 + "." * 30))
    assert first == (0, 30)
    assert second == (35, 80)
    touching = bounds(run("#" * 20 + "." * 30 + "#" * 20 + "." * 30, lead_ms=600))
    assert touching == [(0, 30), (30, 80)]


def test_a_long_segment_is_split_at_its_quietest_frame() -> None:
    boundaries = run("#" * 1200 + "." * 40, loudness=lambda frame: 0.1 if frame == 700 else 1.0)
    assert bounds(boundaries) == [(0, 700), (700, 1210)]
    split = next(one for one in boundaries if isinstance(one, Closed))
    assert split == Closed(700, split=True)


def test_a_split_comes_with_the_frame_that_makes_20_s() -> None:
    segmenter = Segmenter(SegmenterSettings(), lambda frame: -frame)
    assert not any(isinstance(one, Closed) for _ in range(999) for one in segmenter.step(True))
    assert segmenter.step(True)[1:3] == [Closed(999, split=True), Opened(999)]


def test_only_the_last_10_s_are_searched_for_a_quiet_frame() -> None:
    boundaries = run("#" * 1000 + "." * 40, loudness=lambda frame: 0.0 if frame < 500 else float(frame))
    assert bounds(boundaries)[0] == (0, 500)


def test_of_equally_quiet_frames_the_latest_is_taken() -> None:
    assert bounds(run("#" * 1000 + "." * 40))[0] == (0, 999)


def test_speech_after_the_cut_is_told_again_for_the_new_segment() -> None:
    boundaries = run("#" * 1000, loudness=lambda frame: 0.1 if frame == 990 else 1.0)
    assert boundaries[-12:] == [Opened(990), *(Spoke(at) for at in range(990, 1000)), Closed(1000, split=False)]


def test_a_segment_is_not_split_while_it_is_silent() -> None:
    segments = bounds(run("#" * 990 + "." * 25 + "#" * 5 + "." * 40, loudness=lambda frame: float(frame < 990)))
    assert segments == [(0, 1015), (1015, 1030)]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=12),
    st.sampled_from([{}, {"split_ms": 1000, "split_search_ms": 500}, {"lead_ms": 600, "tail_ms": 0}]),
)
def test_segments_lie_in_order_within_the_audio_and_never_overlap(
    runs: list[tuple[bool, int]], settings: dict[str, int]
) -> None:
    pattern = "".join(("#" if speech else ".") * frames for speech, frames in runs)
    boundaries = run(pattern, loudness=lambda frame: float(frame * 7919 % 101), **settings)
    segments = bounds(boundaries)
    edges = [edge for segment in segments for edge in segment]
    assert edges == sorted(edges)
    assert all(begin < end for begin, end in segments)
    assert not edges or edges[-1] <= len(pattern)
    spoken = {one.index for one in boundaries if isinstance(one, Spoke)}
    assert all(pattern[at] == "#" and any(begin <= at < end for begin, end in segments) for at in spoken)
