"""`earshot eval`: what live calls are worth, on labelled calls of one's own."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console

from gateway.engines.models import ModelMissing
from gateway.settings import SettingsError, load
from gateway.terminal.serving import NotServing
from gateway.terminal.softphone import NotAudio
from protocol.client import CallLost, CallRefused
from protocol.rules import RuleSetError

if TYPE_CHECKING:
    from gateway.evaluation.material import Material

PLAYINGS = ("stereo", "mono")


@click.command("eval")
@click.argument("calls", required=False, type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "--enrol", "enrolments", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of voices to enrol: an audio file each, or a transcripts.tsv. May be given again.",
)  # fmt: skip
@click.option(
    "--rules", "rules_file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help='Rules to judge: JSON of {"category": ["expression", ...]}. Default: drawn from the references.',
)  # fmt: skip
@click.option(
    "--play", "playings", multiple=True, type=click.Choice(PLAYINGS),
    help="In stereo as recorded (the default), as a mono downmix, or both: give it twice.",
)  # fmt: skip
@click.option(
    "--speed", type=click.FloatRange(min=0.1, max=100), default=1.0, show_default=True,
    help="Times real time. Other than at 1 no latency is reported.",
)  # fmt: skip
@click.option(
    "--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Calls played at the same time."
)
@click.option("--limit", type=click.IntRange(min=1), help="Play only so many calls.")
@click.option("--name", "names", multiple=True, help="Play only the call of this name; may be given again.")
@click.option("--apart", multiple=True, help="A speaker whose text is counted on its own; may be given again.")
@click.option(
    "--set", "fixed", metavar="NAME=VALUE", multiple=True, help="A setting of the server, as in earshot.toml."
)
@click.option("--sweep", metavar="NAME=V1,V2,...", help="Evaluate once for each value of a setting.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here.")
@click.option(
    "--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots here."
)
@click.option(
    "--markdown", "markdown_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the table here."
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Write every call's messages here.")
def evaluate(
    calls: Path | None, enrolments: tuple[Path, ...], rules_file: Path | None, playings: tuple[str, ...], speed: float,
    at_once: int, limit: int | None, names: tuple[str, ...], apart: tuple[str, ...], fixed: tuple[str, ...],
    sweep: str | None, json_file: Path | None, html_file: Path | None, markdown_file: Path | None, keep: Path | None,
) -> None:  # fmt: skip
    """Play labelled calls through the real socket and report accuracy, alerts, latency and CPU.

    CALLS holds NAME.flac (or .wav, .mp3, ...) beside NAME.json, whose `turns` name channel, speaker, start_s, end_s and
    text. Without CALLS the demo's calls are played, whose voices are synthetic. Each evaluation runs on a server of its
    own, with the settings in force here; it takes as long as the calls and voice QC of them.
    """
    console = Console()
    try:
        from gateway.evaluation import page, report, run  # they need the extra `eval`
    except ModuleNotFoundError as missing:
        raise click.ClickException(
            f"{missing.name} is not installed; evaluating needs the extra: pip install 'earshot[eval]'"
        ) from missing
    try:
        material = _material(calls, enrolments, names, limit, console)
        variants = [
            run.Variant(playing, settings)  # type: ignore[arg-type]  # click has checked the choice
            for settings in _settings(fixed, sweep)
            for playing in (playings or ("stereo",))
        ]
        plan = run.Plan(variants, speed, at_once, _rules(rules_file), frozenset(apart), keep)
        evaluation = run.Evaluation(material, plan, console)
        scored = asyncio.run(evaluation.run())
    except (NotAudio, NotServing, ModelMissing, SettingsError, CallRefused, CallLost, RuleSetError) as fault:
        raise click.ClickException(str(fault)) from fault
    figures = {name: report.figures_of(one) for name, one in scored.items()}
    report.show(figures, console)
    if markdown_file is not None:
        markdown_file.write_text(report.markdown(figures), "utf-8")
    if html_file is not None:
        html_file.write_text(page.page(scored, sweep=(sweep or "").partition("=")[0]), "utf-8")
    if json_file is not None:
        document = {"environment": report.environment(), "load": evaluation.load, "variants": figures}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))


def _material(
    calls: Path | None, enrolments: tuple[Path, ...], names: tuple[str, ...], limit: int | None, console: Console
) -> Material:
    from gateway.evaluation.material import NoMaterial, demo_material, labelled  # as above

    try:
        if calls is None:
            console.print("Playing the demo's calls, whose voices are [bold]synthetic[/]; name a folder for your own.")
            material = demo_material()
        else:
            material = labelled(calls, enrolments)
        return material.only(names, limit)
    except NoMaterial as fault:
        raise click.ClickException(str(fault)) from fault


def _rules(file: Path | None) -> dict[str, list[str]]:
    if file is None:
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, list[str]])
    except msgspec.MsgspecError as fault:
        raise click.ClickException(f'{file}: {fault}; expected JSON of {{"category": ["expression", ...]}}') from fault


def _settings(fixed: tuple[str, ...], sweep: str | None) -> list[dict[str, str]]:
    """Each set of settings to evaluate under; all are checked before anything is played. Raises SettingsError."""
    name, _, values = (sweep or "").partition("=")
    swept: list[dict[str, Any]] = [{name: value} for value in values.split(",")] if sweep else [{}]
    base = dict(_pair(one) for one in fixed)
    if sweep and not (name and all(itertools.chain.from_iterable(one.values() for one in swept))):
        raise click.ClickException(f"--sweep {sweep}: expected NAME=V1,V2,...")
    combined = [base | one for one in swept]
    for settings in combined:
        load(None, overrides=settings)
    return combined


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.ClickException(f"--set {text}: expected NAME=VALUE")
    return name, value
