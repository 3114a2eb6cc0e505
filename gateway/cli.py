"""The command `earshot`."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.commands.app import app
from gateway.commands.call import call
from gateway.commands.demo import demo
from gateway.commands.doctor import doctor
from gateway.commands.evaluate import evaluate
from gateway.commands.models import models
from gateway.commands.outbox import outbox
from gateway.commands.qc import qc
from gateway.commands.rules import rules
from gateway.commands.screen import screen
from gateway.commands.serve import serve
from gateway.commands.voiceprint import voiceprint
from gateway.commands.worker import worker


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="earshot", message="%(prog)s %(version)s")
def cli() -> None:
    """A streaming real-time gateway for phone calls.

    `earshot serve` runs it, `earshot call FILE` plays a call into it, `earshot demo` shows everything at once.
    """


for command in (serve, screen, worker, call, qc, demo, models, doctor, app, outbox, rules, evaluate, voiceprint):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command. Ctrl-C ends it with status 130."""
    try:
        return cli.main(args=arguments, prog_name="earshot", standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
