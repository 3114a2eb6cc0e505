"""`earshot doctor`: the settings in force, and what is missing."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from time import time

import click
from rich.console import Console
from rich.table import Table

from gateway.assembly.clock import SystemClock
from gateway.commands.options import config_option, data_option, settings_of
from gateway.commands.outbox import duration
from gateway.engines.manifest import SILERO
from gateway.engines.models import damaged
from gateway.ports import Unavailable
from gateway.settings import SECRET, Settings, parse_address
from gateway.stores import voiceprints
from gateway.stores.outbox import SCHEMA, Outbox
from gateway.stores.redis_connection import RedisConnection, Unsuitable, check_suitable, without_password
from gateway.stores.serving import served_at
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SqliteVoiceprints


@click.command()
@config_option
@data_option
def doctor(config: Path | None, data: str | None) -> None:
    """Print every setting in force and where it comes from; check what a server needs. Exit 1: something is missing."""
    loaded = settings_of(config, data=data)
    console = Console()
    table = Table("setting", "value", "from")
    for name in loaded.settings.__struct_fields__:
        table.add_row(name, _shown(name, getattr(loaded.settings, name)), loaded.sources.get(name, "default"))
    console.print(table)
    faults = 0
    for subject, fault, remedy in _checks(loaded.settings):
        faults += bool(fault)
        console.print(
            f"[{'red' if fault else 'green'}]{'missing' if fault else 'ok':8}[/] {subject}: {fault or remedy}"
        )
    if faults:
        raise SystemExit(1)


def _shown(name: str, value: object) -> str:
    """A setting's value; of secrets only whose they are."""
    if name == "redis_url" and value:
        return without_password(str(value))
    if name == "cluster_key" and value:
        return "***"
    if name in SECRET and value:
        return ", ".join(_without_secret(entry) for entry in str(value).split(","))
    return str(value)


def _without_secret(entry: str) -> str:
    app_id, colon, _ = entry.partition(":")
    return f"{app_id.strip()}:***" if colon else "***"  # without a colon, it may be the secret that is there


def _checks(settings: Settings) -> list[tuple[str, str, str]]:
    """(what, what is wrong with it or nothing, what is right with it)"""
    checks = []
    for name in (settings.recognizer, settings.voiceprint_model, SILERO.name):
        bad = damaged(settings.models_path, name)
        fault = f"{', '.join(bad)} missing or damaged: run `earshot models pull {name}`" if bad else ""
        checks.append((f"model {name}", fault, f"whole, in {settings.models_path}"))
    checks.append(_check_data(settings.data_path))
    checks.append(("outbox", "", _outbox(settings.data_path)))
    if settings.redis_url:
        checks.append(asyncio.run(_check_redis(settings)))
        checks.append(("voices", _unshared(settings.data_path), "all of them in Redis"))
    serving = served_at(settings.data_path)
    for name in ("http", "ws"):
        address = getattr(settings, name)
        taken = "" if serving else _taken(*parse_address(name, address))
        fault = f"{taken}: choose another address in {name}" if taken else ""
        checks.append((f"{name} {address}", fault, "a server is running" if serving else "free"))
    return checks


def _check_data(data: Path) -> tuple[str, str, str]:
    nearest = next(folder for folder in (data, *data.absolute().parents) if folder.exists())
    writable = os.access(nearest, os.W_OK) and nearest.is_dir()
    return (
        f"data folder {data}",
        "" if writable else f"{nearest} cannot be written to: choose another with --data",
        "writable",
    )


async def _check_redis(settings: Settings) -> tuple[str, str, str]:
    subject = f"Redis {without_password(settings.redis_url)}"
    connection = RedisConnection(settings.redis_url)
    try:
        doubts = await check_suitable(connection, replicated=settings.replicated)
    except (Unavailable, Unsuitable) as fault:
        return subject, str(fault), ""
    finally:
        await connection.close()
    return subject, "", "; ".join(doubts) or "answers, and is set up as docs/cluster.md asks"


def _outbox(data: Path) -> str:
    """What waits for voice QC, in words. Nothing of it keeps a server from running."""
    path = data / "earshot.db"
    if not path.is_file():
        return "empty"
    database = Database(path, [SCHEMA])
    try:
        depths = asyncio.run(Outbox(database, SystemClock(), data_dir=data).depths())
    finally:
        database.close()
    told = [f"{one.tasks} {one.state}, the oldest for {duration(time() - one.oldest_at)}" for one in depths]
    more = "; see `earshot outbox list`" if any(one.state == "dead" for one in depths) else ""
    return ("; ".join(told) or "empty") + more


def _unshared(data: Path) -> str:
    """What is the matter with voices that this node enrolled while it was alone; nothing when there are none."""
    path = data / "earshot.db"
    if not path.is_file():
        return ""
    database = Database(path, [voiceprints.SCHEMA])
    try:
        voices = asyncio.run(SqliteVoiceprints(database).total())
    finally:
        database.close()
    return f"{voices} are in the data folder, not in Redis: run `earshot voiceprint share`" if voices else ""


def _taken(host: str, port: int) -> str:
    try:
        with socket.create_server((host, port), reuse_port=False):
            return ""
    except OSError as fault:
        return os.strerror(fault.errno) if fault.errno else str(fault)
