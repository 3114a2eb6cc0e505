"""`earshot voiceprint index`: recordings of other origin, handed to a running server to find voices in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway.commands.options import config_option, data_option, settings_of
from gateway.keys import local_app
from gateway.settings import Settings, parse_apps
from gateway.stores.serving import served_at
from protocol.voiceprint import signed_headers

FILES_PATH = "/v1/passages/files"
LOOK_EVERY_S = 0.5
BUSY_WAIT_S = 2.0
PAGE = 500


@dataclass(frozen=True, slots=True)
class _Server:
    """The HTTP side of a running server, as one of its apps sees it."""

    url: str
    app_id: str
    secret: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, form: aiohttp.FormData | None = None) -> tuple[int, Any]:
        headers = signed_headers(self.app_id, self.secret, time.time())
        async with self.session.request(method, self.url + path, data=form, headers=headers) as response:
            body = await response.read()
            try:
                return response.status, msgspec.json.decode(body) if body else {}
            except msgspec.DecodeError:
                return response.status, {"message": f"the server answered HTTP {response.status}"}


class _RefusedError(click.ClickException):
    """What the server said no to."""


@click.command("index")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--list", "listing", is_flag=True, help="List the files that were indexed, newest first.")
@click.option("--delete", "deleted", multiple=True, metavar="FILE_ID", help="Delete a file and what was found in it.")
@click.option("--no-wait", is_flag=True, help="Return once the server has the files, before it has listened to them.")
@click.option("--url", metavar="URL", help="The server, http://host:port. Default: that of the data folder.")
@click.option(
    "--app", "credentials", metavar="APPID:SECRET", help="Default: the first of EARSHOT_APPS, else the local app."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@data_option
@config_option
def index(files: tuple[Path, ...], config: Path | None, data: str | None, **options: Any) -> None:
    """Hand recordings to a running server, which finds who speaks where in them.

    Any audio, or a video's sound track. Search with GET /v1/voices/NAME/passages or POST /v1/passages/search. Exit
    status 1 when a file could not be indexed.
    """
    if sum(map(bool, (files, options["listing"], options["deleted"]))) != 1:
        raise click.UsageError("name FILES, or give --list or --delete")
    url, app_id, secret = _target(settings_of(config, data=data).settings, options["url"], options["credentials"])

    async def run() -> bool:
        async with _server(url, app_id, secret) as server:
            if options["listing"]:
                _show(await _all_files(server), as_json=options["as_json"])
                return True
            if options["deleted"]:
                return await _delete(server, options["deleted"])
            return await _index(server, files, wait=not options["no_wait"], as_json=options["as_json"])

    try:
        succeeded = asyncio.run(run())
    except aiohttp.ClientConnectionError as fault:
        raise click.ClickException(f"nobody answers at {url}: is `earshot serve` running? ({fault})") from fault
    if not succeeded:
        raise SystemExit(1)


def _target(settings: Settings, url: str | None, credentials: str | None) -> tuple[str, str, str]:
    if url is None:
        serving = served_at(settings.data_path)
        url = serving.http if serving else f"http://{settings.http}"
    url = url.rstrip("/")
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


@asynccontextmanager
async def _server(url: str, app_id: str, secret: str) -> AsyncIterator[_Server]:
    # Between two answers, not for the whole: an hour of audio takes its time on a slow line.
    patience = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300)
    async with aiohttp.ClientSession(timeout=patience) as session:
        yield _Server(url, app_id, secret, session)


async def _index(server: _Server, files: Sequence[Path], *, wait: bool, as_json: bool) -> bool:
    succeeded = True
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=as_json) as progress:
        for path in files:
            bar = progress.add_task(f"{path.name}: sending", total=None)
            try:
                file = await _sent(server, path)
                progress.update(bar, description=f"{path.name}: listening", total=1.0)
                while wait and file["state"] == "waiting":
                    await asyncio.sleep(LOOK_EVERY_S)
                    file = await _one(server, file["file_id"])
                    progress.update(bar, completed=file["progress"])
            except _RefusedError as refusal:
                file = {"file": path.name, "state": "failed", "reason": refusal.message}
            progress.remove_task(bar)
            succeeded &= file["state"] != "failed"
            click.echo(
                msgspec.json.encode(file).decode() if as_json else _told(path, file), err=file["state"] == "failed"
            )
    return succeeded


def _told(path: Path, file: dict[str, Any]) -> str:
    match file["state"]:
        case "failed":
            return f"{path}: not indexed: {file['reason']}"
        case "waiting":
            return f"{path}: waits to be listened to as {file['file_id']}"
        case _:
            count = file["passages"]
            return f"{path}: {count} passage{'' if count == 1 else 's'} found, kept as {file['file_id']}"


async def _sent(server: _Server, path: Path) -> dict[str, Any]:
    while True:
        # The file is sent as it is read, not held; a form cannot be sent twice.
        with path.open("rb") as audio:
            form = aiohttp.FormData({"name": path.name})
            form.add_field("audio", audio, filename=path.name)
            status, answer = await server.ask("POST", FILES_PATH, form)
        if status != 503 or answer.get("code") != "busy":
            return _accepted(status, answer)
        await asyncio.sleep(BUSY_WAIT_S)


async def _one(server: _Server, file_id: str) -> dict[str, Any]:
    return _accepted(*await server.ask("GET", f"{FILES_PATH}/{file_id}"))


def _accepted(status: int, answer: Any) -> dict[str, Any]:
    if status >= 300:
        raise _RefusedError(answer.get("message", f"the server answered HTTP {status}"))
    accepted: dict[str, Any] = answer
    return accepted


async def _all_files(server: _Server) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = []
    page = "limit=" + str(PAGE)
    while True:
        answer = _accepted(*await server.ask("GET", f"{FILES_PATH}?{page}"))["files"]
        files += answer
        if len(answer) < PAGE:
            return files
        page = f"limit={PAGE}&before={answer[-1]['file_id']}"


async def _delete(server: _Server, file_ids: Sequence[str]) -> bool:
    succeeded = True
    for file_id in file_ids:
        status, answer = await server.ask("DELETE", f"{FILES_PATH}/{file_id}")
        if status == 204:
            click.echo(f"{file_id} is deleted")
        else:
            succeeded = False
            click.echo(f"{file_id}: {answer.get('message', status)}", err=True)
    return succeeded


def _show(files: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for file in files:
            click.echo(msgspec.json.encode(file))
        return
    table = Table("id", "file", "length", "state", "passages")
    for file in files:
        state = file["state"] + (f": {file['reason']}" if "reason" in file else "")
        length = f"{file['duration_ms'] // 60_000}:{file['duration_ms'] // 1000 % 60:02d}"
        table.add_row(file["file_id"], Text(file["file"]), length, Text(state), str(file["passages"]))
    Console().print(table if files else "No file was indexed.")
