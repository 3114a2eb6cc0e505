"""`python -m loadtest`: load a running server with paced softphones."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gateway.commands.open_files import raise_open_files
from gateway.demo.material import demo_call
from gateway.stores.serving import served_at
from gateway.terminal.softphone import NotAudio, read_audio
from loadtest.caller import Seen, Target, percentiles, run_calls
from loadtest.idle import hold_calls
from protocol.audio import AudioFormat


@click.group()
def main() -> None:
    """Load a running server with paced softphones."""


@main.command()
@click.argument("scenario", type=click.Choice(["steady"]))
@click.option("--calls", type=click.IntRange(min=1), default=10, show_default=True)
@click.option(
    "--ramp", "ramp_s", type=click.FloatRange(min=0), default=5.0, show_default=True, help="Seconds to begin them in."
)
@click.option(
    "--duration",
    "duration_s",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="Seconds a call lasts.",
)
@click.option("--url", default="ws://127.0.0.1:8081/v1/calls", show_default=True)
@click.option("--app", "credentials", metavar="APPID:SECRET", required=True)
@click.option(
    "--file", type=click.Path(path_type=Path), help="What the softphones play, over and over. Default: the demo call."
)
@click.option("--rate", type=click.Choice(["8000", "16000", "48000"]), default="8000", show_default=True, help="Hz")
def run(
    scenario: str,
    calls: int,
    ramp_s: float,
    duration_s: float,
    url: str,
    credentials: str,
    file: Path | None,
    rate: str,
) -> None:
    """Play SCENARIO (steady: so many calls, each of the same length) and print what the clients saw.

    Exit status 0 only if every call ended with all its audio acknowledged.
    """
    app_id, _, secret = credentials.partition(":")
    rate_hz = int(rate)
    try:
        pcm, channels = read_audio(file or demo_call("en").audio, rate_hz, None)
    except NotAudio as fault:
        raise click.ClickException(str(fault)) from fault
    audio = AudioFormat("pcm_s16le", rate_hz, channels)
    wanted_bytes = int(duration_s * rate_hz) * 2 * channels
    played = (pcm * (wanted_bytes // len(pcm) + 1))[:wanted_bytes]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{scenario}: {calls} calls of {duration_s:g} s", total=calls)
        target = Target(url, app_id, secret)
        seen = uvloop.run(run_calls(target, played, audio, calls, ramp_s, lambda: progress.advance(task)))
    Console().print(_table(seen))
    sys.exit(0 if not any(one.fault or one.unacked_samples for one in seen) else 1)


@main.command()
@click.option("--calls", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--hold", "hold_s", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The running server's data folder.")
@click.option("--app", "credentials", metavar="APPID:SECRET", required=True)
@click.option("--most-kb", type=float, default=100.0, show_default=True, help="Memory a call may take.")
def idle(calls: int, hold_s: float, data: Path, credentials: str, most_kb: float) -> None:
    """Hold many calls that only wait, and print what each takes of the server's memory.

    Exit status 0 only if that is not more than it may be.
    """
    serving = served_at(data)
    if serving is None:
        raise click.ClickException(f"no server runs on {data}")
    raise_open_files()
    app_id, _, secret = credentials.partition(":")
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{calls} calls that wait", total=calls)
        target = Target(serving.ws, app_id, secret)
        seen = uvloop.run(hold_calls(target, serving.pid, calls, hold_s, lambda: progress.advance(task)))
    table = Table("figure", "value")
    table.add_row("resident before, MB", f"{seen.before / 1e6:.1f}")
    table.add_row(f"with {calls} calls, MB", f"{seen.opened / 1e6:.1f}")
    table.add_row(f"after {hold_s:g} s more, MB", f"{seen.waited / 1e6:.1f}")
    table.add_row("a call, kB", f"{seen.bytes_per_call / 1e3:.1f}")
    Console().print(table)
    sys.exit(0 if seen.bytes_per_call <= most_kb * 1000 else 1)


def _table(seen: list[Seen]) -> Table:
    table = Table("figure", "p50", "p95", "p99", "max")
    for name, values in (
        ("connect, ms", [one.connect_s * 1000 for one in seen if not one.fault]),
        ("ack lag, ms", [lag * 1000 for one in seen for lag in one.ack_lag_s]),
    ):
        table.add_row(name, *(f"{value:.0f}" for value in percentiles(values)))
    faults = [one.fault for one in seen if one.fault]
    table.add_row("calls that failed", str(len(faults)), "", "", faults[0] if faults else "")
    table.add_row("samples not acknowledged", str(sum(one.unacked_samples for one in seen)), "", "", "")
    return table


if __name__ == "__main__":
    main()
