"""`earshot serve`: the server, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
import structlog
import uvloop

from gateway.app import Addresses, EarshotServer, StartFailed
from gateway.commands.open_files import raise_open_files
from gateway.commands.options import config_option, data_option, settings_of
from gateway.doors.tls import BadCertificate
from gateway.engines.models import ModelMissing
from gateway.keys import local_app
from gateway.settings import Settings
from gateway.stores.serving import note_addresses, withdraw_addresses
from gateway.telemetry import configure_logging

log = structlog.get_logger(__name__)


@click.command()
@click.option("--http", metavar="HOST:PORT", help="Listener of the HTTP side; port 0 picks a free one.")
@click.option("--ws", metavar="HOST:PORT", help="Listener of the native socket.")
@data_option
@config_option
def serve(http: str | None, ws: str | None, data: str | None, config: Path | None) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. Defaults: HTTP 127.0.0.1:8080, socket 127.0.0.1:8081, ./earshot-data.

    Without any app (see `earshot app create`, EARSHOT_APPS) it serves loopback only, with an app it prints.
    SIGHUP reads the TLS certificate again.
    """
    settings = settings_of(config, http=http, ws=ws, data=data).settings
    configure_logging(settings.log_level, settings.log_format)
    raise_open_files()
    try:
        uvloop.run(_serve(settings))
    except (StartFailed, BadCertificate, ModelMissing) as fault:
        raise click.ClickException(str(fault)) from fault


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = EarshotServer(settings, on_progress=lambda step: log.info("starting", step=step))
    addresses = await server.start()
    loop.add_signal_handler(signal.SIGHUP, _reload, server)
    _greet(server, addresses)
    note_addresses(settings.data_path, addresses.http, addresses.ws)
    try:
        await stop.wait()
        log.info("stopping", calls=len(server.calls))
        loop.add_signal_handler(signal.SIGINT, _give_up)
    finally:
        withdraw_addresses(settings.data_path)
        try:
            async with asyncio.timeout(settings.drain_s):
                await server.stop()
        except TimeoutError:
            # What was acked is in the journal; engine processes end with this one.
            log.warning("not_stopped_in_time", drain_s=settings.drain_s)


def _greet(server: EarshotServer, addresses: Addresses) -> None:
    click.echo(f"HTTP    {addresses.http}\nsocket  {addresses.ws}")
    if server.uses_local_app:
        app_id, secret = local_app(server.settings.data_path)
        click.echo(f"No app is set up: serving loopback only, app id {app_id}, secret {secret}")


def _reload(server: EarshotServer) -> None:
    try:
        server.reload_certificate()
    except BadCertificate as fault:
        log.error("certificate_not_reloaded", fault=str(fault))  # noqa: TRY400 - the text says it all
    else:
        log.info("certificate_reloaded")


def _give_up() -> None:
    """A second Ctrl-C: the journal has what was acked."""
    raise SystemExit(130)
