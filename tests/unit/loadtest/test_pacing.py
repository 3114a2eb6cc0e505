"""What a softphone sends when, and what it makes of the acks: by a clock that the test holds."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.terminal.softphone import NotAudio
from loadtest.scenario import Phones
from loadtest.softphones.frames import BINARY, client_frame
from loadtest.softphones.listener import Listener, Measures
from loadtest.softphones.phone import Phone
from loadtest.softphones.socket import Target
from loadtest.softphones.speech import Script, script
from protocol.codec import encode
from protocol.messages import Ack, Ended, Flow, Segment, Speaker, Started

PCM = bytes(range(256)) * 125  # 16,000 samples, 2 s at 8 kHz


class Clock:
    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr("time.monotonic", one)
    monkeypatch.setattr(Phone, "_clock", staticmethod(one))
    return one


class Wired(Phone):
    """A phone whose socket is a list."""

    wire: list[bytes]

    def write(self, frame: bytes) -> None:
        self.wire.append(frame)


def phone(measures: Measures, played: Script, on_over: Callable[[Phone], None] = lambda one: None) -> Wired:
    one = Wired(
        Target("ws://h/v1/calls", "a", "s"),
        played,
        0,
        Listener(measures, played, 0),
        lateness_s=measures.lateness_s,
        on_live=lambda one: None,
        on_over=on_over,
        start=b"start",
    )
    one.wire = []
    return one


def started(one: Phone) -> None:
    limits: dict[str, int] = {}
    message = Started(call_id="c", seq=1, resume_token="t", resume_window_s=60, rate=8000, channels=1, limits=limits)
    one.heard(encode(message))


def test_a_frame_is_sent_when_its_last_sample_was_spoken(clock: Clock) -> None:
    measures, played = Measures(), script(PCM, Phones())
    one = phone(measures, played)
    started(one)
    assert one.act(50.019) == pytest.approx(50.020)
    assert one.wire == []
    assert one.act(50.021) == pytest.approx(50.040)
    assert one.wire == [client_frame(BINARY, PCM[:320])]


def test_a_late_harness_sends_everything_that_is_due_and_says_how_late_it_was(clock: Clock) -> None:
    measures, played = Measures(), script(PCM, Phones())
    one = phone(measures, played)
    started(one)
    clock.now_s = 50.1
    one.act(50.1)
    assert len(one.wire) == 5
    assert measures.lateness_s == pytest.approx([0.08, 0.06, 0.04, 0.02, 0.0])


def test_an_ack_counts_for_every_frame_it_covers_from_when_that_was_due(clock: Clock) -> None:
    measures, played = Measures(), script(PCM, Phones())
    one = phone(measures, played)
    started(one)
    clock.now_s = 51.0
    one.act(51.0)  # all of one second at once: late, which must not shorten any lag
    clock.now_s = 51.5
    one.heard(encode(Ack(call_id="c", seq=2, samples=480)))
    assert measures.values["ack_lag"] == pytest.approx([1.48, 1.46, 1.44])
    one.heard(encode(Ack(call_id="c", seq=3, samples=8000)))
    assert len(measures.values["ack_lag"]) == 50
    assert measures.values["ack_lag"][-1] == pytest.approx(0.5)


def test_a_number_that_is_missing_is_a_lost_message(clock: Clock) -> None:
    measures, played = Measures(), script(PCM, Phones())
    one = phone(measures, played)
    started(one)
    one.heard(encode(Ack(call_id="c", seq=4, samples=0)))
    one.heard(encode(Ack(call_id="c", seq=3, samples=0)))
    assert measures.counts == {"messages_lost": 2, "messages_disordered": 1}


def test_held_back_it_sends_nothing_and_then_all_of_it(clock: Clock) -> None:
    measures, played = Measures(), script(PCM, Phones())
    one = phone(measures, played)
    started(one)
    one.heard(encode(Flow(call_id="c", state="xoff", window_samples=0)))
    assert one.act(50.5) > 50.5
    assert one.wire == []
    clock.now_s = 50.5
    one.heard(encode(Flow(call_id="c", state="xon", window_samples=0)))
    assert len(one.wire) == 25
    assert measures.lateness_s == pytest.approx([0.0] * 25)  # what the server made wait is no lateness of ours
    assert one.act(50.51) == pytest.approx(50.52)


def test_it_hangs_up_after_the_frames_that_were_due_until_then(clock: Clock) -> None:
    measures, played, over = Measures(), script(PCM, Phones()), list[Phone]()
    one = phone(measures, played, over.append)
    started(one)
    one.hang_up_at_s = 50.05
    assert one.act(50.045) == 50.05
    assert one.act(50.06) == 0.0
    assert len(one.wire) == 3
    assert one.sent_samples == 320
    one.heard(encode(Ended(call_id="c", seq=2, samples=320, duration_ms=40, reason="hangup")))
    assert over == [one]
    assert one.failure == ""


def test_a_call_that_ends_otherwise_has_failed(clock: Clock) -> None:
    over = list[Phone]()
    one = phone(Measures(), script(PCM, Phones()), over.append)
    started(one)
    one.heard(encode(Ended(call_id="c", seq=2, samples=0, duration_ms=0, reason="internal")))
    assert over[0].failure == "ended: internal"


def label(segment_id: str, *, seq: int, net_speech_ms: int, heard_ms: int) -> Speaker:
    return Speaker(
        call_id="c",
        seq=seq,
        segment_id=segment_id,
        channel=0,
        role="mixed",
        state="unknown",
        name="",
        score=0,
        margin=0,
        net_speech_ms=net_speech_ms,
        stable=False,
        candidates=[],
        heard_ms=heard_ms,
    )


def test_events_are_timed_against_the_media_time_they_concern(clock: Clock) -> None:
    measures, played = Measures(), script(PCM, Phones())
    one = phone(measures, played)
    started(one)
    segment = {"call_id": "c", "segment_id": "1", "channel": 0, "role": "mixed"}
    clock.now_s = 51.5
    one.heard(encode(Segment(**segment, seq=2, at_ms=1400, state="opened", begin_ms=900, end_ms=1400)))  # type: ignore[arg-type]
    assert measures.values["segment_opened"] == pytest.approx([0.6])
    assert measures.values["segment_transit"] == pytest.approx([0.1])
    clock.now_s = 55.0
    one.heard(encode(label("1", seq=3, net_speech_ms=3000, heard_ms=4700)))  # 0.8 s of pauses, which are nobody's delay
    one.heard(encode(label("1", seq=4, net_speech_ms=5000, heard_ms=4900)))  # not its first
    assert measures.values["label"] == pytest.approx([0.3])
    short = segment | {"segment_id": "2"}
    one.heard(encode(Segment(**short, seq=5, at_ms=4500, state="opened", begin_ms=4000, end_ms=4500)))  # type: ignore[arg-type]
    one.heard(encode(label("2", seq=6, net_speech_ms=400, heard_ms=4500)))
    assert measures.values["label"] == pytest.approx([0.3])
    assert measures.values["label_at_close"] == pytest.approx([0.5])


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=5),
    st.sampled_from(["pcm_s16le", "pcmu", "pcma"]),
    st.integers(1, 2),
    st.integers(0, 50_000),
    st.integers(0, 1000),
)
def test_what_is_sent_is_what_a_recording_must_hold(
    frame_ms: list[int], encoding: str, channels: int, samples: int, first: int
) -> None:
    kind = Phones(frame_ms=tuple(frame_ms), encoding=encoding, channels=channels)  # type: ignore[arg-type]
    pcm = PCM * 6
    played = script(pcm, kind)
    first %= len(played.frames)
    sent, at = b"", first
    while len(sent) < samples * played.audio.bytes_per_instant:
        sent += played.payloads[at]
        at = (at + 1) % len(played.payloads)
    wanted = played.audio.to_pcm(sent[: samples * played.audio.bytes_per_instant])
    assert played.recording(first, samples) == wanted
    assert played.frames[first] == client_frame(BINARY, played.payloads[first])


def test_audio_that_is_too_short_for_its_frames_is_refused() -> None:
    with pytest.raises(NotAudio, match=r"a\.wav is shorter than 500 ms"):
        script(PCM[:100], Phones(frame_ms=(500,)), "a.wav")
