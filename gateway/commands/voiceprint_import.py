"""`earshot voiceprint import`: a folder of recordings, enrolled one voice after another; begun again, it goes on."""

from __future__ import annotations

import asyncio
import json
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gateway.clients.voiceprint_http import Recording, VoiceprintHttp
from gateway.commands.voiceprint_target import Target, ask, explained, nobody_answers, patiently, target_options
from gateway.ports import Rejected, Unavailable

SOUNDS = frozenset({".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".oga", ".amr", ".wma", ".aiff", ".au"})
SUFFIXES = SOUNDS | {".pcm", ".raw", ".mp4", ".mov", ".mkv", ".webm", ".avi", ".3gp"}
SERVER_BACK_S = 60.0
"""How long a server that went away is waited for."""
PAGE = 1000
Outcome = Literal["enrolled", "updated", "there already", "refused"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A voice of the folder: its name and its recordings."""

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Result:
    entry: Entry
    outcome: Outcome
    reason: str = ""


def entries_of(folder: Path) -> tuple[list[Entry], list[Path]]:
    """The voices of DIR/NAME.wav and DIR/NAME/*.wav in the order of their names, and what is no recording.

    Names are brought to Unicode's composed form: some systems store them decomposed, and people type them composed.
    """
    files: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        inside = sorted(one for one in path.iterdir() if not one.name.startswith(".")) if path.is_dir() else [path]
        name = unicodedata.normalize("NFC", path.name if path.is_dir() else path.stem)
        for one in inside:
            if one.is_file() and one.suffix.lower() in SUFFIXES:
                files.setdefault(name, []).append(one)
            else:
                others.append(one)
    return [Entry(name, tuple(found)) for name, found in files.items()], others


@click.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--update", is_flag=True, help="Replace the recordings of voices that are enrolled already.")
@click.option("--denoise", is_flag=True, help="Take noise out first.")
@click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Voices at a time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each voice, in place of the report.")
@target_options
def import_command(target: Target, folder: Path, update: bool, denoise: bool, jobs: int, as_json: bool) -> None:
    """Enrol every voice of DIR: DIR/NAME.wav, or DIR/NAME/*.wav for a voice with several recordings. Any audio format.

    Voices that are enrolled already are passed over, so an import that was broken off goes on where it stopped. Exit
    status 1 when a voice was refused.
    """
    entries, others = entries_of(folder)
    if not entries:
        raise click.ClickException(f"{folder} holds no recordings: expected NAME.wav, or NAME/*.wav, or other audio")
    console = Console(stderr=True)
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as progress:
        bar = progress.add_task("enrolling", total=len(entries))
        run = _Import(target, update=update, denoise=denoise, results=results, progress=progress, bar=bar)
        try:
            ask(target, lambda api: run.all(api, entries, jobs))
        finally:
            _report(results, others, len(entries), as_json=as_json)
    if any(one.outcome == "refused" for one in results):
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class _Import:
    target: Target
    update: bool
    denoise: bool
    results: list[Result]
    progress: Progress
    bar: TaskID

    async def all(self, api: VoiceprintHttp, entries: Sequence[Entry], jobs: int) -> None:
        """Enrol all entries, so many at a time. Raises Unavailable when the server stays away."""
        known = await self._known(api)
        queue = iter(entries)
        workers = [asyncio.create_task(self._work(api, queue, known)) for _ in range(jobs)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, api: VoiceprintHttp, queue: Iterator[Entry], known: frozenset[str]) -> None:
        for entry in queue:  # one iterator for all workers: each takes what comes next
            self.results.append(await self._one(api, entry, is_known=entry.name in known))
            self.progress.advance(self.bar)

    async def _one(self, api: VoiceprintHttp, entry: Entry, *, is_known: bool) -> Result:
        if is_known and not self.update:
            return Result(entry, "there already")
        voice = self.target.voice(entry.name)
        try:
            recordings = [Recording(path.name, await asyncio.to_thread(path.read_bytes)) for path in entry.files]
        except OSError as fault:
            return Result(entry, "refused", f"{fault.filename} cannot be read: {fault.strerror}")
        deadline_s, was_lost = time.monotonic() + SERVER_BACK_S, False
        while True:
            try:
                await patiently(
                    lambda: api.enrol(voice, recordings, update="replace" if is_known else "", denoise=self.denoise)
                )
            except Rejected as refusal:
                if was_lost and not is_known and await self._is_enrolled(api, entry):
                    return Result(entry, "enrolled")  # the answer was lost with the server, the voice was not
                return Result(entry, "refused", explained(self.target, refusal))
            except Unavailable as fault:
                if not nobody_answers(fault) or time.monotonic() > deadline_s:
                    raise
                was_lost = True
                await asyncio.sleep(0.5)
            else:
                return Result(entry, "updated" if is_known else "enrolled")

    async def _is_enrolled(self, api: VoiceprintHttp, entry: Entry) -> bool:
        try:
            await api.voice_url(self.target.voice(entry.name))
        except Rejected:
            return False
        return True

    async def _known(self, api: VoiceprintHttp) -> frozenset[str]:
        """The names that are enrolled."""
        target, names, offset = self.target, set[str](), 0
        while True:
            page = await api.voices(target.app_id, target.org_id, target.tag_id, offset=offset, limit=PAGE)
            names |= {one.name for one in page}
            offset += len(page)
            if len(page) < PAGE:
                return frozenset(names)


def _report(results: Sequence[Result], others: Sequence[Path], total: int, *, as_json: bool) -> None:
    if as_json:
        for one in results:
            told = {"name": one.entry.name, "outcome": one.outcome, "files": [str(path) for path in one.entry.files]}
            click.echo(json.dumps(told | ({"reason": one.reason} if one.reason else {}), ensure_ascii=False))
        return
    refused = [one for one in results if one.outcome == "refused"]
    if refused:
        table = Table("refused", "why", "recordings")
        for one in refused:
            table.add_row(
                Text(one.entry.name), Text(one.reason), Text(", ".join(path.name for path in one.entry.files))
            )
        Console().print(table)
    for path in others:
        click.echo(f"passed over, no recording by its name: {path}", err=True)
    counts = {outcome: sum(one.outcome == outcome for one in results) for outcome in get_args(Outcome)}
    done = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    missing = total - len(results)
    click.echo(f"{done or 'nothing done'}{f', {missing} not reached: run it again' if missing else ''}")
