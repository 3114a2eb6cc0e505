"""`earshot voiceprint`: enrol voices on a running server, recognise, list and delete them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.clients.voiceprint_http import ListedVoice, Recording, VoiceprintHttp
from gateway.commands.share_voices import share
from gateway.commands.voiceprint_import import import_command
from gateway.commands.voiceprint_index import index
from gateway.commands.voiceprint_target import Target, ask, explained, nobody_answers, patiently, target_options
from gateway.ports import Candidate, PortError

PAGE = 500
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def voiceprint() -> None:
    """Enrol, recognise, list and delete voices on a running server, and look after them."""


for command in (import_command, index, share):
    voiceprint.add_command(command)


@voiceprint.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--update", "replaces", is_flag=True, help="Replace the recordings of a voice that is enrolled.")
@click.option("--add", "adds", is_flag=True, help="Add to the recordings of a voice that is enrolled.")
@click.option("--denoise", is_flag=True, help="Take noise out first.")
@target_options
def enrol(target: Target, name: str, files: tuple[Path, ...], replaces: bool, adds: bool, denoise: bool) -> None:
    """Enrol a voice under NAME from one recording or several."""
    if replaces and adds:
        raise click.UsageError("give --update or --add, not both")
    recordings = [Recording(path.name, path.read_bytes()) for path in files]
    update: Literal["", "replace", "add"] = "replace" if replaces else "add" if adds else ""

    async def work(api: VoiceprintHttp) -> None:
        await patiently(lambda: api.enrol(target.voice(name), recordings, update=update, denoise=denoise))

    ask(target, work)
    click.echo(f"{name} is enrolled from {len(files)} recording{'' if len(files) == 1 else 's'}")


@voiceprint.command()
@click.argument("file", type=_FILE)
@click.option("--any-tag", is_flag=True, help="Look under all tags of the organisation.")
@click.option("--denoise", is_flag=True, help="Take noise out first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@target_options
def recognize(target: Target, file: Path, any_tag: bool, denoise: bool, as_json: bool) -> None:
    """Tell whose voice is in FILE: the ten closest, best first. Exit status 1 when nobody is enrolled there."""
    recording = Recording(file.name, file.read_bytes())
    tag_id = None if any_tag else target.tag_id

    async def work(api: VoiceprintHttp) -> Sequence[Candidate]:
        return await patiently(
            lambda: api.recognize_file(target.app_id, target.org_id, tag_id, recording, denoise=denoise)
        )

    found = ask(target, work)
    if as_json:
        for one in found:
            click.echo(json.dumps({"name": one.name, "score": one.score}, ensure_ascii=False))
    elif found:
        table = Table("name", "score")
        for one in found:
            table.add_row(Text(one.name), f"{one.score:.1f}")
        Console().print(table)
    if not found:
        where = f"organisation {target.org_id}" + ("" if any_tag else f", tag {target.tag_id}")
        click.echo(f"nobody is enrolled in {where}", err=True)
        sys.exit(1)


@voiceprint.command("list")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many to pass over.")
@click.option("--limit", type=click.IntRange(1), help="At most so many. Default: all.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with links to the audio.")
@target_options
def show(target: Target, offset: int, limit: int | None, as_json: bool) -> None:
    """List the voices that are enrolled, newest first."""

    async def work(api: VoiceprintHttp) -> tuple[int, list[ListedVoice]]:
        count = await api.count(target.app_id, target.org_id, target.tag_id)
        voices: list[ListedVoice] = []
        while limit is None or len(voices) < limit:
            most = PAGE if limit is None else min(PAGE, limit - len(voices))
            page = await api.voices(
                target.app_id, target.org_id, target.tag_id, offset=offset + len(voices), limit=most
            )
            voices += page
            if len(page) < most:
                break
        return count, voices

    count, voices = ask(target, work)
    for one in voices:
        if as_json:
            click.echo(json.dumps({"name": one.name, "audio": one.audio_url}, ensure_ascii=False))
        else:
            click.echo(one.name)
    if not as_json and len(voices) < count:
        click.echo(f"{len(voices)} of {count}", err=True)


@voiceprint.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Every voice of the tag.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@target_options
def delete(target: Target, names: tuple[str, ...], everybody: bool, yes: bool) -> None:
    """Delete voices for good: prints, recordings, and what search knows of them. Exit status 1 for unknown names."""
    if everybody == bool(names):
        raise click.UsageError("name NAMES, or give --all")
    where = f"organisation {target.org_id}, tag {target.tag_id}"
    if not yes:
        what = f"{len(names)} voice{'' if len(names) == 1 else 's'}"
        if everybody:
            what = f"all {ask(target, lambda api: api.count(target.app_id, target.org_id, target.tag_id))} voices"
        click.confirm(f"Delete {what} of {where} for good?", abort=True, err=True)
    if everybody:
        ask(target, lambda api: api.delete_all(target.app_id, target.org_id, target.tag_id))
        click.echo(f"every voice of {where} is deleted")
        return

    async def work(api: VoiceprintHttp) -> list[str]:
        faults = []
        for name in names:
            try:
                await api.delete(target.app_id, target.org_id, target.tag_id, name)
                click.echo(f"{name} is deleted")
            except PortError as fault:
                if nobody_answers(fault):
                    raise
                faults.append(f"{name}: {explained(target, fault)}")
        return faults

    if faults := ask(target, work):
        raise click.ClickException("\n".join(faults))
