"""`earshot qc`: recordings on this machine, judged without a server."""

from __future__ import annotations

import asyncio
import base64
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gateway.assembly.local_quality import LocalQuality
from gateway.commands.options import config_option, settings_of
from gateway.commands.rules import categories_of
from gateway.engines.models import ModelMissing
from gateway.ports import Rejected, StoredCategory, Unavailable
from gateway.quality.rule_routes import stored
from gateway.quality.sniff import NotAudio, kind_of
from gateway.report.page import Audio, clock, render
from gateway.report.sources import of_result
from gateway.report.words import Lang
from gateway.settings import Settings
from gateway.telemetry import configure_logging
from protocol.quality import MAX_AUDIO_BYTES, MAX_SESSION_ID_CHARS, PID_PLAIN, QualityFault, TaskRequest

HIT, FAULT, INTERRUPTED = 1, 2, 130
"""Exit statuses: a rule was hit; something could not be judged; Ctrl-C."""
HEADERLESS = (".pcm", ".raw")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be done with each file."""

    split: bool | None
    """None: as many voices as channels."""
    speakers: int
    language: str
    rate_hz: int
    rules: tuple[StoredCategory, ...] | None
    as_json: bool
    report_dir: Path | None
    report_lang: Lang


class _NotJudged(Exception):
    """A file that cannot be judged; the text says why."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--rules", "rules_file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Rules to judge by, as `earshot rules check` reads them. Without: a transcript, and no verdict.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the API's result object of each file, one a line.")
@click.option(
    "--split/--mix", "split", default=None,
    help="Left and right are a speaker each, or are mixed. Default: split what has two channels.",
)  # fmt: skip
@click.option(
    "--speakers", type=click.IntRange(1, 2), default=1, show_default=True,
    help="2: tell two speakers apart in one channel.",
)  # fmt: skip
@click.option(
    "--language", type=click.Choice(["zh", "en", "auto"]), default="auto", show_default=True, help="What is spoken."
)
@click.option(
    "--rate", type=click.Choice(["8000", "16000"]), default="8000", show_default=True,
    help="Hz of headerless s16le files (.pcm, .raw).",
)  # fmt: skip
@click.option(
    "--report", "report_dir", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Write an HTML report of each file here.",
)  # fmt: skip
@click.option(
    "--report-lang", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language of the reports."
)
@config_option
def qc(files: tuple[Path, ...], rules_file: Path | None, config: Path | None, **options: Any) -> None:
    """Transcribe FILES and judge them by rules, with the service's own engines and no server.

    Exit status 0: no rule was hit. 1: one was. 2: a file or the rules cannot be used.
    """
    configure_logging("error", "console")
    console = Console(stderr=True)
    try:
        settings = settings_of(config).settings
        rules = None if rules_file is None else tuple(map(stored, categories_of(rules_file)))
        asked = Asked(
            split=options["split"],
            speakers=options["speakers"],
            language=options["language"],
            rate_hz=int(options["rate"]),
            rules=rules,
            as_json=options["as_json"],
            report_dir=options["report_dir"],
            report_lang=options["report_lang"],
        )
        if asked.report_dir is not None:
            asked.report_dir.mkdir(parents=True, exist_ok=True)
        status = asyncio.run(_judge_all(tuple(dict.fromkeys(files)), asked, settings, console))
    except (ModelMissing, Unavailable, OSError) as fault:
        _fail(str(fault))
    except click.ClickException as fault:
        _fail(fault.message)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception:
        # By itself it would end with 1, as a hit does.
        traceback.print_exc()
        raise SystemExit(FAULT) from None
    raise SystemExit(status)


def _fail(message: str) -> NoReturn:
    """End with status 2: 1 means that a rule was hit."""
    click.echo(f"Error: {message}", err=True)
    raise SystemExit(FAULT)


async def _judge_all(files: Sequence[Path], asked: Asked, settings: Settings, console: Console) -> int:
    """The status to exit with."""
    status = 0
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        loading = progress.add_task("loading the engines", total=None)
        async with LocalQuality(settings, asked.rules or ()) as quality:
            progress.remove_task(loading)
            for file in files:
                bar = progress.add_task(_shortened(file.name), total=100)
                try:
                    result = await _judged(quality, file, asked, progress, bar)
                except _NotJudged as fault:
                    console.print(Text(f"Error: {file}: {fault}"), soft_wrap=True)
                    status = FAULT
                    continue
                finally:
                    progress.remove_task(bar)
                status = max(status, _outcome(result))
                await asyncio.to_thread(_present, file, result, asked)
    return status


def _outcome(result: dict[str, Any]) -> int:
    if result["state"] != 2:
        return FAULT
    return HIT if _hit(result) else 0


def _hit(result: dict[str, Any]) -> bool:
    verdict: str = result["pass_detection"]
    return verdict != "success"


async def _judged(quality: LocalQuality, file: Path, asked: Asked, progress: Progress, bar: TaskID) -> dict[str, Any]:
    """The result object. Raises _NotJudged."""
    try:
        data = await asyncio.to_thread(_read, file)
        headerless = file.suffix.lower() in HEADERLESS
        if not headerless and kind_of(data) == "pcm":
            raise _NotJudged("no known kind of audio file; headerless PCM is taken from .pcm and .raw only")
        split = asked.split
        if split is None:
            split = not headerless and await quality.channels_of(data, file.name) == 2
        request = TaskRequest(
            session_id=str(file)[-MAX_SESSION_ID_CHARS:],
            pid=PID_PLAIN,
            speech_data=await asyncio.to_thread(_encoded, data),
            sample_rate=asked.rate_hz,
            role_num=asked.speakers,
            enable_detection=asked.rules is not None,
            enable_detection_detail=asked.rules is not None,
            is_split_channel=split,
            language=asked.language,  # type: ignore[arg-type]  # click has checked the choice
        )
        del data
        return await quality.judge(request, lambda percent: progress.update(bar, completed=percent))
    except OSError as fault:
        raise _NotJudged(f"cannot be read: {fault.strerror or fault}") from fault
    except (NotAudio, Rejected) as fault:
        raise _NotJudged(str(fault)) from fault
    except QualityFault as fault:
        raise _NotJudged(fault.message) from fault


def _read(file: Path) -> bytes:
    size_bytes = file.stat().st_size
    if size_bytes > MAX_AUDIO_BYTES:
        raise _NotJudged(f"{size_bytes} bytes are more than voice QC takes ({MAX_AUDIO_BYTES})")
    return file.read_bytes()


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _present(file: Path, result: dict[str, Any], asked: Asked) -> None:
    if asked.as_json:
        click.echo(msgspec.json.encode(result))
    else:
        console = Console()
        for part in _shown(file, result, judged=asked.rules is not None):
            console.print(part)
    if asked.report_dir is not None:
        target = _report_path(asked.report_dir, file)
        # Where the file lies, seen from the report: both may be moved together.
        way = Path(os.path.relpath(file.resolve(), target.parent.resolve())).as_posix()
        audio = Audio(quote(way), "'self' file:")
        target.write_text(render(of_result(result), asked.report_lang, audio), "utf-8", errors="replace")


def _report_path(folder: Path, file: Path) -> Path:
    """A name that no other file's report has: two recordings may differ in their folder only."""
    whole = str(file.parent).strip("./").replace(os.sep, "-")
    return folder / (f"{whole}-{file.name}.html" if whole else f"{file.name}.html")


def _shown(file: Path, result: dict[str, Any], *, judged: bool) -> Iterator[Any]:
    """Tables for people; what came from the recording is never read as markup."""
    yield Text(str(file), style="bold")
    if result["state"] != 2:
        yield Text(result["state_desc"], style="red")
        return
    report = of_result(result)
    failed = _hit(result)
    facts = Table.grid(padding=(0, 2))
    facts.add_row("duration", clock(report.duration_ms))
    facts.add_row("silence", clock(result["silence_duration"] * 1000))
    if judged:
        facts.add_row("verdict", Text("not passed", style="red") if failed else Text("passed", style="green"))
    yield facts
    if report.findings:
        hits = Table("category", "rule", "at", "sentence", title="rules hit", title_justify="left")
        sentences = {line.number: line for line in report.lines}
        for finding in report.findings:
            places = [(clock(one.at_ms), sentences[one.line].text) for one in finding.places if one.line is not None]
            for at, said in places or [("", "")]:
                hits.add_row(Text(finding.category), Text(finding.rule), at, Text(said))
        yield hits
    transcript = Table("at", "speaker", "said", title="transcript", title_justify="left")
    for line in report.lines:
        transcript.add_row(
            f"{clock(line.begin_ms)}–{clock(line.end_ms)}", Text(line.who or str(line.party + 1)), Text(line.text)
        )
    yield transcript if report.lines else Text("Nothing was said, or nothing was understood.")


def _shortened(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:25]}…{name[-14:]}"
