"""The rolling label of a channel, and what it says of a call's channels together."""

from typing import Any

import pytest

from gateway.call.events import Hit
from gateway.call.settings import CallSettings
from gateway.call.speaker import Label, RollingLabel, SpeakerSettings, conflicts
from gateway.call.vad import VadSettings
from protocol.messages import Speaker
from tests.unit.call.shell import Shell
from tests.unit.call.sound import LoudnessGate, make_call, silence, stereo, voice

SETTINGS = SpeakerSettings(known_score=58.0, known_score_8k=60.0, margin=5.0, hysteresis=6.0)


def label(
    *rounds: tuple[str, dict[str, float]], one_party: bool = True, rate_hz: int = 16_000, ms: int = 3000
) -> Label:
    """The label after identifications, each (segment, scores by name)."""
    rolling = RollingLabel(SETTINGS, rate_hz, one_party=one_party)
    for segment_id, scores in rounds:
        hits = tuple(Hit(name, score) for name, score in sorted(scores.items(), key=lambda item: -item[1]))
        rolling.update(segment_id, ms, hits)
    return rolling.label


def test_nothing_is_decided_before_anyone_was_heard() -> None:
    assert label().state == "undecided"
    assert not label().stable


@pytest.mark.parametrize(
    ("score", "state"), [(58.0, "known"), (57.9, "undecided"), (52.0, "undecided"), (51.9, "unknown")]
)
def test_a_voice_is_known_from_the_threshold_and_unknown_below_the_band_under_it(score: float, state: str) -> None:
    one = label(("s1", {"ann": score}))
    assert one.state == state
    assert one.name == ("ann" if state == "known" else "")
    assert (one.score, one.margin) == (score, score)


def test_an_8_khz_line_asks_for_more() -> None:
    assert label(("s1", {"ann": 59.0}), rate_hz=8000).state == "undecided"
    assert label(("s1", {"ann": 60.0}), rate_hz=8000).state == "known"
    assert SETTINGS.threshold(16_000) == 58.0


def test_a_known_voice_beats_the_second_by_the_margin() -> None:
    assert label(("s1", {"ann": 70.0, "bob": 65.0})).state == "known"
    close = label(("s1", {"ann": 70.0, "bob": 65.1}))
    assert close.state == "undecided"
    assert close.margin == pytest.approx(4.9)
    assert [hit.name for hit in close.candidates] == ["ann", "bob"]


def test_nobody_enrolled_is_unknown() -> None:
    assert label(("s1", {})).state == "unknown"


def test_a_label_is_kept_a_little_below_the_threshold_and_so_does_not_flap() -> None:
    rounds = [("s1", {"ann": 60.0})]
    states = []
    for at, score in enumerate((57.0, 59.0, 56.5, 60.0, 55.0)):
        rounds.append((f"s{at + 2}", {"ann": score}))
        states.append(label(*rounds).state)
    assert states == ["known"] * 5


def test_a_label_once_lost_needs_the_full_threshold_again() -> None:
    lost = [("s1", {"ann": 60.0}), ("s2", {"ann": 40.0})]
    assert label(*lost).state == "unknown"
    assert label(*lost, ("s3", {"ann": 71.0})).state == "undecided"  # (60 + 40 + 71) / 3 = 57
    assert label(*lost, ("s3", {"ann": 75.0})).state == "known"


def test_a_kept_label_needs_no_margin_but_must_stay_first() -> None:
    assert label(("s1", {"ann": 70.0}), ("s2", {"ann": 60.0, "bob": 59.0}), one_party=False).name == "ann"
    swapped = label(("s1", {"ann": 70.0, "bob": 60.0}), ("s1", {"ann": 60.0, "bob": 61.0}))
    assert (swapped.state, swapped.name) == ("undecided", "")


def test_segments_of_one_party_count_together_by_their_speech() -> None:
    rolling = RollingLabel(SETTINGS, 16_000, one_party=True)
    rolling.update("s1", 3000, (Hit("ann", 80.0),))
    rolling.update("s2", 1000, (Hit("ann", 40.0),))
    assert rolling.label.score == pytest.approx(70.0)


def test_only_the_last_four_segments_count() -> None:
    many = [(f"s{at}", {"ann": 10.0}) for at in range(3)] + [(f"t{at}", {"ann": 90.0}) for at in range(4)]
    assert label(*many).score == 90.0


def test_a_later_answer_about_a_segment_replaces_the_earlier() -> None:
    assert label(("s1", {"ann": 40.0}), ("s1", {"ann": 80.0})).score == 80.0


def test_a_name_missing_from_an_answer_counts_as_no_better_than_its_last() -> None:
    pooled = label(("s1", {"ann": 80.0, "bob": 30.0}), ("s2", {"ann": 80.0, "cat": 40.0}))
    assert [(hit.name, hit.score) for hit in pooled.candidates] == [("ann", 80.0), ("bob", 35.0), ("cat", 35.0)]


def test_a_change_of_speaker_in_a_mono_call_shows_at_the_next_identified_segment() -> None:
    assert label(("s1", {"ann": 90.0}), ("s2", {"bob": 70.0, "ann": 30.0}), one_party=False).name == "bob"


def test_a_short_utterance_is_known_or_undecided_but_never_unknown() -> None:
    assert label(("s1", {"ann": 80.0}), ms=1500, one_party=False).state == "known"
    assert label(("s1", {"ann": 10.0}), ms=2980, one_party=False).state == "undecided"
    assert label(("s1", {"ann": 10.0}), ms=3000, one_party=False).state == "unknown"


def test_a_label_is_stable_after_6_s_of_speech_but_never_while_undecided() -> None:
    assert not label(("s1", {"ann": 80.0}), ms=5980).stable
    assert label(("s1", {"ann": 80.0}), ms=6000).stable
    assert label(("s1", {"ann": 80.0}), ("s2", {"ann": 80.0})).stable
    assert label(("s1", {"ann": 10.0}), ms=6000).stable
    assert not label(("s1", {"ann": 55.0}), ms=6000).stable


def test_at_most_ten_candidates_are_told() -> None:
    assert len(label(("s1", {f"v{at}": float(at) for at in range(20)})).candidates) == 10


def known(name: str) -> Label:
    return Label("known", name, 80.0, 40.0)


def test_one_voice_on_both_channels_is_a_conflict_of_both() -> None:
    assert conflicts({0: known("ann"), 1: known("ann")}, ("agent", "customer"), "") == {0, 1}
    assert conflicts({0: known("ann"), 1: known("bob")}, ("agent", "customer"), "") == set()


def test_the_agents_voice_on_the_customers_channel_is_a_conflict() -> None:
    labels = {0: Label(), 1: known("ann")}
    assert conflicts(labels, ("agent", "customer"), "ann") == {1}
    assert conflicts(labels, ("customer", "agent"), "ann") == set()
    assert conflicts({0: known("ann")}, ("mixed",), "ann") == set()


def test_an_undecided_voice_conflicts_with_nobody() -> None:
    assert conflicts({0: Label("undecided", "ann"), 1: known("ann")}, ("agent", "customer"), "") == set()


# --- in a call ---


def shell(**start: Any) -> Shell:
    settings = CallSettings(gate=LoudnessGate, vad=VadSettings("webrtc"), speaker=SETTINGS)
    return Shell(make_call(settings=settings, **start))


def speaker(messages: list[object]) -> Speaker:
    (one,) = (message for message in messages if isinstance(message, Speaker))
    return one


def test_the_message_tells_the_whole_label() -> None:
    one = shell(channels=2)
    one.hear(stereo(voice(3000), silence(3000)))
    said = speaker([*one.know(Hit("ann", 81.234), Hit("bob", 40.0))])
    assert (said.segment_id, said.channel, said.role, said.state, said.name) == ("s1", 0, "agent", "known", "ann")
    assert (said.score, said.margin, said.net_speech_ms, said.stable) == (81.23, 41.23, 3000, False)
    assert said.heard_ms == 3000
    assert [(hit.name, hit.score) for hit in said.candidates] == [("ann", 81.23), ("bob", 40.0)]


def test_the_message_tells_which_speech_completed_it_whenever_it_comes() -> None:
    one = shell(channels=2)
    quiet = silence(3900)
    one.hear(stereo(voice(2000) + silence(300) + voice(1600), quiet))
    said = speaker([*one.know(Hit("ann", 80.0))])
    assert (said.net_speech_ms, said.heard_ms) == (3000, 3300)


def test_a_refused_voice_leaves_the_label_as_it_was() -> None:
    one = shell(channels=2)
    one.hear(stereo(voice(8000), silence(8000)))
    one.know(Hit("ann", 80.0))
    assert speaker([*one.know(refused="clipped")]).name == "ann"


def test_a_refused_voice_where_anybody_may_speak_is_nobody_s() -> None:
    one = shell()
    one.hear(voice(3000) + silence(1000))
    one.know(Hit("ann", 80.0))
    one.hear(voice(3000) + silence(1000))
    said = speaker([*one.know(refused="clipped")])
    assert (said.segment_id, said.state, said.name) == ("s2", "undecided", "")


def test_a_segment_too_short_to_identify_takes_the_channels_label_where_it_has_one_party() -> None:
    one = shell(channels=2)
    one.hear(stereo(voice(3000) + silence(1000), silence(4000)))
    one.know(Hit("ann", 80.0))
    said = speaker([*one.hear(stereo(voice(500) + silence(1000), silence(1500)))])
    assert (said.segment_id, said.state, said.name, said.net_speech_ms) == ("s2", "known", "ann", 500)
    assert said.heard_ms == 4700  # where the utterance ends, which is a little after its speech


def test_a_segment_too_short_to_identify_is_undecided_where_anybody_may_speak() -> None:
    one = shell()
    one.hear(voice(3000) + silence(1000))
    one.know(Hit("ann", 80.0))
    said = speaker([*one.hear(voice(500) + silence(1000))])
    assert (said.state, said.name, said.score) == ("undecided", "", 0.0)


def test_a_mono_call_of_one_named_role_carries_one_party() -> None:
    one = shell(roles=["agent"])
    one.hear(voice(3000) + silence(1000))
    one.know(Hit("ann", 80.0))
    assert speaker([*one.hear(voice(500) + silence(1000))]).name == "ann"


def test_the_second_channel_to_show_a_voice_tells_the_conflict() -> None:
    one = shell(channels=2)
    one.hear(stereo(voice(3000), voice(3000)))
    assert speaker([*one.know(Hit("ann", 80.0))]).state == "known"
    clash = speaker([*one.know(Hit("ann", 75.0))])
    assert (clash.channel, clash.state, clash.name) == (1, "conflict", "ann")


def test_the_agent_named_by_the_client_is_watched_for_on_the_customers_channel() -> None:
    one = shell(channels=2, metadata={"agent": "ann"})
    one.hear(stereo(silence(3000), voice(3000)))
    assert speaker([*one.know(Hit("ann", 80.0))]).state == "conflict"


def test_an_agent_that_is_no_name_is_nobody() -> None:
    one = shell(channels=2, metadata={"agent": 7})
    one.hear(stereo(silence(3000), voice(3000)))
    assert speaker([*one.know(Hit("ann", 80.0))]).state == "known"


def test_an_older_answer_that_comes_late_changes_nothing() -> None:
    rolling = RollingLabel(SpeakerSettings(), 16000, one_party=True)
    label = rolling.update("s1", 8000, (Hit("ann", 80.0),))
    assert rolling.update("s1", 3000, (Hit("bob", 90.0),)) == label
