"""`earshot voiceprint`: what an operator does about enrolled voices."""

from __future__ import annotations

import click

from gateway.commands.share_voices import share
from gateway.commands.voiceprint_index import index


@click.group()
def voiceprint() -> None:
    """Look after enrolled voices."""


voiceprint.add_command(share)
voiceprint.add_command(index)
