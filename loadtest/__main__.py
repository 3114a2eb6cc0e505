"""`python -m loadtest`: load a server with paced softphones, and say what they saw."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import uvloop
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from gateway.stores.serving import served_at
from gateway.terminal.softphone import NotAudio
from loadtest.cost import sink
from loadtest.figures import table
from loadtest.figures.catalogue import FIGURES
from loadtest.figures.compare import NotComparable, compare, remarks
from loadtest.figures.result import BadResult, Machine, Result, read_result
from loadtest.figures.slo import BadSlo, Slo, Thresholds, load_slo
from loadtest.idle import hold_calls
from loadtest.live import Progress
from loadtest.options import ToBeWritten, credentials_of, process_id, processors_of, server_options, settings_given
from loadtest.run import Ordered, check_open_files, run_load
from loadtest.scenario import BadScenario, Scenario, load, names, overridden
from loadtest.server.admission import NotAdmitted, check_admission
from loadtest.server.own import NotStarted, Served, own_server
from loadtest.server.probe import ExtraMissing
from loadtest.sizing import TIERS, Sized, Sizing, measure, settings_of
from loadtest.softphones.socket import Target
from loadtest.troop import HarnessFailed
from protocol.client import CallRefused

PASSED, FAILED, INCONCLUSIVE = 0, 1, 3
"""Exit statuses; 2 is click's, for what cannot be run."""
CANNOT_RUN = (
    BadScenario,
    BadSlo,
    BadResult,
    CallRefused,
    NotAdmitted,
    NotAudio,
    NotStarted,
    ExtraMissing,
    HarnessFailed,
)


class CannotRun(click.ClickException):
    exit_code = 2


@click.group()
def main() -> None:
    """Load a server with paced softphones. docs/load-testing.md explains the scenarios and the figures."""


@main.command("run")
@click.argument("scenario_name", metavar="SCENARIO")
@click.option("--calls", type=click.IntRange(min=1), help="Calls at once; in a search, the most that is tried.")
@click.option("--ramp", "ramp_s", type=click.FloatRange(min=0), help="Seconds to begin them in.")
@click.option(
    "--duration", "duration_s", type=click.FloatRange(min=0, min_open=True), help="Seconds a call, or a step, lasts."
)
@click.option("--url", default="ws://127.0.0.1:8081/v1/calls", show_default=True, help="Of the native socket.")
@click.option("--http-url", help="Of the HTTP side. Default: the data folder's, else port 8080 of the same host.")
@click.option("--app", "credentials", metavar="APPID:SECRET", envvar="EARSHOT_LOAD_APP", help="Or $EARSHOT_LOAD_APP.")
@click.option("--ca", "ca_file", type=click.Path(exists=True), help="Who signed the server's certificate.")
@click.option("--data", type=click.Path(path_type=Path), help="The running server's data folder: then its CPU is told.")
@click.option("--pid", type=int, help="The same by its process id.")
@click.option(
    "--server", "server_arguments", metavar="ARGS", help='Start a server for the run: "" or serve\'s options.'
)
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A setting of that server.")
@click.option("--server-module", default="gateway.cli", hidden=True)
@click.option("--file", type=click.Path(path_type=Path), help="What the softphones play. Default: the demo's call.")
@click.option("--folder", type=click.Path(path_type=Path), help="The same: every audio file in it.")
@click.option("--language", type=click.Choice(["auto", "en", "zh"]), default="auto", show_default=True)
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Of softphones.")
@click.option("--cpus", metavar="LIST", help="Processors for the softphones, such as 0,1.")
@click.option("--server-cpus", metavar="LIST", help="Processors for the server of --server.")
@click.option("--verify", default="10", show_default=True, metavar="N|all", help="Recordings to compare byte for byte.")
@click.option("--slo", "slo_file", type=click.Path(path_type=Path), help="Thresholds (TOML) that must be kept.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of what is random: cuts, stalls, lengths.")
@click.option("--json", "json_file", type=ToBeWritten(), help="The result, to keep.")
@click.option("--html", "html_file", type=ToBeWritten(), help="Write a page with plots here.")
def run_command(
    scenario_name: str,
    settings: tuple[str, ...],
    server_arguments: str | None,
    server_module: str,
    server_cpus: str | None,
    json_file: Path | None,
    html_file: Path | None,
    **options: Any,
) -> None:
    """Run SCENARIO (a name of `scenarios`, or a TOML file) and print what the softphones saw.

    Exit status 0: every threshold was kept. 1: one was not. 2: it could not be run. 3: one was not, and the harness
    itself was late, so that it may not be the server's fault. Ctrl-C hangs up and tells the figures so far.
    """
    with cannot_run():
        page = _page() if html_file is not None else None
        scenario = overridden(load(scenario_name), options["calls"], options["ramp_s"], options["duration_s"])
        slo = load_slo(options["slo_file"]) if options["slo_file"] else Slo(scenario.slo or Thresholds())
        length_s = None if scenario.search is not None else scenario.ramp_s + scenario.duration_s
        with Progress(Console(stderr=True), scenario.name, length_s) as progress:
            if server_arguments is not None:
                given = settings_given(settings)
                cpus = processors_of(server_cpus)
                arguments = server_options(server_arguments)
                about = {"arguments": server_arguments, **given}
                progress.say("starting the server")
                with own_server(arguments, given, module=server_module, processors=cpus) as served:
                    result = _run(scenario, slo, served, about, options, progress)
            elif settings or server_cpus:
                raise click.UsageError(
                    "--set and --server-cpus are for a server that is started here: give --server too"
                )
            else:
                result = _run(scenario, slo, _elsewhere(options), {}, options, progress)
    Console().print(table.shown(result))
    if json_file is not None:
        result.write(json_file)
    if html_file is not None and page is not None:
        html_file.write_text(page(result), "utf-8")
    sys.exit(PASSED if result.passed else INCONCLUSIVE if result.harness_was_late else FAILED)


@main.command()
def scenarios() -> None:
    """List the scenarios."""
    shown = Table("scenario", "what it is", "calls", "ramp, s", "duration, s")
    with cannot_run():
        for name in names():
            one = load(name)
            shown.add_row(name, one.about, str(one.calls), f"{one.ramp_s:g}", f"{one.duration_s:g}")
    Console().print(shown)


@main.command()
def figures() -> None:
    """List the figures that a threshold may name, and what they mean."""
    shown = Table("figure", "meaning", "better")
    for name, figure in FIGURES.items():
        shown.add_row(name, figure.meaning, figure.better)
    Console().print(shown)


@main.command("compare")
@click.argument("before", metavar="A.json", type=click.Path(path_type=Path))
@click.argument("after", metavar="B.json", type=click.Path(path_type=Path))
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=0.1, show_default=True, help="Ratios within this are the same."
)
def compare_command(before: Path, after: Path, tolerance: float) -> None:
    """Say figure by figure whether B is better or worse than A. Exit status 1 if any is worse.

    Only results of the same load can be compared: scenario, calls, ramp, duration and audio.
    """
    with cannot_run():
        a, b = read_result(before), read_result(after)
        try:
            rows = compare(a, b, tolerance)
        except NotComparable as fault:
            raise CannotRun(str(fault)) from fault
    console = Console()
    console.print(table.compared(rows))
    for remark in remarks(a, b):
        console.print(f"Note: {remark}.", style="yellow")
    sys.exit(FAILED if any(row.verdict == "worse" for row in rows) else PASSED)


@main.command()
@click.option("--calls", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--duration", "duration_s", type=click.FloatRange(min=2), default=10.0, show_default=True)
@click.option("--cpus", metavar="LIST", help="Processors for the softphones, such as 0,1.")
@click.option("--json", "json_file", type=ToBeWritten(), help="The result, to keep.")
def cost(calls: int, duration_s: float, cpus: str | None, json_file: Path | None) -> None:
    """Measure what the harness itself costs, against a process that takes audio and does nothing with it."""
    scenario = overridden(load("steady"), calls, 2.0, duration_s)
    with cannot_run(), sink() as served:
        ordered = Ordered(scenario, served, Slo(Thresholds()), processors=processors_of(cpus), verify=0)
        with Progress(Console(stderr=True), "cost", scenario.ramp_s + scenario.duration_s) as progress:
            result = asyncio.run(run_load(ordered, progress.show, progress.say))
    Console().print(table.shown(result))
    if json_file is not None:
        result.write(json_file)


@main.command()
@click.option("--calls", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--hold", "hold_s", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The running server's data folder.")
@click.option("--app", "credentials", metavar="APPID:SECRET", envvar="EARSHOT_LOAD_APP", required=True)
@click.option("--most-kb", type=float, default=100.0, show_default=True, help="Memory a call may take.")
def idle(calls: int, hold_s: float, data: Path, credentials: str, most_kb: float) -> None:
    """Hold many calls that only wait, and print what each takes of the server's memory.

    Exit status 0 only if that is not more than it may be.
    """
    serving = served_at(data)
    if serving is None:
        raise CannotRun(f"no server runs on {data}")
    app_id, secret = credentials_of(credentials)
    target = Target(serving.ws, app_id, secret)
    with cannot_run(), Bar(console=Console(stderr=True)) as progress:
        check_open_files(calls, 1, relayed=False)
        asyncio.run(check_admission(target, None, time.time()))
        task = progress.add_task(f"{calls} calls to wait", total=calls + hold_s)
        seen = uvloop.run(hold_calls(target, serving.pid, calls, hold_s, lambda done: progress.advance(task, done)))
    shown = Table("figure", "value")
    shown.add_row("resident before, MB", f"{seen.before / 1e6:.1f}")
    shown.add_row(f"with {calls} calls, MB", f"{seen.opened / 1e6:.1f}")
    shown.add_row(f"after {hold_s:g} s more, MB", f"{seen.waited / 1e6:.1f}")
    shown.add_row("a call, kB", f"{seen.bytes_per_call / 1e3:.1f}")
    Console().print(shown)
    sys.exit(PASSED if seen.bytes_per_call <= most_kb * 1000 else FAILED)


@main.command("sizing")
@click.option("--tier", "names", multiple=True, type=click.Choice([tier.name for tier in TIERS]), help="Default: all.")
@click.option("--duration", "duration_s", type=click.FloatRange(min=4), default=20.0, show_default=True)
@click.option("--scale", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Times the usual calls.")
@click.option("--server", "server_arguments", metavar="ARGS", default="", help="Options of serve for the servers.")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A setting of the servers.")
@click.option("--server-module", default="gateway.cli", hidden=True)
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Of softphones.")
@click.option("--cpus", metavar="LIST", help="Processors for the softphones, such as 0,1.")
@click.option("--server-cpus", metavar="LIST", help="Processors for the servers.")
@click.option("--json", "json_file", type=ToBeWritten(), help="The figures, to keep.")
def sizing_command(
    names: tuple[str, ...],
    duration_s: float,
    scale: float,
    server_arguments: str,
    settings: tuple[str, ...],
    server_module: str,
    processes: int,
    cpus: str | None,
    server_cpus: str | None,
    json_file: Path | None,
) -> None:
    """Measure what a call costs the server, feature by feature, and so how many one core carries.

    Each feature (ingest, silero, identify, text: each on top of those before) gets a server of its own and two loads.
    """
    machine, given, arguments = Machine.here(), settings_given(settings), server_options(server_arguments)
    softphones_on, servers_on = processors_of(cpus), processors_of(server_cpus)
    done: list[Sized] = []
    with cannot_run():
        for tier in (tier for tier in TIERS if not names or tier.name in names):
            with Progress(Console(stderr=True), tier.name) as progress:
                progress.say("starting the server")
                its_settings = settings_of(tier, given)
                with own_server(arguments, its_settings, module=server_module, processors=servers_on) as served:
                    measuring = measure(
                        tier,
                        served,
                        duration_s=duration_s,
                        scale=scale,
                        processes=processes,
                        processors=softphones_on,
                        on_moment=progress.show,
                    )
                    done.append(asyncio.run(measuring))
    Console().print(table.sizes(done))
    if json_file is not None:
        Sizing(machine=machine, duration_s=duration_s, tiers=done).write(json_file)


@contextmanager
def cannot_run() -> Iterator[None]:
    """What keeps a command from its work is told in one line, with a status of its own."""
    try:
        yield
    except CANNOT_RUN as fault:
        raise CannotRun(str(fault)) from fault


def _run(
    scenario: Scenario,
    slo: Slo,
    served: Served,
    about_server: dict[str, str],
    options: dict[str, Any],
    progress: Progress,
) -> Result:
    verify = options["verify"]
    if verify != "all" and not verify.isdecimal():
        raise click.UsageError(f"--verify is {verify!r}; expected a number, or all")
    ordered = Ordered(
        scenario=scenario,
        served=served,
        slo=slo,
        file=options["file"],
        folder=options["folder"],
        language=options["language"],
        processes=options["processes"],
        processors=processors_of(options["cpus"]),
        verify=None if verify == "all" else int(verify),
        ca_file=options["ca_file"] or "",
        seed=options["seed"],
        about_server=about_server,
    )
    return asyncio.run(run_load(ordered, progress.show, progress.say))


def _elsewhere(options: dict[str, Any]) -> Served:
    """The server that runs already."""
    if not options["credentials"]:
        raise click.UsageError("--app APPID:SECRET is missing: whose calls are they to be? (`earshot app create`)")
    app_id, secret = credentials_of(options["credentials"])
    url, http_url, pid = options["url"], options["http_url"], process_id(options["pid"])
    if (data := options["data"]) is not None:
        serving = served_at(data)
        if serving is None:
            raise CannotRun(f"no server runs on {data}")
        url, http_url, pid = serving.ws, http_url or serving.http, serving.pid
    if http_url is None:
        parts = urlsplit(url)
        http_url = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.hostname}:8080"
    return Served(url, http_url, pid, app_id, secret)


def _page() -> Callable[[Result], str]:
    try:
        from loadtest.figures.page import page
    except ImportError as fault:
        raise ExtraMissing("matplotlib", "a page with plots (--html)") from fault
    return page


if __name__ == "__main__":
    main()
