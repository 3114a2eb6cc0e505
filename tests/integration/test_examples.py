"""The examples of the documents, run as their readers will run them, against a real server."""

import asyncio
import os
import sys
import wave
from pathlib import Path

from gateway.ports import Candidate
from tests.integration.world import SECRETS, Options, World, running
from tests.unit.call.sound import silence, voice

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


async def run(script: str, world: World, *arguments: str) -> list[str]:
    """The lines that an example prints; it must end by itself and well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / script),
        *(world.url, "demo", SECRETS["demo"], *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()


async def test_the_minimal_example_talks_to_a_server_without_our_code(world: World) -> None:
    lines = await run("minimal.py", world)
    [(_, call_id)] = world.records.records
    assert lines[0] == f"call {call_id}"
    assert any("ack {'samples': 8000}" in line for line in lines)
    assert lines[-1].endswith("ended {'samples': 8000, 'reason': 'hangup'}")


async def test_the_softphone_example_plays_a_file_and_prints_what_is_heard(tmp_path: Path) -> None:
    pcm = silence(200) + voice(700) + silence(700)
    with wave.open(str(tmp_path / "call.wav"), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(pcm)
    async with running(tmp_path / "data", Options(rules={"debt": ["refund"]})) as world:
        world.recognizer.finals = {"s1": "a refund please"}
        world.voiceprint.candidates = (Candidate("Anna", 90.0),)
        lines = await run("softphone.py", world, str(tmp_path / "call.wav"))
        [(_, call_id)] = world.records.records
        assert world.recorded_pcm(call_id) == pcm
    assert any(line.endswith("mixed: a refund please") for line in lines)
    assert any("mixed is undecided" in line for line in lines)
    assert any("Alert(" in line and "refund" in line for line in lines)
    assert lines[-1] == "ended after 1.6 s: hangup"
