"""`earshot voiceprint index` against a whole server."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.commands.voiceprint_index import index
from tests.integration.hummed import serving
from tests.voices import voice, wav

PAUSE = bytes(2 * 16000)
TALK = wav(PAUSE + voice(3, seconds=3) + PAUSE + PAUSE + voice(4, seconds=3) + PAUSE)


async def run(data: Path, *arguments: object) -> Result:
    given = [*map(str, arguments), "--data", str(data), "--app", "demo:secret"]
    return await asyncio.to_thread(CliRunner(env={"COLUMNS": "200"}).invoke, index, given)


async def test_files_are_indexed_listed_and_deleted(tmp_path: Path) -> None:
    data, talk, noise = tmp_path / "data", tmp_path / "talk.wav", tmp_path / "noise.txt"
    talk.write_bytes(TALK)
    noise.write_text("no audio")
    async with serving(data, apps="demo:secret") as server:
        address = ("--url", server.addresses.http)
        done = await run(data, talk, noise, *address)
        assert done.exit_code == 1  # for the one that is no audio
        assert f"{talk}: 2 passages found" in done.output
        assert f"{noise}: not indexed: " in done.output

        listed = await run(data, "--list", "--json", *address)
        (file,) = map(json.loads, listed.stdout.splitlines())
        assert (file["file"], file["passages"], listed.exit_code) == ("talk.wav", 2, 0)
        assert "talk.wav" in (await run(data, "--list", *address)).stdout

        deleted = await run(data, "--delete", file["file_id"], *address)
        assert (deleted.exit_code, deleted.stdout) == (0, f"{file['file_id']} is deleted\n")
        again = await run(data, "--delete", file["file_id"], *address)
        assert (again.exit_code, "no file" in again.output) == (1, True)
        assert (await run(data, "--list", *address)).stdout == "No file was indexed.\n"


@pytest.mark.parametrize(("arguments", "told"), [((), "name FILES"), (("--list", "--delete", "x"), "name FILES")])
async def test_what_to_do_must_be_said_once(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    result = await run(tmp_path, *arguments)
    assert (result.exit_code, told in result.output) == (2, True)


async def test_a_server_that_is_not_there_is_named(tmp_path: Path, unused_tcp_port: int) -> None:
    result = await run(tmp_path, "--list", "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert (result.exit_code, "is `earshot serve` running?" in result.output) == (1, True)
