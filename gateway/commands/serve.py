"""`earshot serve`: the server, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import click
import structlog
import uvloop

from gateway.app import Addresses, EarshotServer
from gateway.assembly.clock import SystemClock
from gateway.assembly.folder import StartFailed
from gateway.assembly.garbage import collect_garbage, leave_full_collections_to_us
from gateway.commands.open_files import raise_open_files
from gateway.commands.options import config_option, data_option, settings_of
from gateway.commands.screen import screen_link
from gateway.commands.supervisor import notify
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
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Processes that take calls, on one port and around one set of engines. Default 1: all is one process.",
)
@click.option("--replace", is_flag=True, help="Take over from the server of this data folder: get ready, then stop it.")
@data_option
@config_option
def serve(
    http: str | None, ws: str | None, workers: int | None, replace: bool, data: str | None, config: Path | None
) -> None:
    """Run the gateway until SIGTERM or Ctrl-C. Defaults: HTTP 127.0.0.1:8080, socket 127.0.0.1:8081, ./earshot-data.

    Without any app (see `earshot app create`, EARSHOT_APPS) it serves loopback only, with an app it prints.
    With --workers N other processes take the calls, and one that dies takes only its own along, until it is restarted.
    SIGHUP reads the TLS certificate again. SIGTERM drains: calls are let go within `drain_s`, nothing stored is lost,
    and the next server on the data folder goes on with them. A second one ends it at once.
    """
    settings = settings_of(config, http=http, ws=ws, workers=workers, data=data).settings
    configure_logging(settings.log_level, settings.log_format)
    raise_open_files()
    try:
        uvloop.run(_serve(settings, replace=replace))
    except (StartFailed, BadCertificate, ModelMissing) as fault:
        raise click.ClickException(str(fault)) from fault


async def _serve(settings: Settings, *, replace: bool) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server = EarshotServer(settings, on_progress=lambda step: log.info("starting", step=step), replace=replace)
    starting, stopping = asyncio.create_task(server.start()), asyncio.create_task(told.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        _leave_within(settings.drain_s)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    addresses = starting.result()
    loop.add_signal_handler(signal.SIGHUP, _reload, server)
    _greet(server, addresses)
    note_addresses(settings.data_path, addresses.http, addresses.ws)
    leave_full_collections_to_us()
    collecting = asyncio.create_task(collect_garbage(lambda: server.calls_going_on, SystemClock()))
    notify("READY=1")
    await stopping
    collecting.cancel()
    log.info("stopping", calls=server.calls_going_on)
    notify("STOPPING=1")
    _leave_within(settings.drain_s)
    withdraw_addresses(settings.data_path)
    try:
        await server.stop()
    except Exception:
        log.exception("not_stopped_cleanly")  # here, because the deadline may come before the error is shown
        raise


def _leave_within(seconds: float) -> None:
    """From here on this process ends by itself, and a second signal ends it at once.

    Whatever hangs (a disk, a name look-up, the event loop itself) cannot hold it: a thread of its own looks at the
    clock, and the system deals with the second signal. What was acknowledged is in the journal.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
    deadline = threading.Timer(seconds, _leave, [seconds])
    deadline.daemon = True
    deadline.start()


def _leave(drain_s: float) -> None:
    log.warning("not_stopped_in_time", drain_s=drain_s)
    os._exit(0)


def _greet(server: EarshotServer, addresses: Addresses) -> None:
    click.echo(f"HTTP    {addresses.http}\nsocket  {addresses.ws}")
    if server.uses_local_app:
        app_id, secret = local_app(server.settings.data_path)
        click.echo(f"No app is set up: serving loopback only, app id {app_id}, secret {secret}")
        click.echo(f"screen  {screen_link(server.settings, addresses.http, app_id)}")


def _reload(server: EarshotServer) -> None:
    try:
        server.reload_certificate()
    except BadCertificate as fault:
        log.error("certificate_not_reloaded", fault=str(fault))  # noqa: TRY400 - the text says it all
    else:
        log.info("certificate_reloaded")
