"""`earshot voiceprint` against whole servers: enrol, recognise, list, delete, import; and servers that go away."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.commands.voiceprint_import import entries_of
from tests.earshot_process import HUMMED, EarshotProcess
from tests.voices import encoded, voice, wav

APP = "shop:secret"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EarshotProcess]:
    with EarshotProcess(tmp_path / "data", {"EARSHOT_APPS": APP}, module=HUMMED) as one:
        yield one


async def run(server: EarshotProcess | str, *arguments: object, given: str | None = None) -> Result:
    url = server if isinstance(server, str) else server.http
    command = ["voiceprint", *map(str, arguments), "--url", url, "--app", APP]
    runner = CliRunner(env={"COLUMNS": "200"})
    return await asyncio.to_thread(runner.invoke, cli, command, given)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


async def test_a_voice_is_enrolled_recognised_listed_and_deleted(server: EarshotProcess, tmp_path: Path) -> None:
    written(tmp_path, {"one.wav": wav(voice(1)), "more.flac": encoded(voice(1, take=1), "flac", "flac")})
    written(tmp_path, {"two.wav": wav(voice(2)), "who.wav": wav(voice(1, take=5))})
    done = await run(server, "enrol", "张明", tmp_path / "one.wav", tmp_path / "more.flac")
    assert (done.exit_code, done.output) == (0, "张明 is enrolled from 2 recordings\n")
    assert (await run(server, "enrol", "Emma", tmp_path / "two.wav")).exit_code == 0

    taken = await run(server, "enrol", "Emma", tmp_path / "one.wav")
    assert taken.exit_code == 1
    assert "spk_name 'Emma' is already registered" in taken.output
    assert (await run(server, "enrol", "Emma", tmp_path / "two.wav", "--add", "--denoise")).exit_code == 0
    assert (await run(server, "enrol", "Emma", tmp_path / "two.wav", "--update")).exit_code == 0
    assert (await run(server, "enrol", "Emma", tmp_path / "two.wav", "--update", "--add")).exit_code == 2

    found = await run(server, "recognize", tmp_path / "who.wav", "--json")
    best = json.loads(found.stdout.splitlines()[0])
    assert (best["name"], best["score"] > 90, found.exit_code) == ("张明", True, 0)
    assert "张明" in (await run(server, "recognize", tmp_path / "who.wav", "--any-tag")).output
    nobody = await run(server, "recognize", tmp_path / "who.wav", "--tag", "elsewhere")
    assert (nobody.exit_code, nobody.stderr) == (1, "nobody is enrolled in organisation shop, tag elsewhere\n")

    assert (await run(server, "list")).stdout == "Emma\n张明\n"
    first = await run(server, "list", "--limit", 1)
    assert (first.stdout, first.stderr) == ("Emma\n", "1 of 2\n")
    links = [json.loads(line)["audio"] for line in (await run(server, "list", "--json")).stdout.splitlines()]
    assert all(link.startswith(server.http) for link in links)

    kept = await run(server, "delete", "Emma", given="n\n")
    assert kept.exit_code == 1
    assert "Delete 1 voice of organisation shop, tag agents for good?" in kept.output
    assert (await run(server, "list")).stdout == "Emma\n张明\n"
    gone = await run(server, "delete", "Emma", "Nobody", "--yes")
    assert (gone.exit_code, gone.stdout) == (1, "Emma is deleted\n")
    assert "Nobody: spk_name 'Nobody' is not registered" in gone.output
    asked = await run(server, "delete", "--all", given="y\n")
    assert "Delete all 1 voices" in asked.output
    assert (asked.exit_code, (await run(server, "list")).stdout) == (0, "")
    assert (await run(server, "delete")).exit_code == 2


async def test_poor_audio_and_wrong_credentials_are_told_in_plain_words(server: EarshotProcess, tmp_path: Path) -> None:
    written(tmp_path, {"quiet.wav": wav(bytes(32000))})
    poor = await run(server, "enrol", "a", tmp_path / "quiet.wav")
    assert (poor.exit_code, poor.stderr) == (
        1,
        "Error: the audio is silent: its loud parts reach -100.0 dBFS\n",
    )
    wrong = CliRunner().invoke
    command = ["voiceprint", "list", "--url", server.http, "--app", "shop:guess"]
    refused = await asyncio.to_thread(wrong, cli, command)
    assert refused.exit_code == 1
    assert "does not accept the credentials of app shop" in refused.output
    assert "guess" not in refused.output
    malformed = await asyncio.to_thread(wrong, cli, [*command[:-1], "shop"])
    assert "--app must look like appid:secret" in malformed.output


async def test_a_server_that_is_not_there_is_said_with_how_to_start_it(tmp_path: Path) -> None:
    refused = await run(f"http://127.0.0.1:{free_port()}", "list")
    assert refused.exit_code == 1
    assert "start the server with `earshot serve`" in refused.output


async def test_the_server_of_the_data_folder_and_the_local_app_are_found_without_being_named(tmp_path: Path) -> None:
    with EarshotProcess(tmp_path / "data", module=HUMMED):
        command = ["voiceprint", "list", "--data", str(tmp_path / "data")]
        assert (await asyncio.to_thread(CliRunner().invoke, cli, command)).exit_code == 0


# --- import ---


def test_a_folder_s_voices_are_its_files_and_its_folders(tmp_path: Path) -> None:
    decomposed = "Jose\u0301"
    names = (
        "b.wav",
        "a/2.flac",
        "a/1.WAV",
        "a/notes.txt",
        f"{decomposed}.mp3",
        ".hidden.wav",
        "README",
        "a/deep/x.wav",
    )
    written(tmp_path, dict.fromkeys(names, b""))
    entries, others = entries_of(tmp_path)
    assert [(one.name, [path.name for path in one.files]) for one in entries] == [
        ("Jos\u00e9", [f"{decomposed}.mp3"]),
        ("a", ["1.WAV", "2.flac"]),
        ("b", ["b.wav"]),
    ]
    assert {path.name for path in others} == {"README", "notes.txt", "deep"}


async def test_an_import_enrols_what_it_can_reports_the_rest_and_passes_over_what_is_there(
    server: EarshotProcess, tmp_path: Path
) -> None:
    folder = written(
        tmp_path / "voices",
        {
            "张明.wav": wav(voice(1)),
            "Emma/1.flac": encoded(voice(2), "flac", "flac"),
            "Emma/2.wav": wav(voice(2, take=1)),
            "Noise.wav": wav(bytes(32000)),
            "Letter.mp3": b"dear sir",
            "notes.txt": b"not audio",
        },
    )
    done = await run(server, "import", folder)
    assert done.exit_code == 1
    assert "2 enrolled, 2 refused" in done.stdout
    assert "Letter.mp3" in done.stdout
    assert "passed over, no recording by its name" in done.stderr
    assert sorted((await run(server, "list")).stdout.split()) == ["Emma", "张明"]

    again = await run(server, "import", folder, "--json")
    told = {one["name"]: one for one in map(json.loads, again.stdout.splitlines())}
    assert {name: one["outcome"] for name, one in told.items()} == {
        "张明": "there already",
        "Emma": "there already",
        "Noise": "refused",
        "Letter": "refused",
    }
    assert "decoded" in told["Letter"]["reason"]
    (folder / "Noise.wav").unlink()
    (folder / "Letter.mp3").unlink()
    replaced = await run(server, "import", folder, "--update")
    assert (replaced.exit_code, replaced.stdout) == (0, "2 updated\n")
    assert "holds no recordings" in (await run(server, "import", written(tmp_path / "none", {"a.txt": b""}))).output


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


async def names_on(url: str) -> list[str]:
    app_id, _, secret = APP.partition(":")
    async with aiohttp.ClientSession() as session:
        api = VoiceprintHttp(url, session, credentials=lambda _: (app_id, secret), now=time.time)
        return [one.name for one in await api.voices(app_id, app_id, "agents", limit=10_000)]


async def at_least(url: str, count: int) -> None:
    """Wait until so many voices are enrolled."""
    while True:
        if len(await names_on(url)) >= count:
            return
        await asyncio.sleep(0.01)


async def import_process(url: str, folder: Path) -> asyncio.subprocess.Process:
    arguments = ["voiceprint", "import", str(folder), "--url", url, "--app", APP]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", *arguments, stdout=asyncio.subprocess.PIPE
    )


async def test_no_voice_is_lost_when_the_server_is_killed_during_an_import(tmp_path: Path) -> None:
    """kill -9; the import waits for the server, and each voice is there once and is found."""
    count = 40
    folder = written(tmp_path / "voices", {f"v{n:03}.wav": wav(voice(n, seconds=0.5)) for n in range(count)})
    http, ws, data = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", tmp_path / "data"
    url = f"http://{http}"
    importing = None
    for reached in (15, count):
        with EarshotProcess(data, {"EARSHOT_APPS": APP}, module=HUMMED, http=http, ws=ws):
            importing = importing or await import_process(url, folder)
            await at_least(url, reached)
            if reached == count:
                output, _ = await importing.communicate()
                names = await names_on(url)
                clip = tmp_path / "who.wav"
                clip.write_bytes(wav(voice(33, take=3)))
                found = await run(url, "recognize", clip, "--json")
    assert (importing.returncode if importing else None, output.decode()) == (0, f"{count} enrolled\n")
    assert sorted(names) == [f"v{n:03}" for n in range(count)]
    assert json.loads(found.stdout.splitlines()[0])["name"] == "v033"
