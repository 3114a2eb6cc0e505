"""A recording holds what was sent, byte for byte, or it is said where not."""

import io
import wave

import pytest
from msgspec.structs import replace

from loadtest.scenario import Phones
from loadtest.server.recordings import chosen, difference
from loadtest.softphones.orders import Outcome
from loadtest.softphones.speech import script

SCRIPT = script(bytes(range(1, 201)) * 64, Phones())
OUTCOME = Outcome(
    call_id="c",
    phones=0,
    source=0,
    first_frame=3,
    sent_samples=8000,
    acked_samples=8000,
    failure="",
    segments=(),
    alerts=(),
)


def wav(pcm: bytes, rate_hz: int = 8000) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(pcm)
    return data.getvalue()


def test_the_very_bytes_are_right() -> None:
    assert difference(wav(SCRIPT.recording(3, 8000)), OUTCOME, SCRIPT) == ""


@pytest.mark.parametrize(
    ("pcm", "fault"),
    [
        (SCRIPT.recording(3, 7999), "has 7999 samples of 8000 sent and differs from 7999 on"),
        (SCRIPT.recording(3, 100) + b"\0\0" + SCRIPT.recording(3, 8000)[202:], "differs from 100 on"),
        (SCRIPT.recording(4, 8000), "differs from 0 on"),
    ],
)
def test_a_difference_is_told_with_its_place(pcm: bytes, fault: str) -> None:
    assert fault in difference(wav(pcm), OUTCOME, SCRIPT)


def test_another_rate_or_no_wav_at_all_is_told() -> None:
    assert "(16000, 1, 2)" in difference(wav(SCRIPT.recording(3, 8000), 16000), OUTCOME, SCRIPT)
    assert "no WAV" in difference(b"RIFF", OUTCOME, SCRIPT)


def test_calls_to_verify_are_taken_evenly_of_those_that_ended_well() -> None:
    outcomes = [replace(OUTCOME, call_id=str(at), failure="lost" if at % 2 else "") for at in range(20)]
    assert [one.call_id for one in chosen(outcomes, 3)] == ["0", "6", "12"]
    assert len(chosen(outcomes, None)) == len(chosen(outcomes, 50)) == 10
