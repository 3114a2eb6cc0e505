"""`earshot app`: the apps (tenants) that may use the server, and their secrets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time

import click
from rich.console import Console
from rich.table import Table

from gateway.app import stored_apps
from gateway.commands.options import config_option, data_option, settings_of
from gateway.commands.outbox import duration
from gateway.stores.apps import Apps


@click.group()
def app() -> None:
    """Manage the apps (tenants) that may use the server. A server that is running takes a change up in seconds."""


@app.command()
@click.argument("app_id", required=False)
@config_option
@data_option
def create(app_id: str | None, config: Path | None, data: str | None) -> None:
    """Create an app and print its id and secret. Without APP_ID one is made up."""
    with _apps(config, data) as apps:
        made_id, secret = apps.create(app_id)
    click.echo(f"app id:  {made_id}\nsecret:  {secret}")


@app.command("list")
@config_option
@data_option
def show(config: Path | None, data: str | None) -> None:
    """List the apps and their secrets, each by a short name for it and with its age."""
    table = Table("app", "secret", "age")
    with _apps(config, data) as apps:
        for app_id in sorted(apps.app_ids):
            for note in apps.notes(app_id):
                age = "" if note.created_at is None else duration(max(0.0, time() - note.created_at))
                table.add_row(app_id, note.key_id, "in the settings" if note.is_configured else age or "unknown")
    Console().print(table if table.row_count else "There is no app yet: make one with `earshot app create`.")


@app.command()
@click.argument("app_id")
@click.option("--drop-old", is_flag=True, help="Revoke all other secrets of the app at once.")
@config_option
@data_option
def rotate(app_id: str, drop_old: bool, config: Path | None, data: str | None) -> None:
    """Give an app one more secret and print it. The old ones stay good until `earshot app revoke`.

    Calls that run are not disturbed, by either.
    """
    with _apps(config, data) as apps:
        old = apps.notes(app_id)
        secret = apps.add_secret(app_id)
        if drop_old:
            for note in old:
                if not note.is_configured:
                    apps.revoke(app_id, note.key_id)
        good = [note.key_id for note in apps.notes(app_id)[:-1]]
    click.echo(f"app id:  {app_id}\nsecret:  {secret}")
    if good:
        click.echo(f"also good: {', '.join(good)}", err=True)


@app.command()
@click.argument("app_id")
@click.argument("secret", metavar="SECRET_ID")
@config_option
@data_option
def revoke(app_id: str, secret: str, config: Path | None, data: str | None) -> None:
    """Make a secret invalid from now on; SECRET_ID is its short name in `earshot app list`."""
    with _apps(config, data) as apps:
        apps.revoke(app_id, secret)
    click.echo(f"secret {secret} of app {app_id} is revoked")


@contextmanager
def _apps(config: Path | None, data: str | None) -> Iterator[Apps]:
    """The apps of the data folder; what they refuse ends the command with its reason."""
    with stored_apps(settings_of(config, data=data).settings) as apps:
        try:
            yield apps
        except ValueError as fault:
            raise click.ClickException(str(fault)) from fault
