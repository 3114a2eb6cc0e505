"""`earshot screen` and the link that `earshot serve` prints, at a real server process."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
from click.testing import CliRunner

from gateway.cli import cli
from gateway.stores.serving import note_addresses
from tests.earshot_process import HUMMED, EarshotProcess

LINK = r"(http://127\.0\.0\.1:\d+)/screen/#ticket=(\S+)"


async def signed_in(http: str, ticket: str) -> int:
    url = f"{http}/v1/session"
    async with aiohttp.ClientSession() as browser, browser.post(url, json={"ticket": ticket}) as answer:
        return answer.status


async def test_a_link_of_the_server_and_one_of_the_command_sign_in_once_each(tmp_path: Path) -> None:
    with EarshotProcess(tmp_path / "data", module=HUMMED) as server:
        printed = re.search(rf"^screen +{LINK}$", server.log, re.MULTILINE)
        assert printed is not None
        told = CliRunner().invoke(cli, ["screen", "--data", str(tmp_path / "data")])
        assert told.exit_code == 0, told.output
        asked = re.fullmatch(LINK, told.output.strip())
        assert asked is not None
        for link in (printed, asked):
            assert link[1] == server.http
            assert await signed_in(link[1], link[2]) == 200
            assert await signed_in(link[1], link[2]) == 401


def test_without_a_server_there_is_no_link(tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["screen", "--data", str(tmp_path)])
    assert told.exit_code == 1
    assert "no server runs" in told.output


def test_of_several_apps_one_has_to_be_chosen(tmp_path: Path) -> None:
    for app_id in ("shop", "bank"):
        assert CliRunner().invoke(cli, ["app", "create", app_id, "--data", str(tmp_path)]).exit_code == 0
    note_addresses(tmp_path, "http://0.0.0.0:8080", "ws://0.0.0.0:8081/v1/calls")
    told = CliRunner().invoke(cli, ["screen", "--data", str(tmp_path)])
    assert told.exit_code == 1
    assert "bank, shop" in told.output
    (tmp_path / "server-key").write_bytes(bytes(32))
    told = CliRunner().invoke(cli, ["screen", "--data", str(tmp_path), "--app", "bank"])
    assert told.output.startswith("http://localhost:8080/screen/#ticket=")
