"""Frames of the wire become one stream: loss and overlap are arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.events import AudioArrived, AudioLost
from gateway.call.intake import MAX_HOLE_S, MAX_LEAD_S, Intake
from protocol.codec import ALL_CHANNELS, AudioFrame
from protocol.errors import ProtocolError
from tests.unit.call.sound import stereo

RATE_HZ = 8000


def ramp(begin: int, end: int, sign: int = 1) -> bytes:
    """Samples that hold their own position."""
    return b"".join((sign * (at % 30_000)).to_bytes(2, "little", signed=True) for at in range(begin, end))


def one(begin: int, end: int, channel: int = ALL_CHANNELS, sign: int = 1) -> AudioFrame:
    return AudioFrame(ramp(begin, end, sign), channel, 0, begin)


def both(begin: int, end: int) -> AudioFrame:
    return AudioFrame(stereo(ramp(begin, end), ramp(begin, end, -1)), ALL_CHANNELS, 0, begin)


def test_raw_audio_follows_what_came_before() -> None:
    intake = Intake(RATE_HZ, 1)
    assert intake.push(AudioFrame(ramp(0, 10))) == [AudioArrived(ramp(0, 10))]
    assert intake.push(AudioFrame(ramp(10, 15))) == [AudioArrived(ramp(10, 15))]
    assert intake.next_sample == 15


def test_raw_audio_of_two_channels_passes_as_it_is() -> None:
    frame = both(0, 10)
    assert Intake(RATE_HZ, 2).push(AudioFrame(frame.pcm)) == [AudioArrived(frame.pcm)]


def test_a_frame_without_audio_brings_nothing() -> None:
    for channels in (1, 2):
        intake = Intake(RATE_HZ, channels)
        assert intake.push(AudioFrame(b"")) == []
        assert intake.push(AudioFrame(b"", ALL_CHANNELS, 1, 0)) == []


def test_overlap_is_dropped() -> None:
    intake = Intake(RATE_HZ, 1)
    intake.push(one(0, 10))
    assert intake.push(one(4, 12)) == [AudioArrived(ramp(10, 12))]
    assert intake.push(one(2, 12)) == []
    assert intake.next_sample == 12


def test_a_hole_is_declared_and_filled_with_silence() -> None:
    intake = Intake(RATE_HZ, 1)
    intake.push(one(0, 10))
    assert intake.push(one(15, 20)) == [AudioLost(0, 10, 15, "network"), AudioArrived(bytes(10) + ramp(15, 20))]


def test_a_hole_in_all_channels_is_declared_for_each() -> None:
    intake = Intake(RATE_HZ, 2)
    lost_left, lost_right, arrived = intake.push(both(5, 8))
    assert (lost_left, lost_right) == (AudioLost(0, 0, 5, "network"), AudioLost(1, 0, 5, "network"))
    assert arrived == AudioArrived(bytes(20) + both(5, 8).pcm)


def test_channels_that_come_apart_are_put_together() -> None:
    intake = Intake(RATE_HZ, 2)
    assert intake.push(one(0, 10, 0)) == []
    assert intake.push(one(0, 6, 1, -1)) == [AudioArrived(both(0, 6).pcm)]
    assert intake.next_sample == 6
    assert intake.push(both(6, 12)) == [AudioArrived(both(6, 12).pcm)]


def test_a_channel_that_lags_over_2_s_is_given_up_for_that_stretch() -> None:
    intake = Intake(RATE_HZ, 2)
    assert intake.push(one(0, 100, 1, -1)) == []
    lead = MAX_LEAD_S * RATE_HZ
    assert intake.push(one(0, lead, 0)) == [AudioArrived(both(0, 100).pcm)]
    assert intake.push(one(lead, 100 + lead, 0)) == []
    lost, arrived = intake.push(one(100 + lead, 101 + lead, 0))
    assert lost == AudioLost(1, 100, 101 + lead, "network")
    assert arrived == AudioArrived(stereo(ramp(100, 101 + lead), bytes(2 * (lead + 1))))


def test_what_a_given_up_channel_sends_too_late_is_dropped() -> None:
    intake = Intake(RATE_HZ, 2)
    end = MAX_LEAD_S * RATE_HZ + 1
    intake.push(one(0, end, 0))
    assert intake.push(one(0, end, 1)) == []
    intake.push(one(end, end + 5, 0))
    assert intake.push(one(end - 5, end + 5, 1, -1)) == [AudioArrived(both(end, end + 5).pcm)]


def test_a_hole_of_120_s_is_taken_and_a_longer_one_refused() -> None:
    limit = MAX_HOLE_S * RATE_HZ
    lost, arrived = Intake(RATE_HZ, 1).push(one(limit, limit + 1))
    assert lost == AudioLost(0, 0, limit, "network")
    assert isinstance(arrived, AudioArrived) and len(arrived.pcm) == 2 * (limit + 1)
    intake = Intake(RATE_HZ, 1)
    with pytest.raises(ProtocolError, match="first sample index 960001, where 0 comes next: over 120 s") as refused:
        intake.push(one(limit + 1, limit + 2))
    assert refused.value.code == "bad_audio"
    assert intake.push(one(0, 3)) == [AudioArrived(ramp(0, 3))]


def test_a_refused_frame_changes_no_channel() -> None:
    limit = MAX_HOLE_S * RATE_HZ
    intake = Intake(RATE_HZ, 2)
    intake.push(one(0, 10, 0))
    with pytest.raises(ProtocolError):
        intake.push(both(limit + 5, limit + 6))
    assert intake.push(one(0, 10, 1, -1)) == [AudioArrived(both(0, 10).pcm)]


def test_a_resumed_call_goes_on_where_it_was() -> None:
    intake = Intake(RATE_HZ, 1, first_sample=100)
    assert intake.push(one(90, 110)) == [AudioArrived(ramp(100, 110))]


@given(st.integers(1, 2), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60), st.integers(0, 2)), max_size=20))
def test_every_position_is_what_was_sent_or_declared_lost(channels: int, frames: list[tuple[int, int, int]]) -> None:
    intake = Intake(RATE_HZ, channels)
    streams, lost = b"", [set[int]() for _ in range(channels)]
    for begin, length, way in frames:
        channel = way if way < channels else ALL_CHANNELS
        frame = both(begin, begin + length) if channels == 2 and way == 2 else one(begin, begin + length, channel)
        if way == 1 and channels == 2:
            frame = one(begin, begin + length, 1, -1)
        for event in intake.push(frame):
            if isinstance(event, AudioLost):
                lost[event.channel] |= set(range(event.from_sample, event.to_sample))
            else:
                streams += event.pcm
    width = 2 * channels
    assert len(streams) == width * intake.next_sample
    for at in range(intake.next_sample):
        for channel in range(channels):
            place = at * width + 2 * channel
            value = int.from_bytes(streams[place : place + 2], "little", signed=True)
            assert value == (0 if at in lost[channel] else at * (-1 if channel else 1))


def test_a_hole_after_a_pause_is_the_pause_and_may_be_long() -> None:
    intake = Intake(RATE_HZ, 1)
    intake.push(one(0, 10))
    intake.paused()
    after = 10 + (MAX_HOLE_S + 1) * RATE_HZ
    lost, arrived = intake.push(one(after, after + 2))
    assert lost == AudioLost(0, 10, after, "pause")
    assert isinstance(arrived, AudioArrived)
    assert intake.push(one(after + 5, after + 6))[0] == AudioLost(0, after + 2, after + 5, "network")
