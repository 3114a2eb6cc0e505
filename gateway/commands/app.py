"""`earshot app`: the apps (tenants) that may use the server."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.app import create_app
from gateway.commands.options import config_option, data_option, settings_of


@click.group()
def app() -> None:
    """Manage the apps (tenants) that may use the server."""


@app.command()
@click.argument("app_id", required=False)
@config_option
@data_option
def create(app_id: str | None, config: Path | None, data: str | None) -> None:
    """Create an app and print its id and secret. Without APP_ID one is made up.

    A server that is running takes it up within a minute.
    """
    settings = settings_of(config, data=data).settings
    try:
        made_id, secret = create_app(settings, app_id)
    except ValueError as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(f"app id:  {made_id}\nsecret:  {secret}")
