"""`earshot demo`: two phone calls through the whole system."""

from __future__ import annotations

import sys

import click
import uvloop
from rich.console import Console

from gateway.demo.material import LANGUAGES
from gateway.demo.run import run_demo
from gateway.terminal.serving import NotServing


@click.command()
@click.argument("languages", nargs=-1, type=click.Choice(LANGUAGES))
def demo(languages: tuple[str, ...]) -> None:
    """Start everything on free loopback ports, play the demo calls in real time and show what happens.

    LANGUAGES picks calls; without any, English then Mandarin. Exit status 0 only if every stage really happened.
    """
    try:
        good = uvloop.run(run_demo(languages or LANGUAGES, Console()))
    except NotServing as fault:
        raise click.ClickException(str(fault)) from fault
    sys.exit(0 if good else 1)
