"""`earshot qc` as people type it: what it prints, what it writes, and with which status it ends."""

import io
import json
import os
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from gateway.assembly.local_quality import LocalQuality
from gateway.cli import cli
from protocol.quality import TaskRequest
from tests.integration.hummed import DIALOGUE, RATE_HZ, HummingEngines, humming
from tests.integration.test_http_side import wav_of

Run = Callable[..., Result]
RULES = """
[[category]]
name = "Money back"
contents = ["refund", "refund&&!sorry"]

[[category]]
name = "Never said"
contents = ["zebra"]
"""
BROKEN = """
[[category]]
name = "Money back"
contents = ["refund&&"]
"""


@pytest.fixture
def earshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `earshot qc` in an empty folder; what it keeps meanwhile goes to `tmp_path/passing`."""
    for name in os.environ:
        if name.startswith("EARSHOT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "passing").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "passing"))

    def run(*arguments: object) -> Result:
        # What a command sets up for its process would stay for the tests after this one.
        logging = patch("gateway.commands.qc.configure_logging")
        with patch("gateway.assembly.local_quality.Engines", HummingEngines), logging, capture_logs():
            return CliRunner(env={"COLUMNS": "160"}).invoke(cli, ["qc", *map(str, arguments)])

    return run


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    file = tmp_path / "call.wav"
    file.write_bytes(wav_of(DIALOGUE))
    return file


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    """Left offers help, right wants a refund."""
    left, right = humming((0, 400), (100, 2000), (0, 3000)), humming((0, 3000), (130, 2000), (0, 400))
    data = io.BytesIO()
    with wave.open(data, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(np.stack([np.frombuffer(one, "<i2") for one in (left, right)], axis=1).tobytes())
    file = tmp_path / "stereo.wav"
    file.write_bytes(data.getvalue())
    return file


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    return file


def test_a_recording_is_shown_with_its_figures_hits_and_words(earshot: Run, speech: Path, rules: Path) -> None:
    done = earshot(speech, "--rules", rules)
    assert done.exit_code == 1, done.output
    lines = [" ".join(line.replace("│", " ").split()) for line in done.stdout.splitlines()]
    assert lines[0] == str(speech)
    assert "duration 0:09" in lines
    assert "silence 0:04" in lines
    assert "verdict not passed" in lines
    assert "Money back refund&&!sorry 0:06 I want a refund." in lines
    assert any(line.endswith("1 How can I help you?") for line in lines)
    assert "Never said" not in done.stdout


def test_without_a_hit_the_status_is_0_and_without_rules_there_is_no_verdict(
    earshot: Run, speech: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "rules.txt"
    plain.write_text("# one a line\nzebra\n")
    passed = earshot(speech, "--rules", plain)
    assert passed.exit_code == 0, passed.output
    assert "passed" in passed.stdout
    silent = earshot(speech)
    assert silent.exit_code == 0
    assert "verdict" not in silent.stdout
    assert "I want a refund." in silent.stdout


def test_json_is_the_result_object_of_the_api_one_a_line(earshot: Run, speech: Path, stereo: Path, rules: Path) -> None:
    done = earshot(speech, stereo, "--json", "--rules", rules)
    assert done.exit_code == 1
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["session_id"], first["state"], first["state_desc"]) == (str(speech), 2, "处理成功")
    assert first["asr_text"] == "How can I help you? I want a refund."
    assert first["pass_detection"] == "failed"
    assert [hit["category"] for hit in first["detection_result"]] == ["Money back"]
    assert first["detection_detail"]["hit"] is True
    assert {one["speaker_id"] for one in first["asr_result"]} == {0}
    assert [one["speaker_id"] for one in second["asr_result"]] == [0, 1], "two channels are split unless told otherwise"


def test_two_channels_may_be_mixed_and_one_cannot_be_split(earshot: Run, speech: Path, stereo: Path) -> None:
    mixed = json.loads(earshot(stereo, "--mix", "--json").stdout)
    assert {one["speaker_id"] for one in mixed["asr_result"]} == {0}
    done = earshot(speech, "--split", "--json")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["state"] == 3
    assert "is_split_channel needs two channels" in done.stdout


def test_what_is_asked_reaches_voice_qc_as_the_api_has_it(
    earshot: Run, speech: Path, stereo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[TaskRequest] = []

    async def asked(self: LocalQuality, request: TaskRequest, _: object) -> dict[str, object]:
        requests.append(request)
        return {"session_id": request.session_id, "state": 4, "state_desc": "not here"}

    monkeypatch.setattr(LocalQuality, "judge", asked)
    assert earshot(speech, stereo, "--speakers", "2", "--language", "zh", "--rate", "16000").exit_code == 2
    mono, two = requests
    assert (mono.role_num, mono.is_split_channel, mono.tells_speakers_apart) == (2, False, True)
    assert (two.role_num, two.is_split_channel, two.tells_speakers_apart) == (2, True, False)
    assert (mono.language, mono.sample_rate, mono.enable_detection) == ("zh", 16000, False)


def test_headerless_files_are_read_at_the_rate_given(earshot: Run, tmp_path: Path) -> None:
    file = tmp_path / "call.pcm"
    file.write_bytes(DIALOGUE)
    at_8k = json.loads(earshot(file, "--json", "--rate", "8000").stdout)
    assert (at_8k["call_duration"], "refund" in at_8k["asr_text"]) == (9, True)
    assert json.loads(earshot(file, "--json", "--rate", "16000").stdout)["call_duration"] == 4


def test_a_report_is_written_for_each_file(earshot: Run, speech: Path, rules: Path, tmp_path: Path) -> None:
    other = tmp_path / "folder" / speech.name
    other.parent.mkdir()
    other.write_bytes(speech.read_bytes())
    done = earshot("call.wav", "folder/call.wav", "--rules", rules, "--report", "reports", "--report-lang", "zh")
    assert done.exit_code == 1
    pages = sorted((tmp_path / "reports").iterdir())
    assert [page.name for page in pages] == ["call.wav.html", "folder-call.wav.html"]
    text = pages[1].read_text()
    assert "I want a <mark>refund</mark>." in text
    assert "语音质检报告" in text
    assert 'src="../folder/call.wav"' in text


def test_the_same_file_twice_is_judged_once(earshot: Run, speech: Path) -> None:
    assert len(earshot(speech, speech, "--json").stdout.splitlines()) == 1


def test_what_cannot_be_judged_is_named_and_the_rest_is_judged(earshot: Run, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound at all, only words " * 10)
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "torn.wav").write_bytes(b"RIFF" + bytes(3000))
    (tmp_path / "empty.wav").touch()
    done = earshot("missing.wav", "text.wav", "noise.bin", "torn.wav", "empty.wav", tmp_path, speech, "--json")
    assert done.exit_code == 2
    assert [json.loads(line)["session_id"] for line in done.stdout.splitlines()] == [str(speech)]
    for name, fault in (
        ("missing.wav", "No such file"),
        ("text.wav", "it is text"),
        ("noise.bin", "headerless PCM is taken from .pcm and .raw only"),
        ("torn.wav", ""),
        ("empty.wav", "it is empty"),
        (str(tmp_path), "Is a directory"),
    ):
        assert any(line.startswith(f"Error: {name}: ") and fault in line for line in done.stderr.splitlines()), name


def test_rules_with_a_fault_are_shown_with_a_caret_under_it_and_nothing_is_judged(
    earshot: Run, speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(BROKEN)
    done = earshot(speech, "--rules", "rules.toml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "rules.toml:4: error" in done.stderr
    lines = done.stderr.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.strip() == "^")
    assert "refund&&" in lines[at - 1]


def test_what_is_asked_wrongly_ends_with_status_2(earshot: Run, speech: Path) -> None:
    for arguments in (
        (),
        (speech, "--speakers", "3"),
        (speech, "--rules", "missing.toml"),
        (speech, "--config", "no.toml"),
    ):
        done = earshot(*arguments)
        assert (done.exit_code, done.stdout) == (2, ""), arguments
        assert done.stderr


def test_a_missing_model_ends_it_with_the_command_that_fetches_it(tmp_path: Path, speech: Path) -> None:
    environment = {"EARSHOT_MODELS_DIR": str(tmp_path / "nowhere")}
    with patch("gateway.commands.qc.configure_logging"):
        done = CliRunner(env=environment).invoke(cli, ["qc", str(speech)])
    assert done.exit_code == 2
    assert "earshot models pull" in done.stderr


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_whatever_ends_it_nothing_is_left_behind(
    earshot: Run, speech: Path, tmp_path: Path, fault: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[Path] = []

    async def interrupted(self: LocalQuality, *_: object) -> None:
        passed.extend((tmp_path / "passing").iterdir())
        raise fault

    monkeypatch.setattr(LocalQuality, "judge", interrupted)
    done = earshot(speech)
    assert done.exit_code == (130 if fault is KeyboardInterrupt else 2)
    assert ("RuntimeError" in done.stderr) == (fault is RuntimeError)
    assert passed
    assert list((tmp_path / "passing").iterdir()) == []
