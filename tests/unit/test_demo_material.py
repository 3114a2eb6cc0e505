"""The demo's recordings, references and rules agree with one another; what is heard in them, the demo itself checks."""

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

DEMO = Path(__file__).parents[2] / "gateway" / "demo"
CALLS = DEMO / "calls"
LANGUAGES = ("en", "zh")
RATE_HZ = 16_000


def decode(path: Path) -> npt.NDArray[np.int16]:
    """Samples as [n, channels], at the file's own rate, which must be RATE_HZ."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.rate == RATE_HZ
        channels = stream.layout.nb_channels
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
    return np.concatenate([frame.reshape(-1, channels) for frame in frames]).astype(np.int16)


def reference(language: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((CALLS / f"{language}.json").read_text(encoding="utf-8"))
    return content


def categories(language: str) -> list[dict[str, Any]]:
    parsed = tomllib.loads((DEMO / "rules.toml").read_text(encoding="utf-8"))
    return [category for category in parsed["category"] if category["language"] == language]


def dbfs(value: float) -> float:
    return float(20 * np.log10(value / 32768))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_call_is_a_minute_or_so_of_unclipped_stereo(language: str) -> None:
    samples = decode(CALLS / f"{language}.flac")
    assert samples.shape[1] == 2
    assert 60 <= len(samples) / RATE_HZ <= 90
    for channel in samples.T:
        assert -6 <= dbfs(float(np.abs(channel.astype(float)).max())) <= -3


@pytest.mark.parametrize("language", LANGUAGES)
def test_turns_lie_inside_the_call_in_order_with_natural_pauses(language: str) -> None:
    call = reference(language)
    turns = call["turns"]
    assert call["rate_hz"] == RATE_HZ
    assert call["channels"] == ["agent", "customer"]
    assert call["language"] == language
    assert 10 <= len(turns) <= 14
    assert turns[0]["start_s"] > 0
    assert turns[-1]["end_s"] < len(decode(CALLS / f"{language}.flac")) / RATE_HZ
    pauses_s = [after["start_s"] - before["end_s"] for before, after in pairwise(turns)]
    overlaps_s = [pause_s for pause_s in pauses_s if pause_s < 0]
    assert len(overlaps_s) <= 1
    assert all(pause_s >= -0.3 for pause_s in overlaps_s)
    assert all(0.4 <= pause_s <= 1.2001 for pause_s in pauses_s if pause_s >= 0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_turns_bounds_are_those_of_the_speech(language: str) -> None:
    call = reference(language)
    samples = decode(CALLS / f"{language}.flac").astype(float)
    silent = np.ones(samples.shape, bool)
    for turn in call["turns"]:
        channel = call["channels"].index(turn["channel"])
        span = slice(round(turn["start_s"] * RATE_HZ), round(turn["end_s"] * RATE_HZ))
        silent[span, channel] = False
        assert dbfs(float(np.sqrt(np.mean(samples[span, channel] ** 2)))) > -30
    for channel in range(samples.shape[1]):
        between = samples[silent[:, channel], channel]
        level_dbfs = dbfs(float(np.sqrt(np.mean(between**2))))
        assert -72 < level_dbfs < -60, "a line is quiet between turns, but not digitally silent"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("channel", ["agent", "customer"])
def test_both_parties_speak_long_enough_to_be_identified(language: str, channel: str) -> None:
    lengths_s = [t["end_s"] - t["start_s"] for t in reference(language)["turns"] if t["channel"] == channel]
    assert sum(length_s > 4 for length_s in lengths_s) >= 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_enrolment_clip_is_the_agents_and_of_another_text(language: str) -> None:
    call = reference(language)
    clip = decode(CALLS / call["agent"]["enrol"])
    assert clip.shape[1] == 1
    assert 8 <= len(clip) / RATE_HZ <= 12
    assert {t["speaker"] for t in call["turns"] if t["channel"] == "agent"} == {call["agent"]["name"]}
    assert {t["speaker"] for t in call["turns"] if t["channel"] == "customer"} == {"unknown"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_rule_has_one_expectation_and_every_kind_of_rule_is_there(language: str) -> None:
    expected = reference(language)["expect"]
    named = [(item["category"], item["rule"]) for item in expected]
    assert sorted(named) == sorted((c["name"], rule) for c in categories(language) for rule in c["contents"])
    assert len(set(named)) == len(named)
    assert all(category["description"] for category in categories(language))
    outcomes = {(e["early"], e["retracted"], e["at_hangup"], e["qc"]) for e in expected}
    assert outcomes == {
        ("final", False, "final", "confirmed"),
        ("provisional", True, "retracted", "no_hit"),
        ("none", False, "final", "confirmed"),
        ("none", False, "none", "no_hit"),
    }
    shapes = {re.sub(r"[^&|!()]+", "a", item["rule"]) for item in expected}
    assert shapes == {"a", "a||a", "a&&a", "a&&!a", "!a"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_keyword_is_said_in_the_turns_it_is_expected_in_and_in_no_other(language: str) -> None:
    call = reference(language)
    for item in call["expect"]:
        for keyword in re.findall(r"[^&|!()]+", item["rule"]):
            pattern = re.compile(rf"\b{keyword}\b" if language == "en" else keyword, re.IGNORECASE)
            said = [number for number, turn in enumerate(call["turns"]) if pattern.search(turn["text"])]
            assert said == [heard["turn"] for heard in item["heard"] if heard["keyword"] == keyword]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_forbidden_word_comes_long_after_the_word_that_raised_the_alert(language: str) -> None:
    call = reference(language)
    (retracted,) = [item for item in call["expect"] if item["retracted"]]
    raised, forbidden = (call["turns"][heard["turn"]] for heard in retracted["heard"])
    assert forbidden["start_s"] - raised["end_s"] > 5


def test_the_recordings_stay_small() -> None:
    assert sum(file.stat().st_size for file in CALLS.iterdir()) < 3_000_000
