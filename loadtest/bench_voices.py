"""How well voices are told apart, and what it costs: `python -m loadtest.bench_voices --help`.

A trial compares two windows of 3 s that come from different clips: of one voice, or of two. The equal error rate is
the share of both kinds that are confused at the score where it is the same for both. Its 95 % interval is bootstrapped
over speakers, and is wide: there are few. Prints are made and combined by the service's own code.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import click
import numpy as np
from rich.console import Console
from rich.table import Table

from gateway.call.speaker import SpeakerSettings
from gateway.clients.voiceprint_http import VoiceprintHttp
from gateway.evaluation.accounting import cpu_times
from gateway.ports import Prints
from gateway.settings import KNOWN_SCORES, load
from gateway.terminal.serving import served
from gateway.voiceprint.bands import mixed
from loadtest.corpus import CORPUS
from loadtest.voice_material import (
    RATE_HZ,
    Engine,
    Window,
    combined,
    engines,
    line_prints,
    noises,
    noisy,
    wide_prints,
    windows,
)
from loadtest.voice_trials import Array, Trials, against, normalised, pairs
from protocol.voiceprint import SCORE_PER_COSINE

SNRS_DB = (5, 0)
SHORT_S = (1.0, 1.5, 2.0, 3.0)
COHORT_TOP = 20
APP_ID = "voices"
_console = Console(width=170)


@click.command()
@click.option("--corpus", type=click.Path(path_type=Path, file_okay=False), default=CORPUS, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(["pairs", "enrolled", "short", "noise", "norm", "latency"]))
@click.option("--model", "names", multiple=True, type=click.Choice(["campplus", "ge2e"]), help="Default: those here.")
@click.option("--requests", type=click.IntRange(min=1), default=100, show_default=True, help="Of the latency part.")
def main(corpus: Path, only: tuple[str, ...], names: tuple[str, ...], requests: int) -> None:
    """Measure on the clips of CORPUS/en, with CORPUS/zh as noise and as cohort."""
    if not (corpus / "en").is_dir():
        raise click.ClickException(f"{corpus}/en is not there: labelled speech, see BENCHMARKS.md, voice prints")
    english, mandarin = windows(corpus / "en"), windows(corpus / "zh")
    here = engines(load(None).settings.models_path)
    parts: dict[str, Callable[[str, Engine], None]] = {
        "pairs": lambda name, engine: _pairs(name, engine, english),
        "enrolled": lambda name, engine: _enrolled(name, engine, [*english, *mandarin]),
        "short": lambda name, engine: _short(name, engine, [*english, *mandarin]),
        "noise": lambda name, engine: _noise(name, engine, english, mandarin),
        "norm": lambda name, engine: _norm(name, engine, english, mandarin),
    }
    for name in names or here:
        if name not in here:
            raise click.ClickException(f"model {name} is not here: run `earshot models pull {name}`")
        for part, run in parts.items():
            if not only or part in only:
                run(name, here[name])
    if not only or "latency" in only:
        asyncio.run(_latency(here["campplus"], english, requests))


def _pairs(name: str, engine: Engine, found: Sequence[Window]) -> None:
    wide, line = wide_prints(engine, found), line_prints(engine, found)
    both = np.stack(
        [mixed(Prints("", one[None]), Prints("", other[None])) for one, other in zip(wide, line, strict=True)]
    )
    table = Table("prints", "pairs", "equal error rate (95 %) at score", title=f"{name}: pairs of 3 s")
    rows = {
        "both 16 kHz": (wide, wide),
        "both an 8 kHz line": (line, line),
        "enrolled at 16 kHz, asked on a line": (both, line),
        "the same without a narrow print": (wide, line),
    }
    for what, (enrolled, asked) in rows.items():
        trials = _pairs_of(enrolled, asked, found)
        table.add_row(what, trials.told, str(trials.equal_error()))
    _console.print(table)


def _pairs_of(enrolled: Array, asked: Array, found: Sequence[Window]) -> Trials:
    return pairs(enrolled, asked, [one.speaker for one in found], [one.clip for one in found])


def _enrolled(name: str, engine: Engine, found: Sequence[Window]) -> None:
    """One window of each clip is enrolled, of one, two or three clips; every window of a test clip is asked."""
    prints = {"16 kHz": wide_prints(engine, found), "line": line_prints(engine, found)}
    known = dict(zip(prints, KNOWN_SCORES[name], strict=True))
    asked = [at for at, one in enumerate(found) if not one.enrols]
    speakers = [found[at].speaker for at in asked]
    table = Table(
        *("enrolled / asked", "clips", "top-1", "equal error rate (95 %) at score", "known from", "missed", "let in"),
        *("lowest right", "highest wrong"),
        title=f"{name}: enrolled voices, {len(asked)} windows of {len(set(speakers))} voices",
    )
    for of, on in (("16 kHz", "16 kHz"), ("line", "line"), ("16 kHz", "line")):
        for clips in (1, 2, 3):
            voices, vectors = [], []
            for voice in dict.fromkeys(speakers):
                chosen = _first_windows(found, voice, clips)
                if len(chosen) < clips:
                    continue
                voices.append(voice)
                wide = Prints("", prints["16 kHz"][chosen])
                line = Prints("", prints["line"][chosen])
                vectors.append(combined(prints[on][chosen]) if of == on else mixed(wide, line))
            there = [at for at, voice in zip(asked, speakers, strict=True) if voice in voices]
            trials, top = against(np.stack(vectors), voices, prints[on][there], [found[at].speaker for at in there])
            missed, let_in = trials.at(known[on] / SCORE_PER_COSINE)
            right, wrong = trials.scores[trials.same].min(), trials.scores[~trials.same].max()
            row = (f"{clips} ({len(voices)} voices)", f"{top:.2%}", str(trials.equal_error()), f"{known[on]:g}")
            table.add_row(
                f"{of} / {on}", *row, f"{missed:.2%}", f"{let_in:.2%}", f"{100 * right:.1f}", f"{100 * wrong:.1f}"
            )
    _console.print(table)


def _short(name: str, engine: Engine, found: Sequence[Window]) -> None:
    """Voices enrolled at 16 kHz from two clips are named as calls do it, by the middle of the other clips."""
    wide, line = wide_prints(engine, found), line_prints(engine, found)
    voices = list(dict.fromkeys(one.speaker for one in found))
    chosen = [_first_windows(found, voice, 2) for voice in voices]
    enrolled = {
        "16 kHz": np.stack([combined(wide[at]) for at in chosen]),
        "line": np.stack([mixed(Prints("", wide[at]), Prints("", line[at])) for at in chosen]),
    }
    asked = list({one.clip: one for one in found if not one.enrols}.values())
    right = np.asarray([voices.index(one.speaker) for one in asked])
    table = Table(
        "speech", "asked", "named right", "wrongly", "lowest right", "highest wrong", title=f"{name}: short speech"
    )
    for seconds in SHORT_S:
        parts = [_middle(one, seconds) for one in asked]
        for (band, prints), make, known in zip(
            enrolled.items(), (wide_prints, line_prints), KNOWN_SCORES[name], strict=True
        ):
            scores = SCORE_PER_COSINE * make(engine, parts) @ prints.T
            best, second = np.sort(scores, axis=1)[:, -1], np.sort(scores, axis=1)[:, -2]
            named = (best >= known) & (best - second >= SpeakerSettings().margin)
            hit = scores.argmax(axis=1) == right
            own = scores[np.arange(len(asked)), right]
            others = np.where(np.arange(len(voices))[None] == right[:, None], -100, scores)
            counts = (f"{int((named & hit).sum())} of {len(asked)}", str(int((named & ~hit).sum())))
            table.add_row(f"{seconds:g} s", band, *counts, f"{own.min():.1f}", f"{others.max():.1f}")
    _console.print(table)


def _middle(window: Window, seconds: float) -> Window:
    size = 2 * int(RATE_HZ * seconds)
    begin = (len(window.pcm) - size) // 4 * 2
    return replace(window, pcm=window.pcm[begin : begin + size])


def _first_windows(found: Sequence[Window], voice: str, clips: int) -> list[int]:
    """The first window of each of the first `clips` clips that are marked for enrolment."""
    first: dict[str, int] = {}
    for at, one in enumerate(found):
        if one.speaker == voice and one.enrols:
            first.setdefault(one.clip, at)
    return list(first.values())[:clips]


def _noise(name: str, engine: Engine, found: Sequence[Window], others: Sequence[Window]) -> None:
    """Clean enrolments; what is asked is noisy: as it is, denoised, or by the mean of both prints."""
    from gateway.engines.webrtc_noise import WebrtcNoise

    denoiser = WebrtcNoise()
    clean = wide_prints(engine, found)
    voices = list(dict.fromkeys(one.speaker for one in found))
    enrolled = np.stack([combined(clean[_first_windows(found, voice, 2)]) for voice in voices])
    tests = [at for at, one in enumerate(found) if not one.enrols]
    speakers = [found[at].speaker for at in tests]
    ways = ("as it is", "denoised", "both")
    table = Table(
        *("noise", "dB", *(f"{way}: EER" for way in ways), *(f"{way}: top-1" for way in ways)),
        title=f"{name}: {len(found)} noisy windows against clean ones",
    )
    sums = np.zeros(2 * len(ways))
    for noise, make in noises(others).items():
        for snr_db in SNRS_DB:
            heard = [noisy(w.pcm, make(len(w.pcm) // 2, seed), snr_db) for seed, w in enumerate(found)]
            plain = np.stack([engine.embed(pcm, RATE_HZ) for pcm in heard])
            cleaned = np.stack([engine.embed(denoiser.denoise(pcm, RATE_HZ), RATE_HZ) for pcm in heard])
            both = np.stack([combined(np.stack(two)) for two in zip(plain, cleaned, strict=True)])
            errors = [_pairs_of(clean, asked, found).equal_error().share for asked in (plain, cleaned, both)]
            tops = [against(enrolled, voices, asked[tests], speakers)[1] for asked in (plain, cleaned, both)]
            sums += (*errors, *tops)
            table.add_row(noise, str(snr_db), *(f"{share:.2%}" for share in (*errors, *tops)))
    table.add_row("mean", "", *(f"{share:.2%}" for share in sums / table.row_count))
    _console.print(table)


def _norm(name: str, engine: Engine, found: Sequence[Window], others: Sequence[Window]) -> None:
    """AS-norm with a cohort of other speakers: the Mandarin voices' windows, or their three prints."""
    table = Table("prints", "plain", "AS-norm, cohort of windows", "of voices", title=f"{name}: score normalisation")
    for what, prints in {"16 kHz": wide_prints, "line": line_prints}.items():
        ours, theirs = prints(engine, found), prints(engine, others)
        speakers = np.asarray([one.speaker for one in others])
        of_voices = np.stack([combined(theirs[speakers == voice]) for voice in sorted(set(speakers))])
        cells = [str(_pairs_of(ours, ours, found).equal_error())]
        for cohort in (theirs, of_voices):
            scores = normalised(ours, ours, cohort, min(COHORT_TOP, len(cohort)))
            plain = _pairs_of(ours, ours, found)
            names = np.asarray([one.clip for one in found])
            fit = np.triu(names[:, None] != names[None], 1)
            cells.append(str(Trials(scores[fit], plain.first, plain.second).equal_error()))
        table.add_row(what, *cells)
    _console.print(table)


async def _latency(engine: Engine, found: Sequence[Window], requests: int) -> None:
    """Recognise over HTTP beside the embedding alone, by turns; wall and CPU, the server's processes all counted."""
    secret = secrets.token_hex(16)
    alone_ms, alone_cpu_ms, over_http_ms = [], [], []
    with tempfile.TemporaryDirectory(prefix="earshot-voices-") as folder:
        async with served(Path(folder), f"{APP_ID}:{secret}", _console) as serving, aiohttp.ClientSession() as http:
            api = VoiceprintHttp(serving.http, http, credentials=lambda _: (APP_ID, secret), now=time.time)
            for voice, pcm in {one.speaker: one.pcm for one in found if one.enrols}.items():
                await api.register(APP_ID, "org", "tag", voice, pcm, filename="clip.pcm")
            asked = [one.pcm for one in found if not one.enrols]
            await api.recognize(APP_ID, "org", None, asked[0], RATE_HZ)
            before = cpu_times(serving.pid)
            for number in range(requests):
                pcm = asked[number % len(asked)]
                began_ns, began_cpu_ns = time.perf_counter_ns(), time.process_time_ns()
                await asyncio.to_thread(engine.embed, pcm, RATE_HZ)
                alone_cpu_ms.append((time.process_time_ns() - began_cpu_ns) / 1e6)
                alone_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
                began_ns = time.perf_counter_ns()
                await api.recognize(APP_ID, "org", None, pcm, RATE_HZ)
                over_http_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
            parts = cpu_times(serving.pid).since(before).parts
    wall, alone = statistics.median(over_http_ms), statistics.median(alone_ms)
    spent = {part: 1000 * spent_s / requests for part, spent_s in parts.items() if spent_s > 0}
    ratio = statistics.median(h / a for h, a in zip(over_http_ms, alone_ms, strict=True))
    _console.print(
        f"recognise over HTTP, 3 s, warm, {requests} requests: {wall:.0f} ms; embedding alone {alone:.0f} ms"
    )
    _console.print(f"ratio of the medians {wall / alone:.2f}, median of the ratios {ratio:.2f} (aim: 1.3)")
    _console.print(
        f"CPU ms: embedding alone {statistics.median(alone_cpu_ms):.0f}; a request {sum(spent.values()):.0f}:"
    )
    _console.print("  " + ", ".join(f"{part} {ms:.1f}" for part, ms in sorted(spent.items(), key=lambda x: -x[1])))


if __name__ == "__main__":
    main()
