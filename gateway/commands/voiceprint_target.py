"""Which server, app, organisation and tag a `earshot voiceprint` command is about, and how it is asked."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import click

from gateway.clients.voiceprint_http import VoiceprintHttp, VoiceprintRefused
from gateway.commands.options import config_option, data_option, settings_of
from gateway.keys import local_app
from gateway.ports import PortError, Unavailable
from gateway.settings import Settings, parse_apps
from gateway.stores.serving import served_at
from protocol.voiceprint import Code, NamedVoice

T = TypeVar("T")
TIMEOUT_S = 120.0
PATIENCE_S = 600.0
"""How long a request that the server is still working on is asked for again."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tag of an app's organisation on a server."""

    url: str
    app_id: str
    secret: str
    org_id: str
    tag_id: str

    def voice(self, name: str) -> NamedVoice:
        return NamedVoice(self.app_id, self.org_id, self.tag_id, name)


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that name a Target, given to the command as `target`."""

    @functools.wraps(command)
    def with_target(
        *,
        url: str | None,
        credentials: str | None,
        org: str | None,
        tag: str,
        config: Path | None,
        data: str | None,
        **options: Any,
    ) -> None:
        settings = settings_of(config, data=data).settings
        app_id, secret = _credentials(settings, credentials)
        command(target=Target(_url(settings, url), app_id, secret, org or app_id, tag), **options)

    described = with_target
    for option in (
        config_option,
        data_option,
        click.option("--tag", default="agents", show_default=True, help="The tag within the organisation."),
        click.option("--org", help="The organisation. Default: the app id, which is where calls look."),
        click.option(
            "--app",
            "credentials",
            metavar="APPID:SECRET",
            help="Default: the first of EARSHOT_APPS, else the local app.",
        ),
        click.option("--url", metavar="URL", help="The server, http://host:port. Default: that of the data folder."),
    ):
        described = option(described)
    return described


def ask(target: Target, work: Callable[[VoiceprintHttp], Awaitable[T]]) -> T:
    """What `work` makes of the server; a refusal or a server that is not there ends the command with its reason."""

    async def run() -> T:
        async with aiohttp.ClientSession() as session:
            return await work(client_of(target, session))

    try:
        return asyncio.run(run())
    except PortError as fault:
        raise click.ClickException(explained(target, fault)) from fault


def client_of(target: Target, session: aiohttp.ClientSession) -> VoiceprintHttp:
    return VoiceprintHttp(
        target.url,
        session,
        credentials=lambda _: (target.app_id, target.secret),
        now=time.time,
        timeout_s=TIMEOUT_S,
    )


def explained(target: Target, fault: PortError) -> str:
    """What went wrong, for whoever typed the command."""
    if isinstance(fault, VoiceprintRefused):
        if fault.code == Code.ILLEGAL_ACCESS:
            hint = "name the app with --app APPID:SECRET, and check that the clocks agree"
            return f"{target.url} does not accept the credentials of app {target.app_id}: {hint}"
        return fault.msg.partition(": ")[2] or fault.msg
    if nobody_answers(fault):
        return f"nobody answers at {target.url}: start the server with `earshot serve`, or name another with --url"
    return str(fault)


def nobody_answers(fault: PortError) -> bool:
    return isinstance(fault, Unavailable) and isinstance(fault.__cause__, aiohttp.ClientConnectionError | OSError)


async def patiently(request: Callable[[], Awaitable[T]]) -> T:
    """The answer to a request that is sent again while the server works on it or has too much to do."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await request()
        except Unavailable as fault:
            if fault.retry_after_s is None or time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(fault.retry_after_s)


def _url(settings: Settings, url: str | None) -> str:
    if url is not None:
        return url.rstrip("/")
    serving = served_at(settings.data_path)
    if serving is not None:
        return serving.http
    return f"http{'s' if settings.tls_cert else ''}://{settings.http}"


def _credentials(settings: Settings, credentials: str | None) -> tuple[str, str]:
    if credentials is not None:
        app_id, colon, secret = credentials.partition(":")
        if not (app_id and colon and secret):
            raise click.ClickException("--app must look like appid:secret")
        return app_id, secret
    for app_id, secrets in parse_apps(settings.apps).items():
        return app_id, secrets[0]
    return local_app(settings.data_path)
