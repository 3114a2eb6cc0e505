from gateway.evaluation.diarization import SpeechErrors, speech_errors, voice_errors
from gateway.evaluation.material import Turn
from gateway.evaluation.player import Arrived
from protocol.messages import Segment, ServerMessage, Speaker

TURNS = [Turn("agent", "Emma", 1.0, 5.0, ""), Turn("customer", "Noah", 6.0, 10.0, "")]


def segment(segment_id: str, begin_ms: int, end_ms: int, channel: int = 0) -> ServerMessage:
    return Segment(segment_id=segment_id, channel=channel, role="", state="closed", begin_ms=begin_ms, end_ms=end_ms)


def label(segment_id: str, state: str, name: str = "") -> ServerMessage:
    return Speaker(
        segment_id=segment_id, channel=0, role="", state=state, name=name, score=0, margin=0, net_speech_ms=0,  # type: ignore[arg-type]
        stable=True, candidates=[],
    )  # fmt: skip


def errors(
    *messages: ServerMessage, roles: tuple[str, ...] = ("mixed",), enrolled: tuple[str, ...] = ("Emma", "Noah")
) -> SpeechErrors:
    return speech_errors([Arrived(0, message) for message in messages], TURNS, roles, enrolled, 12_000)


def test_the_right_names_at_the_right_times_are_no_error() -> None:
    found = errors(
        segment("s1", 1000, 5000),
        label("s1", "known", "Emma"),
        segment("s2", 6000, 10_000),
        label("s2", "known", "Noah"),
    )
    assert found == SpeechErrors(spoken_ms=7000)
    assert found.rate == 0


def test_bounds_within_the_collar_do_not_count() -> None:
    found = errors(
        segment("s1", 800, 5200), label("s1", "known", "Emma"), segment("s2", 6200, 9800), label("s2", "known", "Noah")
    )
    assert found.rate == 0


def test_a_missing_segment_is_missed_and_a_wrong_name_confused() -> None:
    found = errors(segment("s1", 1000, 5000), label("s1", "known", "Noah"))
    assert (found.confused_ms, found.missed_ms) == (3500, 3500)
    assert found.rate == 1


def test_speech_heard_where_nobody_speaks_is_false() -> None:
    assert errors(segment("s3", 10_500, 11_500), label("s3", "known", "Emma")).false_ms == 1000


def test_a_voice_that_nobody_enrolled_is_right_when_it_is_unknown() -> None:
    found = errors(segment("s1", 1000, 5000), label("s1", "unknown"), enrolled=("Noah",))
    assert (found.confused_ms, found.missed_ms) == (0, 3500)


def test_channels_of_their_own_are_held_against_their_own_turns() -> None:
    found = errors(segment("s1", 6000, 10_000, channel=0), label("s1", "known", "Emma"), roles=("agent", "customer"))
    assert (found.false_ms, found.missed_ms) == (4000, 7000)


def by_number(*heard: tuple[int, int, int], overlaps: bool = False) -> SpeechErrors:
    return voice_errors(TURNS, heard, 12_000, overlaps=overlaps)


def test_whatever_numbers_the_voices_have_the_best_pairing_counts() -> None:
    for first, second in ((0, 1), (1, 0), (7, 3)):
        assert by_number((1000, 5000, first), (6000, 10_000, second)) == SpeechErrors(spoken_ms=7000)


def test_two_voices_taken_for_one_are_half_confused() -> None:
    assert by_number((1000, 5000, 0), (6000, 10_000, 0)).confused_ms == 3500


def test_a_voice_taken_for_two_is_confused_in_its_smaller_part() -> None:
    assert by_number((1000, 4000, 0), (4000, 5000, 2), (6000, 10_000, 1)).confused_ms == 750


def test_nothing_heard_and_nothing_said_are_counted_too() -> None:
    assert by_number() == SpeechErrors(spoken_ms=7000, missed_ms=7000)
    assert voice_errors([], [(0, 1000, 0)], 12_000, overlaps=False).false_ms == 1000


def test_where_two_speak_at_once_nothing_or_both_are_counted() -> None:
    turns = [Turn("agent", "Emma", 1.0, 5.0, ""), Turn("customer", "Noah", 3.0, 7.0, "")]
    heard = [(1000, 5000, 0), (5000, 7000, 1)]
    assert voice_errors(turns, heard, 8000, overlaps=False) == SpeechErrors(spoken_ms=3000)
    assert voice_errors(turns, heard, 8000, overlaps=True) == SpeechErrors(spoken_ms=6000, missed_ms=1500)
