"""`earshot screen`: a link that signs a browser in at the live screen."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import click

from gateway.app import stored_apps
from gateway.assembly.browsers import TICKETS
from gateway.commands.options import config_option, data_option, settings_of
from gateway.keys import cluster_key, local_app, server_key, subkey
from gateway.seal import Seal
from gateway.settings import Settings
from gateway.stores.serving import served_at
from gateway.tickets import MAX_TTL_S, issue


@click.command()
@click.option("--open", "opened", is_flag=True, help="Open it in the browser of this machine.")
@click.option("--app", "app_id", metavar="APPID", help="Whose calls to show; needed where there are several apps.")
@data_option
@config_option
def screen(opened: bool, app_id: str | None, data: str | None, config: Path | None) -> None:
    """Print a link to the live screen of the server that runs on the data folder.

    It signs one browser in, within ten minutes, for twelve hours. The part behind # never reaches a server's log.
    """
    settings = settings_of(config, data=data).settings
    serving = served_at(settings.data_path)
    if serving is None:
        raise click.ClickException(
            f"no server runs on the data folder {settings.data_path}: start one with `earshot serve`, or name another "
            "folder with --data"
        )
    link = screen_link(settings, serving.http, app_id or _only_app(settings))
    click.echo(link)
    if opened and not webbrowser.open(link):
        raise click.ClickException("this machine has no browser that could be opened; follow the link in another")


def screen_link(settings: Settings, http: str, app_id: str) -> str:
    """A link that signs a browser in once as `app_id`, at the server that listens at `http`."""
    key = cluster_key(settings.cluster_key) if settings.cluster_key else server_key(settings.data_path)
    ticket, _ = issue(Seal(subkey(key, TICKETS)), time.time(), app_id, "screen", ttl_s=MAX_TTL_S)
    return f"{settings.public_url.rstrip('/') or _reachable(http)}/screen/#ticket={ticket}"


def _reachable(http: str) -> str:
    """A listener's address as a browser of this machine can use it."""
    parts = urlsplit(http)
    if parts.hostname in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not listened on
        return urlunsplit(parts._replace(netloc=f"localhost:{parts.port}"))
    return http


def _only_app(settings: Settings) -> str:
    with stored_apps(settings) as apps:
        known = sorted(apps.app_ids)
    if not known:
        return local_app(settings.data_path)[0]
    if len(known) > 1:
        raise click.ClickException(f"there are several apps: choose one with --app ({', '.join(known)})")
    return known[0]
