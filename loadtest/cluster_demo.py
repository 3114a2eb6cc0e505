"""`python -m loadtest.cluster_demo`: kill parts of a cluster while calls go on, and show that nothing was lost."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

import click
import uvloop
from rich.console import Console

from loadtest.cluster.demo import Demo, Plan, RedisTrouble
from loadtest.cluster.parts import NotStarted


@click.command("cluster-demo")
@click.option("--calls", type=click.IntRange(2, 200), default=6, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(5, 70), default=40.0, show_default=True, help="Length of a call (of the demo's)."
)
@click.option(
    "--kill-after",
    "kill_after_s",
    type=click.FloatRange(min=1),
    help="Seconds from the first call's beginning to the gateway's death. Default: a third of a call's length.",
)
@click.option(
    "--redis",
    type=click.Choice(["none", "restart", "stop", "flush"]),
    default="none",
    show_default=True,
    help="What befalls Redis too: killed and restarted, stopped for 30 s, or emptied.",
)
@click.option(
    "--workers", type=click.IntRange(1, 8), default=1, show_default=True, help="Processes of a gateway that take calls."
)
@click.option(
    "--ack",
    type=click.Choice(["replica", "local"]),
    default="replica",
    show_default=True,
    help="With local acks the dead gateway takes its calls' audio with it, and the demo says so: see it fail.",
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder for data and logs, kept.")
@click.option("--module", default="gateway.cli", hidden=True)
def main(
    calls: int,
    seconds: float,
    kill_after_s: float | None,
    redis: RedisTrouble,
    workers: int,
    ack: Literal["replica", "local"],
    keep: Path | None,
    module: str,
) -> None:
    """Run two gateways, two workers of voice QC and a Redis on this machine, and play calls into them.

    One gateway and one worker are killed (kill -9) in the middle. Proves call by call that nothing was lost, and says
    how long clients had no answer. Exit status 0 only if every promise was kept.
    """
    plan = Plan(calls, seconds, kill_after_s or seconds / 3, redis, workers, ack, module)
    with tempfile.TemporaryDirectory(prefix="earshot-cluster-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            good = uvloop.run(Demo(plan, folder, Console()).run())
        except NotStarted as fault:
            raise click.ClickException(str(fault)) from fault
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
