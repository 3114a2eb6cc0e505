"""The delay line of a channel: answers take effect at their position, however late they come."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.vad import BLOCK_MS, BlockAsked, ChannelVad, VadMode, VadSettings

LOUD, QUIET = b"\1", b"\0"


class Told:
    """A gate that reads the decision off the frame."""

    def is_speech(self, frame: bytes) -> bool:
        return frame == LOUD


def vad(mode: VadMode = "webrtc+silero", **settings: float) -> ChannelVad:
    return ChannelVad(VadSettings(mode, **settings), Told())  # type: ignore[arg-type]


def run(
    line: ChannelVad,
    pattern: str,
    answer: Callable[[int], tuple[float, ...] | None],
    late: Callable[[int], bool] = lambda _: False,
) -> list[tuple[int, bool]]:
    """Each decision with the frame that brought it; answers come at once, or only when nothing goes on without."""
    asked: list[BlockAsked] = []
    decided: list[tuple[int, bool]] = []
    for at, frame in enumerate(pattern):
        while line.blocked():
            line.answer(asked[0].ordinal, answer(asked.pop(0).ordinal))
        block = line.push(LOUD if frame == "#" else QUIET)
        if block is not None:
            asked.append(block)
        decided += [(at, speech) for speech in line.decisions()]
        while asked and not late(asked[0].ordinal):
            line.answer(asked[0].ordinal, answer(asked.pop(0).ordinal))
    for block in asked:
        line.answer(block.ordinal, answer(block.ordinal))
    return decided + [(len(pattern), speech) for speech in line.flush()]


def decisions(decided: list[tuple[int, bool]]) -> str:
    return "".join("#" if speech else "." for _, speech in decided)


YES, NO = (0.9, 0.9, 0.9), (0.1, 0.1, 0.1)


def test_the_gate_alone_decides_at_once() -> None:
    line = vad("webrtc")
    assert line.push(LOUD) is None
    assert line.decisions() == [True]
    assert not line.waiting
    assert not line.blocked()
    assert line.flush() == []


def test_where_the_gate_lets_nothing_through_nothing_is_asked() -> None:
    assert decisions(run(vad(), "." * 60, lambda _: pytest.fail("asked"))) == "." * 60


def test_the_model_overrules_the_gate() -> None:
    assert decisions(run(vad(), "#" * 24, lambda _: NO)) == "." * 24
    assert decisions(run(vad(), "#" * 24, lambda _: YES)) == "#" * 24


def test_a_block_is_asked_about_for_its_own_frames_however_late_answers_take_effect() -> None:
    asked: list[BlockAsked] = []
    line = vad(confirm_delay_ms=400)
    for frame in "####" + "." * 16:
        block = line.push(LOUD if frame == "#" else QUIET)
        asked += [block] if block is not None else []
    assert [(block.begin_ms, block.end_ms) for block in asked] == [(0, 96)]


def test_the_model_may_hear_speech_in_frames_that_the_gate_missed() -> None:
    assert decisions(run(vad(), "#" + "." * 23, lambda ordinal: YES))[:5] == "#####"


def test_the_gate_decides_where_the_model_has_no_answer() -> None:
    assert decisions(run(vad(), "##..##" * 4, lambda _: None)) == "##..##" * 4


def test_each_window_of_32_ms_decides_its_own_frames() -> None:
    assert decisions(run(vad(), "#" * 5, lambda _: (0.9, 0.1, 0.9)))[:5] == "##.##"


def test_only_the_last_three_probabilities_count() -> None:
    assert decisions(run(vad(), "#" * 5, lambda _: (0.9, 0.9, 0.9, 0.1, 0.1, 0.1))) == "....."


def test_speech_stays_speech_down_to_the_lower_threshold() -> None:
    assert decisions(run(vad(), "#" * 5, lambda _: (0.9, 0.4, 0.3))) == "###.."
    assert decisions(run(vad(), "#" * 5, lambda _: (0.4, 0.4, 0.4))) == "....."


def test_a_question_after_a_silent_block_starts_the_model_anew() -> None:
    line = vad()
    asked: list[BlockAsked] = []
    for frame in "#" * 12 + "." * 12 + "#" * 12:
        while line.blocked():
            line.answer(asked[-1].ordinal, YES)
        block = line.push(LOUD if frame == "#" else QUIET)
        if block is not None:
            asked.append(block)
        line.decisions()
    fresh = [block.fresh for block in asked]
    assert fresh[0] and sum(fresh) == 2
    assert fresh[-1] is False
    assert all(block.end_ms - block.begin_ms == BLOCK_MS for block in asked)


def test_a_frame_that_needs_an_answer_waits_for_it() -> None:
    line = vad()
    pushed = 0
    while not line.blocked():
        line.push(LOUD)
        pushed += 1
        assert line.decisions() == []
    assert pushed == 7  # the eighth frame ends 160 ms into the call: at least 96 + 60
    line.answer(1, YES)
    assert not line.blocked()
    line.push(LOUD)
    assert line.decisions() == [True] * 5


def test_an_answer_to_no_open_question_is_refused() -> None:
    line = vad()
    for _ in range(5):
        line.push(LOUD)
    line.answer(1, YES)
    with pytest.raises(ValueError, match="no open question 1"):
        line.answer(1, YES)
    with pytest.raises(ValueError, match="no open question 7"):
        line.answer(7, YES)


def test_who_stops_waiting_leaves_open_questions_to_the_gate() -> None:
    line = vad()
    waiting = []
    for frame in "#####.":
        line.push(LOUD if frame == "#" else QUIET)
        waiting.append(line.waiting)
    line.stop_waiting()
    assert [*waiting, line.waiting] == [False] * 4 + [True, True, False]
    assert line.flush() == [True] * 5 + [False]


def test_the_gate_decides_a_broken_last_block() -> None:
    assert decisions(run(vad(), "#####" + "#.#", lambda _: NO)) == "....." + "#.#"


def test_where_the_model_decides_alone_the_gate_stands_in_for_a_broken_last_block_and_a_dead_model() -> None:
    assert decisions(run(vad("silero"), "." * 8, lambda _: YES)) == "#" * 5 + "..."
    assert decisions(run(vad("silero"), "..###", lambda _: None)) == "..###"


def test_the_model_alone_is_asked_about_every_block() -> None:
    assert decisions(run(vad("silero"), "." * 5, lambda _: YES)) == "#####"


@given(
    st.text("#.", min_size=1, max_size=80),
    st.lists(st.tuples(*[st.sampled_from([0.1, 0.4, 0.9])] * 3) | st.none(), min_size=1, max_size=5),
    st.lists(st.booleans(), min_size=1, max_size=5),
    st.sampled_from(["webrtc+silero", "webrtc", "silero"]),
    st.sampled_from([0, 20, 40, 60, 100, 300]),
)
def test_late_answers_decide_the_same_at_the_same_frame(
    pattern: str,
    answers: list[tuple[float, ...] | None],
    late: list[bool],
    mode: VadMode,
    delay_ms: int,
) -> None:
    def answer(ordinal: int) -> tuple[float, ...] | None:
        return answers[ordinal % len(answers)]

    at_once = run(vad(mode, confirm_delay_ms=delay_ms), pattern, answer)
    belated = run(vad(mode, confirm_delay_ms=delay_ms), pattern, answer, lambda ordinal: late[ordinal % len(late)])
    assert at_once == belated
    assert len(at_once) == len(pattern)
