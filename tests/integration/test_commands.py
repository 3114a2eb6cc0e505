"""The commands as people type them: what they print, and how they fail."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner, Result

from gateway.assembly.clock import SystemClock
from gateway.cli import cli
from gateway.ports import QualityTask
from gateway.stores.outbox import SCHEMA, Outbox
from gateway.stores.serving import note_addresses
from gateway.stores.sqlite import Database
from protocol.messages import Ended, Start
from tests.client import play
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import DIALOGUE, client_of, eventually, serving
from tests.integration.test_http_side import wav_of

FREE_PORTS = {"HTTP": "127.0.0.1:0", "WS": "127.0.0.1:0"}
Run = Callable[..., Result]


@pytest.fixture
def earshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder, with no settings but those given."""
    for name in os.environ:
        if name.startswith("EARSHOT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, settings: Mapping[str, str] | None = None) -> Result:
        environment = {"COLUMNS": "200", **{f"EARSHOT_{name}": value for name, value in (settings or {}).items()}}
        return CliRunner(env=environment).invoke(cli, [str(one) for one in arguments])

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EarshotProcess]:
    environment = {"EARSHOT_APPS": "demo:secret", "EARSHOT_QC_POLL_S": "0.05"}
    with EarshotProcess(tmp_path_factory.mktemp("commands") / "data", environment, module=HUMMED) as one:
        yield one


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    file = tmp_path / "call.wav"
    file.write_bytes(wav_of(DIALOGUE))
    return file


def failed(result: Result, *texts: str) -> None:
    """It ended with status 1 and an error that a person can read, with no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    for text in texts:
        assert text in result.output


# --- help --------------------------------------------------------------------------------------------------------


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands(cli)), ids=[" ".join(path) for path, _ in commands(cli)])
def test_every_command_and_option_says_what_it_is_for(
    earshot: Run, path: tuple[str, ...], command: click.Command
) -> None:
    shown = earshot(*path, "--help")
    assert shown.exit_code == 0
    assert command.help
    assert command.help.splitlines()[0] in " ".join(shown.output.split())
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag:
            assert option.help or option.metavar or isinstance(option.type, click.Choice), option.name


def test_there_are_the_commands_that_the_readme_names(earshot: Run) -> None:
    assert {"serve", "call", "demo", "models", "doctor", "app"} <= set(cli.commands)
    assert earshot("--version").output.endswith(" 0.1.0\n")


# --- call --------------------------------------------------------------------------------------------------------


def test_a_file_is_played_into_a_server_and_its_messages_printed(
    earshot: Run, server: EarshotProcess, speech: Path
) -> None:
    played = earshot("call", speech, "--url", server.ws, "--app", "demo:secret", "--speed", 0, "--json")
    assert played.exit_code == 0, played.output
    lines = played.output.splitlines()
    assert '"type":"started"' in lines[0]
    assert '"type":"ended"' in lines[-1]
    shown = earshot(
        *("call", speech, "--data", server.data, "--rate", 8000, "--encoding", "pcma", "--mono", "--speed", 0),
        settings={"APPS": "demo:secret"},
    )
    assert shown.exit_code == 0, shown.output
    assert "I want a refund." in shown.output
    assert "verdict passed: no rule was hit" in shown.output


def test_a_call_whose_verdict_is_not_waited_for_ends_with_status_1(
    earshot: Run, server: EarshotProcess, speech: Path
) -> None:
    played = earshot("call", speech, "--url", server.ws, "--app", "demo:secret", "--speed", 0, "--wait-qc", 0)
    assert played.exit_code == 1
    assert "qc_pending" in played.output


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"not a sound at all\n" * 50, "holds no sound"), (b"", "is no audio"), (None, "no such file")],
)
def test_a_file_that_is_no_audio_is_refused_before_anybody_is_called(
    earshot: Run, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "notes.txt"
    if content is not None:
        file.write_bytes(content)
    failed(earshot("call", file), "notes.txt", reason)


def test_a_picture_is_no_audio(earshot: Run, tmp_path: Path) -> None:
    file = tmp_path / "dot.ppm"
    file.write_bytes(b"P6 16 16 255\n" + bytes(768))
    failed(earshot("call", file), "dot.ppm")


def test_a_folder_is_no_audio(earshot: Run, tmp_path: Path) -> None:
    failed(earshot("call", tmp_path), str(tmp_path))


def test_a_call_that_nobody_answers_says_so(earshot: Run, speech: Path, unused_port: int) -> None:
    failed(
        earshot("call", speech, "--url", f"ws://127.0.0.1:{unused_port}/v1/calls"),
        f"nobody answers at ws://127.0.0.1:{unused_port}/v1/calls",
        "is `earshot serve` running?",
    )


def test_a_url_that_is_none_is_named(earshot: Run, speech: Path) -> None:
    failed(earshot("call", speech, "--url", "http://127.0.0.1:1/v1/calls"), "http://127.0.0.1:1/v1/calls")


def test_a_server_that_is_no_earshot_is_named(earshot: Run, server: EarshotProcess, speech: Path) -> None:
    url = server.http.replace("http", "ws") + "/v1/calls"
    failed(earshot("call", speech, "--url", url, "--app", "demo:secret"), "refused")


def test_wrong_credentials_are_refused_with_the_servers_reason(
    earshot: Run, server: EarshotProcess, speech: Path
) -> None:
    failed(earshot("call", speech, "--url", server.ws, "--app", "demo:guess"), "access_denied")
    failed(earshot("call", speech, "--url", server.ws, "--app", "demo"), "--app must look like appid:secret")
    # Without any, the app of a server that was not configured.
    failed(earshot("call", speech, "--url", server.ws), "access_denied")


# --- doctor ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_doctor_names_missing_models_and_the_command_that_fetches_them(earshot: Run, tmp_path: Path) -> None:
    looked = earshot(
        "doctor", settings={"MODELS_DIR": str(tmp_path / "none"), "HTTP": "127.0.0.1:0", "WS": "127.0.0.1:0"}
    )
    assert looked.exit_code == 1
    for model in ("whisper-base", "campplus"):
        assert f"run `earshot models pull {model}`" in " ".join(looked.output.split())
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"


def test_doctor_shows_where_each_setting_comes_from_and_hides_secrets(earshot: Run, tmp_path: Path) -> None:
    (tmp_path / "earshot.toml").write_text('max_calls = 7\nws = "127.0.0.1:0"\nquality_app = "client:s3cret"\n')
    looked = earshot("doctor", "--data", "elsewhere", settings={"APPS": "shop:s3cret,desk:s3cret", "MAX_CALLS": "9"})
    rows = {row[0]: row[1:] for row in (line.split() for line in looked.output.replace("│", " ").splitlines()) if row}
    assert rows["max_calls"] == ["9", "environment"]
    assert rows["ws"] == ["127.0.0.1:0", "earshot.toml"]
    assert rows["data"] == ["elsewhere", "command"]
    assert rows["resume_window_s"][1] == "default"
    assert rows["apps"] == ["shop:***,", "desk:***", "environment"]
    assert rows["quality_app"] == ["client:***", "earshot.toml"]
    assert "s3cret" not in looked.output


def test_doctor_survives_credentials_that_are_half_written(earshot: Run) -> None:
    looked = earshot("doctor", settings={"VOICEPRINT_APP": "s3cret-alone", "MODELS_DIR": "none"})
    assert isinstance(looked.exception, SystemExit)
    assert "s3cret" not in looked.output
    assert "voiceprint_app" in looked.output


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        ({"MAX_CALLS": "many"}, ["EARSHOT_MAX_CALLS", "max_calls"]),
        ({"HTTP": "8080"}, ["http", "host:port"]),
        ({"VAD_AGGRESSIVENESS": "4"}, ["vad_aggressiveness", "<= 3"]),
        ({"NO_SUCH": "1"}, ["no setting is named 'no_such'"]),
        ({"TLS_CERT": "cert.pem"}, ["tls_cert and tls_key go together"]),
        ({"APPS": "shop"}, ["apps must look like appid:secret"]),
        ({"QUALITY_URL": "http://127.0.0.1:1"}, ["quality_url needs quality_app"]),
        ({"CONFIG": "absent.toml"}, ["absent.toml: cannot be read"]),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
@pytest.mark.parametrize("command", ["doctor", "serve"])
def test_a_bad_setting_ends_a_command_and_is_named(
    earshot: Run, command: str, settings: dict[str, str], texts: list[str]
) -> None:
    failed(earshot(command, settings=settings), *(text for text in texts if not text.startswith("EARSHOT_")))


def test_doctor_names_an_address_that_is_taken(earshot: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        looked = earshot("doctor", settings={"HTTP": address, "WS": "127.0.0.1:0", "MODELS_DIR": "none"})
    assert looked.exit_code == 1
    assert f"missing  http {address}: Address already in use: choose another address in http" in looked.output


def test_doctor_is_not_taken_in_by_the_note_of_a_server_that_was_killed(
    earshot: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.stores.serving.os.getpid", lambda: 2**22 + 1)  # beyond any process id
    note_addresses(tmp_path, "http://127.0.0.1:1", "ws://127.0.0.1:1/v1/calls")
    looked = earshot("doctor", "--data", tmp_path, settings={"HTTP": "127.0.0.1:0", "WS": "127.0.0.1:0"})
    assert "a server is running" not in looked.output


def test_doctor_sees_a_server_that_runs(earshot: Run, server: EarshotProcess) -> None:
    looked = earshot("doctor", "--data", server.data)
    assert "a server is running" in looked.output


# --- models and serve --------------------------------------------------------------------------------------------


def test_a_model_of_unknown_name_is_not_pulled(earshot: Run, tmp_path: Path) -> None:
    failed(
        earshot("models", "pull", "whisper-huge", settings={"MODELS_DIR": str(tmp_path / "m")}),
        "there is no model 'whisper-huge'; expected ",
        "whisper-base",
    )
    assert not (tmp_path / "m").exists()


def test_models_list_says_what_is_here(earshot: Run, tmp_path: Path) -> None:
    listed = earshot("models", "list", settings={"MODELS_DIR": str(tmp_path)})
    assert listed.exit_code == 0
    assert "whisper-base" in listed.output
    assert "MIT" in listed.output


def test_serve_without_models_names_the_command_that_fetches_them(earshot: Run, tmp_path: Path) -> None:
    failed(
        earshot("serve", settings={"MODELS_DIR": str(tmp_path / "none"), "HTTP": "127.0.0.1:0", "WS": "127.0.0.1:0"}),
        "run `earshot models pull whisper-base`",
    )


def test_serve_on_an_address_that_is_taken_ends_with_that_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        server = EarshotProcess(tmp_path / "data", {"EARSHOT_APPS": "demo:secret"}, module=HUMMED, http=address)
        assert server.process.wait(60) == 1
    assert server.log.splitlines()[-1] == f"Error: cannot listen on http {address}: Address already in use"
    assert "Traceback" not in server.log
    assert "Unclosed" not in server.log


# --- outbox ------------------------------------------------------------------------------------------------------


def put(data: Path, *session_ids: str, refused: str = "") -> None:
    """Tasks in the outbox of `data`, as a server leaves them; given up when voice QC `refused` them."""

    async def work() -> None:
        box = Outbox(database, SystemClock(), data_dir=data)
        for session_id in session_ids:
            recording = data / "recordings" / f"{session_id}.wav"
            await box.put(QualityTask(session_id, "demo", recording, 8000, 1, "en", ()), session_id)
            row = await box.get("demo", session_id)
            if refused and row is not None:
                await box.failed(row, refused, "task", retryable=False)

    database = Database(data / "earshot.db", [SCHEMA])
    asyncio.run(work())
    database.close()


def listed(earshot: Run, data: Path, *options: str) -> dict[str, Any]:
    shown = earshot("outbox", "list", "--json", "--data", data, *options)
    assert shown.exit_code == 0, shown.output
    return {one["session_id"]: one for one in map(json.loads, shown.stdout.splitlines())}


def test_outbox_list_shows_where_each_task_stands_and_whose_fault_it_was(earshot: Run, tmp_path: Path) -> None:
    put(tmp_path, "waiting")
    put(tmp_path, "refused", refused="[red]no such category[/] 336102")
    shown = earshot("outbox", "list", "--data", tmp_path)
    assert shown.exit_code == 0
    for text in ("waiting", "pending", "now", "refused", "dead", "the task", "[red]no such category[/] 336102"):
        assert text in shown.stdout
    told = listed(earshot, tmp_path)
    assert told["refused"]["at_fault"] == "task"
    assert (told["refused"]["attempts"], told["refused"]["next_try_in_s"]) == (1, None)
    assert (told["waiting"]["state"], told["waiting"]["next_try_in_s"]) == ("pending", 0)
    assert set(listed(earshot, tmp_path, "--state", "dead")) == {"refused"}
    assert "No task is done." in earshot("outbox", "list", "--state", "done", "--data", tmp_path).stdout
    assert "dead" in earshot("doctor", "--data", tmp_path).output


def test_outbox_retry_revives_one_or_all_that_were_given_up(earshot: Run, tmp_path: Path) -> None:
    put(tmp_path, "a", "b", "c", refused="no")
    assert earshot("outbox", "retry", "a", "--data", tmp_path).exit_code == 0
    assert set(listed(earshot, tmp_path, "--state", "dead")) == {"b", "c"}
    assert "2 tasks" in earshot("outbox", "retry", "--all-dead", "--data", tmp_path).stdout
    assert not listed(earshot, tmp_path, "--state", "dead")


def test_outbox_errors_say_what_to_do(earshot: Run, tmp_path: Path) -> None:
    failed(earshot("outbox", "list", "--data", tmp_path / "none"), "no server has run", "--data")
    assert not (tmp_path / "none").exists()
    put(tmp_path, "a")
    failed(earshot("outbox", "retry", "nobody", "--data", tmp_path), "no task 'nobody'", "earshot outbox list")
    for arguments in ((), ("a", "--all-dead")):
        refused = earshot("outbox", "retry", *arguments, "--data", tmp_path)
        assert refused.exit_code == 2
        assert "--all-dead" in refused.output


async def test_a_task_that_was_given_up_is_judged_after_a_retry_beside_the_running_server(
    earshot: Run, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with serving(tmp_path / "vendor", apps="v:s", http="127.0.0.1:0") as vendor:
        wrong = {"quality_url": vendor.addresses.http, "quality_app": "v:wrong"}
        async with serving(data, apps="demo:secret", qc_poll_s=0.05, **wrong) as server, client_of(server) as app:
            log = await play(app, Start(rate=8000, channels=1, language="en"), DIALOGUE, speed=0)
            assert log.one(Ended).reason == "qc_failed"
            with patch.object(vendor.apps, "secrets", lambda app_id: ("wrong",)):  # the vendor sees its mistake
                await asyncio.to_thread(earshot, "outbox", "retry", log.call_id, "--data", data)

                async def judged() -> bool:
                    _, body = await app.get(f"/v1/calls/{log.call_id}")
                    return bool(json.loads(body)["state"] == "judged")

                await eventually(judged)
