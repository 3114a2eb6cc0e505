"""`earshot call`: an audio file, played into a server as a softphone would."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop
from rich.console import Console

from gateway.commands.options import config_option, data_option, settings_of
from gateway.keys import local_app
from gateway.settings import Settings, parse_apps
from gateway.stores.serving import served_at
from gateway.terminal.softphone import NotAudio, Playback, read_audio
from gateway.terminal.timeline import Timeline
from protocol.audio import AudioFormat
from protocol.client import CallClient, CallLost, CallRefused
from protocol.codec import encode
from protocol.messages import Ended, Start


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--url", help="Native socket, ws://host:port/v1/calls. Default: the server of the data folder.")
@click.option(
    "--app", "credentials", metavar="APPID:SECRET", help="Default: the first of EARSHOT_APPS, else the local app."
)
@click.option("--lang", type=click.Choice(["zh", "en", "auto"]), default="auto", show_default=True)
@click.option("--rate", type=click.Choice(["8000", "16000", "48000"]), default="16000", show_default=True, help="Hz")
@click.option("--encoding", type=click.Choice(["pcm_s16le", "pcmu", "pcma"]), default="pcm_s16le", show_default=True)
@click.option("--mono", is_flag=True, help="Mix all channels into one.")
@click.option(
    "--speed", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Times real time; 0: at once."
)
@click.option("--category", "categories", multiple=True, help="Judge only these categories of rules.")
@click.option("--agent", help="Name of the agent, as enrolled.")
@click.option(
    "--wait-qc", type=click.FloatRange(min=0), default=180.0, show_default=True, help="Seconds to wait for the verdict."
)
@click.option("--json", "as_json", is_flag=True, help="Print the server's messages, one JSON object a line.")
@data_option
@config_option
def call(file: Path, config: Path | None, data: str | None, **options: Any) -> None:
    """Play FILE into a server in real time and show what it hears: two channels are agent and customer.

    Exit status 0 only when the call ended with a verdict.
    """
    settings = settings_of(config, data=data).settings
    url, app_id, secret = _target(settings, options["url"], options["credentials"])
    rate_hz = int(options["rate"])
    try:
        pcm, channels = read_audio(file, rate_hz, 1 if options["mono"] else None)
    except NotAudio as fault:
        raise click.ClickException(str(fault)) from fault
    metadata = {"file": file.name} | ({"agent": options["agent"]} if options["agent"] else {})
    start = msgspec.convert(
        {
            "type": "start",
            "encoding": options["encoding"],
            "rate": rate_hz,
            "channels": channels,
            "language": options["lang"],
            "categories": options["categories"],
            "metadata": metadata,
        },
        Start,
    )
    client = CallClient(url, start, app_id=app_id, secret=secret)
    try:
        ended = uvloop.run(
            _play(client, pcm, options["speed"], round(options["wait_qc"] * 1000), as_json=options["as_json"])
        )
    except CallRefused as refusal:
        raise click.ClickException(f"the server refused the call: {refusal}") from refusal
    except CallLost as lost:
        raise click.ClickException(str(lost)) from lost
    except OSError as fault:
        raise click.ClickException(f"nobody answers at {url}: is `earshot serve` running? ({fault})") from fault
    sys.exit(0 if ended.reason not in ("qc_pending", "qc_failed") else 1)


def _target(settings: Settings, url: str | None, credentials: str | None) -> tuple[str, str, str]:
    if url is None:
        serving = served_at(settings.data_path)
        url = serving.ws if serving else f"ws://{settings.ws}/v1/calls"
    if credentials is None:
        configured = parse_apps(settings.apps)
        if configured:
            app_id, secrets = next(iter(configured.items()))
            return url, app_id, secrets[0]
        return url, *local_app(settings.data_path)
    app_id, colon, secret = credentials.partition(":")
    if not (app_id and colon and secret):
        raise click.ClickException("--app must look like appid:secret")
    return url, app_id, secret


async def _play(client: CallClient, pcm: bytes, speed: float, wait_qc_ms: int, *, as_json: bool) -> Ended:
    start = client.start
    playback = Playback(pcm, AudioFormat(start.encoding, start.rate, start.channels), speed)
    timeline = Timeline(Console(), playback.since_ms)
    async with client, asyncio.TaskGroup() as group:
        group.create_task(_speak(client, playback, wait_qc_ms, None if as_json else timeline))
        async for message in client:
            if as_json:
                click.echo(encode(message).decode())
            else:
                timeline.show(message)
        assert isinstance(message, Ended)
    if not as_json:
        Console().print(timeline.summary())
    return message


async def _speak(client: CallClient, playback: Playback, wait_qc_ms: int, timeline: Timeline | None) -> None:
    await playback.run(client)
    await client.hang_up(wait_qc_ms=wait_qc_ms)
    if timeline is not None:
        timeline.wait_for_verdict()
