"""What the commands share: settings from the command line, and errors as people read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.settings import LoadedSettings, SettingsError, load

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file (TOML). Default: $EARSHOT_CONFIG, else ./earshot.toml if it is there.",
)
data_option = click.option("--data", metavar="DIR", help="Folder of the journal, recordings and database.")


def settings_of(config: Path | None, **overrides: Any) -> LoadedSettings:
    """The settings in force; a bad one ends the command with its reason."""
    try:
        return load(config, overrides=overrides)
    except SettingsError as fault:
        raise click.ClickException(str(fault)) from fault
