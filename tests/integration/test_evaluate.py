"""`earshot eval` as people type it: bad input first, and one whole evaluation of a demo call with real models."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.models_here import models_folder


def evaluated(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli, ["eval", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--set", "recognizer"), "--set recognizer: expected NAME=VALUE"),
        (("--set", "no_such=1"), "no setting is named 'no_such'"),
        (("--sweep", "speaker_score=45,"), "expected NAME=V1,V2"),
        (("--sweep", "recognizer=whisper-base,whisper-huge"), "whisper-huge"),
        (("--name", "nobody"), "there is no call nobody; there are demo-en, demo-zh"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_anything_is_played(arguments: tuple[str, ...], complaint: str) -> None:
    result = evaluated(*arguments)
    assert result.exit_code == 1
    assert complaint in result.output


def test_a_file_of_rules_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text('["refund"]')
    result = evaluated("--rules", file)
    assert result.exit_code == 1
    assert "rules.json" in result.output
    assert "expected JSON of" in result.output


def test_a_rule_that_does_not_parse_is_shown_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text('{"Money": ["refund&&"]}')
    result = evaluated("--rules", file)
    assert result.exit_code == 1
    assert "at index 8" in result.output


@pytest.mark.models
def test_the_demo_call_is_played_scored_and_reported_in_every_form(tmp_path: Path) -> None:
    models_folder()
    rules = tmp_path / "rules.json"
    rules.write_text('{"Greeting": ["thank you", "xylophone"]}')
    forms = {form: tmp_path / f"figures.{form}" for form in ("json", "html", "markdown")}
    options = [argument for form, path in forms.items() for argument in (f"--{form}", path)]
    result = evaluated("--name", "demo-en", "--speed", 4, "--rules", rules, *options)
    assert result.exit_code == 0, result.output
    figures = json.loads(forms["json"].read_text())["variants"]["stereo"]
    assert figures["call_minutes"] > 1
    assert figures["error_rate_live"]["en"]["rate"] < 0.2
    assert figures["diarization"]["rate"] < 0.5
    assert {one["rule"]: one["stood"] != "none" for one in figures["per_rule"]}["xylophone"] is False
    assert figures["label_ms"] == {"count": 0}, "no latency is claimed at another pace than real time"
    assert "<svg" in forms["html"].read_text()
    assert "| WER live, en |" in forms["markdown"].read_text()
