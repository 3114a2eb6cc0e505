"""Who may use a server: apps of the settings, apps that were created, and a server that nobody configured."""

import asyncio
import re
from pathlib import Path
from time import time
from unittest.mock import patch

import aiohttp
import msgspec
import pytest
from click.testing import CliRunner, Result

from gateway.app import EarshotServer
from gateway.assembly.folder import StartFailed
from gateway.cli import cli
from gateway.settings import Settings
from gateway.stores.apps import key_id
from protocol.client import CallClient, CallRefused
from protocol.messages import Ended, Start
from protocol.voiceprint import signed_headers
from tests.client import account, play
from tests.earshot_process import HUMMED, EarshotProcess
from tests.integration.hummed import DIALOGUE, RATE_HZ, HummingEngines, client_of, eventually, humming, serving

START = Start(rate=RATE_HZ, channels=1)
SHORT = humming((0, 200))


def create_app(data: Path, *arguments: str) -> tuple[str, str]:
    made = CliRunner().invoke(cli, ["app", "create", "--data", str(data), *arguments])
    assert made.exit_code == 0, made.output
    printed = re.fullmatch(r"app id:  (\S+)\nsecret:  (\S+)\n", made.output)
    assert printed, made.output
    return printed[1], printed[2]


async def test_apps_of_the_settings_may_have_two_secrets_so_that_one_can_go(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", apps="demo:old,demo:new,other:third") as server:
        for app_id, secret, status in (("demo", "old", 200), ("demo", "new", 200), ("demo", "third", 401)):
            async with client_of(server, app_id, secret) as app:
                assert (await app.get("/v1/calls"))[0] == status


async def test_a_created_app_is_good_at_the_next_start(tmp_path: Path) -> None:
    app_id, secret = create_app(tmp_path / "data", "shop")
    assert app_id == "shop"
    async with serving(tmp_path / "data") as server, client_of(server, app_id, secret) as app:
        assert not server.uses_local_app
        assert (await play(app, START, SHORT, speed=0)).one(Ended).reason == "hangup"


async def test_a_running_server_takes_up_a_created_app_by_itself(tmp_path: Path) -> None:
    with patch("gateway.assembly.upkeep.APPS_REFRESH_S", 0.05):
        async with serving(tmp_path / "data", apps="demo:secret") as server:
            made = create_app(tmp_path / "data")
            async with client_of(server, *made) as app:

                async def admitted() -> bool:
                    return (await app.get("/v1/calls"))[0] == 200

                await eventually(admitted)


async def test_a_secret_is_rotated_while_a_call_and_requests_go_on_and_none_of_them_is_lost(tmp_path: Path) -> None:
    data = tmp_path / "data"
    app_id, old = create_app(data, "shop")
    with patch("gateway.assembly.upkeep.APPS_REFRESH_S", 0.05):
        async with serving(data, qc_poll_s=0.05) as server, aiohttp.ClientSession() as session:
            good = [old]
            answers: list[str] = []

            async def count(secret: str) -> str:
                url, headers = f"{server.addresses.http}/voiceid/count", signed_headers(app_id, secret, time())
                async with session.get(url, headers=headers) as response:
                    code: str = (await response.json())["code"]
                    return code

            async def keep_asking() -> None:
                while True:
                    answers.append(await count(good[-1]))

            asking = asyncio.create_task(keep_asking())
            async with CallClient(server.addresses.ws, START, app_id=app_id, secret=old) as call:
                await call.send_audio(DIALOGUE[: len(DIALOGUE) // 2])
                new = rotate(data, app_id)

                async def new_is_good() -> bool:
                    return await count(new) == "0"

                await eventually(new_is_good)
                assert await count(old) == "0", "both are good"
                good.append(new)
                before = len(answers)

                async def asked_with_the_new() -> bool:
                    return len(answers) > before + 1

                await eventually(asked_with_the_new)
                revoked = CliRunner().invoke(cli, ["app", "revoke", app_id, key_id(old), "--data", str(data)])
                assert revoked.exit_code == 0, revoked.output

                async def old_is_bad() -> bool:
                    return await count(old) == "10105"

                await eventually(old_is_bad)
                await call.send_audio(DIALOGUE[len(DIALOGUE) // 2 :])
                await call.hang_up()
                ended = [message async for message in call][-1]
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert isinstance(ended, Ended)
            assert (ended.reason, ended.samples) == ("hangup", len(DIALOGUE) // 2)
            assert set(answers) == {"0"}


def rotate(data: Path, app_id: str, *arguments: str) -> str:
    made = CliRunner().invoke(cli, ["app", "rotate", app_id, "--data", str(data), *arguments])
    assert made.exit_code == 0, made.output
    return made.stdout.split()[-1]


def test_secrets_are_listed_rotated_and_revoked_by_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["app", *arguments, "--data", str(tmp_path)])

    assert "no app yet" in run("list").output
    app_id, first = create_app(tmp_path, "shop")
    second = rotate(tmp_path, app_id)
    listed = run("list").output
    assert all(key_id(secret) in listed and secret not in listed for secret in (first, second))
    third = rotate(tmp_path, app_id, "--drop-old")
    listed = run("list").output
    assert [key_id(secret) in listed for secret in (first, second, third)] == [False, False, True]
    for arguments, reason in (
        (("revoke", app_id, key_id(third)), "is the last"),
        (("revoke", app_id, "nothing"), "has no secret nothing"),
        (("rotate", "nobody"), "there is no app nobody"),
    ):
        refused = run(*arguments)
        assert (refused.exit_code, reason in refused.output) == (1, True), refused.output


def test_an_app_is_not_created_twice_or_under_a_name_that_credentials_cannot_hold(tmp_path: Path) -> None:
    create_app(tmp_path, "shop")
    for name, reason in (("shop", "exists already"), ("a:b", "without ':'"), ("naïve", "visible ASCII")):
        refused = CliRunner().invoke(cli, ["app", "create", "--data", str(tmp_path), name])
        assert refused.exit_code == 1
        assert reason in refused.output


async def test_without_any_app_loopback_is_served_with_an_app_that_is_printed(tmp_path: Path) -> None:
    for _ in range(2):  # the same app at every start
        with EarshotProcess(tmp_path / "data", module=HUMMED) as server:
            printed = re.search(r"serving loopback only, app id (\S+), secret (\S+)", server.log)
            assert printed, server.log
            async with account(server.http, server.ws, printed[1], printed[2]) as app:
                assert (await play(app, START, SHORT, speed=0)).one(Ended).reason == "hangup"
            assert server.stop() == 0
    assert len(set(re.findall(r"secret (\S+)", server.log))) == 1


@pytest.mark.parametrize("name", ["http", "ws"])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "gateway.example:0"])
def test_without_any_app_nothing_but_loopback_is_served(tmp_path: Path, name: str, address: str) -> None:
    loopback = Settings(data=str(tmp_path), http="127.0.0.1:0", ws="127.0.0.1:0")
    settings = msgspec.structs.replace(loopback, **{name: address})
    with patch("gateway.app.Engines", HummingEngines), pytest.raises(StartFailed) as refused:
        EarshotServer(settings)
    host = address.rpartition(":")[0].strip("[]")
    assert str(refused.value) == (
        f"{name} listens on {host}, but there is no app: make one with `earshot app create`, "
        "or name some in EARSHOT_APPS"
    )


def test_serve_ends_with_that_reason_as_its_whole_output(tmp_path: Path) -> None:
    with patch("gateway.app.Engines", HummingEngines):
        refused = CliRunner().invoke(cli, ["serve", "--data", str(tmp_path), "--http", "0.0.0.0:0"])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: http listens on 0.0.0.0, but there is no app")


async def test_wrong_credentials_are_refused_before_the_upgrade(tmp_path: Path) -> None:
    async with serving(tmp_path / "data", apps="demo:secret") as server:
        for app_id, secret in (("demo", "guess"), ("nobody", "secret")):
            client = CallClient(server.addresses.ws, START, app_id=app_id, secret=secret)
            with pytest.raises(CallRefused) as refused:
                await client.__aenter__()
            assert refused.value.code == "access_denied"
