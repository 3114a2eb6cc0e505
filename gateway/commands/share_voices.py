"""`earshot voiceprint share`: what a node enrolled by itself becomes the cluster's."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from gateway.assembly.voice_store import REDIS_TIMEOUT_S, name_key
from gateway.commands.options import config_option, data_option, settings_of
from gateway.keys import cluster_key
from gateway.ports import Unavailable
from gateway.settings import Settings
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.sqlite import Database
from gateway.stores.voiceprint_sharing import share_voices
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints


@click.command()
@config_option
@data_option
def share(config: Path | None, data: str | None) -> None:
    """Move the voices of this node's data folder into the Redis of its cluster (EARSHOT_REDIS_URL).

    Servers may go on running: they find the voices at once. A voice whose name is taken there stays here, and is told.
    Exit 1: some stayed.
    """
    settings = settings_of(config, data=data).settings
    if not settings.redis_url:
        raise click.UsageError("there is no Redis to share voices through: set EARSHOT_REDIS_URL")
    path = settings.data_path / "earshot.db"
    if not path.is_file():
        raise click.UsageError(f"{settings.data_path} is no data folder: choose another with --data")
    try:
        outcomes = asyncio.run(_share(settings, path))
    except Unavailable as fault:
        raise click.ClickException(f"{fault}; what has moved is in Redis, the rest is here: begin again") from fault
    click.echo(f"{outcomes['shared']} voices moved to Redis")
    if outcomes["deleted_before"]:
        click.echo(f"{outcomes['deleted_before']} were deleted there before, and are now deleted here")
    if outcomes["name_taken"]:
        click.echo(f"{outcomes['name_taken']} stayed: their names stand for other voices there")
        raise SystemExit(1)


async def _share(settings: Settings, path: Path) -> Counter[str]:
    database = Database(path, [SCHEMA])
    connection = RedisConnection(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
    key = name_key(cluster_key(settings.cluster_key))
    own, shared = SqliteVoiceprints(database, name_key=key), RedisVoiceprints(connection, name_key=key)
    outcomes: Counter[str] = Counter()
    console = Console(stderr=True)
    try:
        with Progress(console=console) as progress:
            task = progress.add_task("voices", total=await own.total())
            async for row, outcome in share_voices(own, shared):
                outcomes[outcome] += 1
                progress.advance(task)
                if outcome == "name_taken":
                    scope = f"app {row.app_id}, org_id {row.org_id!r}, tag_id {row.tag_id!r}"
                    console.print(f"{row.name!r} of {scope} stays: its name is taken", markup=False)
    finally:
        await connection.close()
        database.close()
    return outcomes
