import json
import wave
from pathlib import Path

import pytest

from gateway.evaluation.material import NoMaterial, demo_material, labelled

TURN = {"channel": "agent", "speaker": "Emma", "start_s": 0.5, "end_s": 2.0, "text": "您好"}


def silence(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(32000))


def write(folder: Path, name: str, turns: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"turns": turns}))


def test_a_folder_of_calls_and_one_file_for_each_voice(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    (tmp_path / "voices").mkdir()
    write(tmp_path / "calls", "one", [TURN])
    silence(tmp_path / "calls" / "one.wav")
    silence(tmp_path / "voices" / "Emma.wav")
    material = labelled(tmp_path / "calls", [tmp_path / "voices"])
    assert [(call.name, call.language) for call in material.calls] == [("one", "zh")]
    assert list(material.voices) == ["Emma"]


def test_a_reference_without_audio_is_named(tmp_path: Path) -> None:
    write(tmp_path, "one", [TURN])
    with pytest.raises(NoMaterial, match=r"one\.json has no audio beside it"):
        labelled(tmp_path, [])


def test_a_turn_that_lacks_a_field_is_named(tmp_path: Path) -> None:
    write(tmp_path, "one", [{"channel": "agent"}])
    with pytest.raises(NoMaterial, match=r"one\.json: .*`speaker`"):
        labelled(tmp_path, [])


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NoMaterial, match=r"holds no NAME\.json"):
        labelled(tmp_path, [])


def test_a_folder_without_voices_says_so(tmp_path: Path) -> None:
    write(tmp_path, "one", [TURN])
    silence(tmp_path / "one.wav")
    (tmp_path / "voices").mkdir()
    with pytest.raises(NoMaterial, match="neither audio files to enrol"):
        labelled(tmp_path, [tmp_path / "voices"])


def test_calls_are_chosen_by_name_and_a_wrong_name_lists_the_right_ones() -> None:
    material = demo_material()
    assert [call.name for call in material.only(["demo-zh"], None).calls] == ["demo-zh"]
    assert len(material.only([], 1).calls) == 1
    with pytest.raises(NoMaterial, match="there are demo-en, demo-zh"):
        material.only(["demo-fr"], None)
