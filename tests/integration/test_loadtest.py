"""The load test against real servers: whole ones pass, and what a broken one loses is found."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner, Result

from loadtest.__main__ import main
from loadtest.figures.result import Result as Figures
from loadtest.figures.result import read_result
from loadtest.figures.slo import Slo, Thresholds
from loadtest.run import Ordered, run_load
from loadtest.scenario import Scenario, load, overridden, parse
from loadtest.server.own import NotStarted, Served, own_server
from loadtest.softphones.socket import Target
from tests.earshot_process import HUMMED
from tests.integration.hummed import eventually

SETTINGS = {
    "vad": "webrtc",
    "qc_poll_s": "0.05",
    # A slow machine or a full one is no fault that a test has caused: they turn no call away.
    "max_loop_lag_ms": "0",
    "disk_low_mb": "0",
}
STEADY = overridden(load("steady"), 4, 0.2, 1.5)
FLAKY = parse(
    """
    about = "Cut twice a second."
    calls = 3
    ramp_s = 0.1
    duration_s = 3
    [network]
    cut_every_s = 0.5
    delay_ms = 20
    """,
    "flaky",
)


def serving(module: str = HUMMED, **settings: str) -> AbstractContextManager[Served]:
    return own_server((), SETTINGS | settings, module=module)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as one:
        yield one


def ran(scenario: Scenario, served: Served, *, processes: int = 1, slo: Thresholds | None = None) -> Figures:
    ordered = Ordered(scenario, served, Slo(slo or Thresholds()), processes=processes, verify=None)
    return asyncio.run(run_load(ordered, lambda moment, doing: None))


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"EARSHOT_LOAD_APP": ""})


# --- whole servers pass ---


def test_a_steady_load_passes_with_every_recording_verified(server: Served) -> None:
    result = ran(STEADY, server, processes=2)
    assert result.passed, (result.failures, result.faults, result.slo)
    figures = result.figures
    assert figures["calls_begun"] == figures["recordings_verified"] == 4
    assert figures["frames_sent"] == 4 * 75  # by the clock of the media, whatever the machine does
    assert figures["messages_lost"] == figures["samples_unacked"] == 0
    assert result.distributions["ack_lag"].count == 4 * 75  # every frame, not each ack's newest
    assert figures["ack_lag_p99_ms"] >= figures["ack_lag_p50_ms"] > 0
    assert figures["harness_cpu_us_per_frame"] > 0
    assert figures["server_rss_max_mb"] > 10


def test_a_flaky_network_loses_nothing(server: Served) -> None:
    result = ran(FLAKY, server)
    assert result.passed, (result.failures, result.faults, result.slo)
    assert result.figures["cuts"] > 0
    assert result.figures["recordings_verified"] == 3


def test_every_format_in_every_frame_size_is_recorded_as_it_was_sent(server: Served) -> None:
    result = ran(overridden(load("mixed"), 21, 0.2, 1.2), server)
    assert result.passed, (result.failures, result.faults, result.slo)
    assert result.figures["recordings_verified"] == 21


def test_slow_readers_get_everything_in_the_end_and_are_told_apart(server: Served) -> None:
    scenario = parse(
        """
        about = "One of two hardly reads."
        calls = 2
        ramp_s = 0
        duration_s = 2
        [slow_readers]
        share = 0.5
        pause_s = 0.5
        every_s = 0.7
        """,
        "slow",
    )
    result = ran(scenario, server)
    assert result.passed, (result.failures, result.faults, result.slo)
    assert result.distributions["slow_ack_lag"].count == result.distributions["ack_lag"].count == 100
    assert result.distributions["ended"].count == 1  # who reads late hears of the end late


def test_watchers_see_the_calls_and_are_timed(server: Served) -> None:
    scenario = parse(
        """
        about = "A board, and a page of a call."
        calls = 2
        ramp_s = 0
        duration_s = 3
        [watchers]
        boards = 1
        calls = 1
        """,
        "watched",
    )
    result = ran(scenario, server)
    assert result.passed, (result.failures, result.faults, result.slo)
    assert result.figures["watch_messages"] > 4
    assert result.distributions["watch_levels_gap"].count > 0


def test_a_search_ends_at_the_most_that_is_tried(server: Served) -> None:
    scenario = parse(
        """
        about = "Up to six."
        calls = 6
        ramp_s = 0.1
        duration_s = 2
        [search]
        first_calls = 3
        settle_s = 0.5
        [slo.at_most]
        connect_p99_ms = 60_000
        ack_lag_p99_ms = 60_000
        """,
        "search",
    )
    result = ran(scenario, server, slo=scenario.slo)
    assert [(step.calls, step.missed) for step in result.tried] == [(3, []), (6, [])]
    assert result.figures["calls_sustained"] == 6


# --- broken ones do not ---


def test_a_message_that_is_not_said_is_found() -> None:
    with serving("tests.faults.mutants message_unsaid") as broken:
        result = ran(STEADY, broken)
    assert not result.passed
    assert result.figures["messages_lost"] >= 4


def test_a_recording_that_differs_is_found() -> None:
    with serving("tests.faults.mutants sample_changed") as broken:
        result = ran(STEADY, broken)
    assert not result.passed
    assert result.figures["recordings_wrong"] == 4
    assert all("differs from 0 on" in fault for fault in result.faults)


def test_what_a_resume_loses_is_found() -> None:
    with serving("tests.faults.mutants resume_skips") as broken:
        result = ran(FLAKY, broken)
    assert not result.passed
    assert result.figures["recordings_wrong"] + result.figures["calls_failed"] > 0


# --- the command ---


def test_the_command_writes_a_result_and_a_page_and_compares(server: Served, tmp_path: Path) -> None:
    kept, page, slo = tmp_path / "a.json", tmp_path / "a.html", tmp_path / "slo.toml"
    slo.write_text("[at_most]\nack_lag_p50_ms = 0.001")
    where = ("--url", server.ws_url, "--http-url", server.http_url, "--app", f"{server.app_id}:{server.secret}")
    brief = ("--calls", "1", "--ramp", "0", "--duration", "1.5", "--pid", str(server.pid))
    missed = command("run", "steady", *where, *brief, "--slo", str(slo), "--json", str(kept), "--html", str(page))
    assert missed.exit_code in (1, 3), missed.output  # 3 where the machine let the harness be late, too
    assert "SLO missed: ack_lag_p50_ms" in missed.output
    assert re.search(r"harness: .*scheduling lag p99 [\d.]+ ms", " ".join(missed.output.split()))
    assert read_result(kept).figures["recordings_verified"] == 1
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "<script" not in text
    assert server.secret not in text + kept.read_text()
    same = command("compare", str(kept), str(kept))
    assert same.exit_code == 0, same.output
    other = json.loads(kept.read_text())
    other["scenario"]["calls"] = 9
    (tmp_path / "b.json").write_text(json.dumps(other))
    refused = command("compare", str(kept), str(tmp_path / "b.json"))
    assert refused.exit_code == 2
    assert "calls 1 and 9" in refused.output


def test_ctrl_c_ends_cleanly_with_the_figures_so_far(server: Served, tmp_path: Path) -> None:
    kept = tmp_path / "a.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "loadtest", "run", "steady", "--calls", "2", "--ramp", "0", "--duration", "3600"),
            *("--url", server.ws_url, "--http-url", server.http_url, "--app", f"{server.app_id}:{server.secret}"),
            *("--json", str(kept), "--verify", "all"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _when_calls_are_up(server, 2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    result = read_result(kept)
    assert result.interrupted, output
    assert result.figures["recordings_verified"] == 2
    assert process.returncode == 0, output


@pytest.mark.parametrize(
    ("arguments", "whose"),
    [
        (("--url", "ws://127.0.0.1:9/v1/calls", "--app", "a:b"), "no server at ws://127.0.0.1:9/v1/calls"),
        (("--app", "loadtest:wrong"), "refused the credentials of app 'loadtest'"),
        (("--app", "nobody"), "--app is not APPID:SECRET"),
        ((), "--app APPID:SECRET is missing"),
        (("--app", "a:b", "--set", "vad=webrtc"), "give --server too"),
        (("--app", "a:b", "--verify", "some"), "expected a number, or all"),
        (("--app", "a:b", "--data", "/nowhere"), "no server runs on /nowhere"),
        (("--app", "a:b", "--url", "ws://127.0.0.1:99999/v1/calls"), "expected ws(s)://host:port/v1/calls"),
        (("--app", "a:b", "--url", "ws://127.0.0.1:port/v1/calls"), "expected ws(s)://host:port/v1/calls"),
        (("--app", "a:b", "--url", "wss://127.0.0.1:9/v1/calls", "--ca", os.devnull), "holds no certificate"),
        (("--app", "a:b", "--pid", "4194305"), "no process has the id 4194305"),
        (("--app", "a:b", "--cpus", "4095"), "processor 4095 is none of those this command may use"),
        (("--app", "a:b", "--json", "/nowhere/a.json"), "there is no folder /nowhere"),
        (("--app", "a:b", "--html", "/nowhere/a.html"), "there is no folder /nowhere"),
        (("--server", "'"), "--server is no list of options: No closing quotation"),
        (("--server", "", "--server-cpus", "4095"), "processor 4095 is none of those this command may use"),
    ],
)
def test_it_is_said_whose_fault_it_is(server: Served, arguments: tuple[str, ...], whose: str) -> None:
    url = () if "--url" in arguments else ("--url", server.ws_url)
    answer = command("run", "steady", *url, *arguments)
    assert answer.exit_code == 2, answer.output
    assert whose in answer.output


def test_recordings_that_cannot_be_had_are_said_before_the_load_and_not_after(server: Served) -> None:
    where = ("--url", server.ws_url, "--app", f"{server.app_id}:{server.secret}")
    brief = ("--calls", "1", "--ramp", "0", "--duration", "0.2")
    for nobody in ("http://127.0.0.1:9", "nonsense"):
        answer = command("run", "steady", *where, "--http-url", nobody)
        assert answer.exit_code == 2, answer.output
        assert f"nobody answers at {nobody}" in answer.output
        assert "--verify 0" in answer.output
    without = command("run", "steady", *where, *brief, "--http-url", "http://127.0.0.1:9", "--verify", "0")
    assert without.exit_code in (0, 3), without.output


def test_waiting_calls_that_are_refused_are_no_traceback(server: Served) -> None:
    refused = command("idle", "--calls", "1", "--hold", "0", "--data", str(server.data), "--app", "loadtest:wrong")
    assert refused.exit_code == 2, refused.output
    assert "refused the credentials of app 'loadtest'" in refused.output


def test_a_path_that_is_none_and_what_is_no_earshot_are_named(server: Served) -> None:
    credentials = ("--app", f"{server.app_id}:{server.secret}")
    nowhere = command("run", "steady", "--url", Target(server.ws_url, "", "").at("/v2").url, *credentials)
    assert "the server has no /v2" in nowhere.output
    other = command("run", "steady", "--url", server.http_url.replace("http", "ws") + "/v1/calls", *credentials)
    assert other.exit_code == 2
    assert "look at --url" in other.output or "no Earshot" in other.output or "answered HTTP" in other.output


def test_too_few_open_files_are_said_beforehand(server: Served) -> None:
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256));"
        "sys.argv[0] = 'loadtest'; runpy.run_module('loadtest', run_name='__main__')"
    )
    arguments = ("run", "steady", "--calls", "1000", "--url", server.ws_url, "--app", "a:b")
    answer = subprocess.run(
        [sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert answer.returncode == 2
    assert "need 1200 open files each, and this user may have 256" in answer.stderr


def test_a_server_that_does_not_start_shows_the_end_of_its_log() -> None:
    with pytest.raises(NotStarted, match=r"(?s)ended with status 1.*vad"), serving(vad="tea leaves"):
        pass


@pytest.mark.parametrize("package", ["psutil", "matplotlib"])
def test_a_missing_extra_is_named(
    server: Served, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "loadtest.figures.page", raising=False)
    arguments = ("--url", server.ws_url, "--app", f"{server.app_id}:{server.secret}", "--pid", str(os.getpid()))
    answer = command("run", "steady", *arguments, "--html", str(tmp_path / "a.html"))
    assert answer.exit_code == 2
    assert f"needs {package}" in answer.output
    assert "pip install 'earshot[load]'" in answer.output


def test_what_the_harness_costs_is_measured_without_a_server() -> None:
    answer = command("cost", "--calls", "2", "--duration", "4")
    assert answer.exit_code == 0, answer.output
    assert re.search(r"us of CPU a frame, so [\d,]+", " ".join(answer.output.split()))


def test_calls_that_only_wait_are_weighed(server: Served) -> None:
    credentials = f"{server.app_id}:{server.secret}"
    arguments = ("--calls", "5", "--hold", "0", "--data", str(server.data), "--app", credentials)
    light = command("idle", *arguments, "--most-kb", "100000")
    assert light.exit_code == 0, light.output
    assert "a call, kB" in light.output


def test_scenarios_and_figures_are_listed() -> None:
    assert "flaky" in command("scenarios").output
    assert "ack_lag_p99_ms" in command("figures").output


def _when_calls_are_up(server: Served, calls: int) -> None:
    """As the server's metrics tell."""

    async def up() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{server.http_url}/metrics") as answer:
            return f"earshot_calls_live {calls}.0" in await answer.text()

    asyncio.run(eventually(up))
