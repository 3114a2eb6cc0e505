"""Two results of one scenario, figure by figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from loadtest.figures.catalogue import FIGURES
from loadtest.figures.result import Result

Verdict = Literal["better", "worse", "same", "", "only in A", "only in B"]


class NotComparable(Exception):
    """The results are of different loads; the text says in what they differ."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both. `ratio`: the second over the first, None where that says nothing. No verdict on what is
    neither better nor worse."""

    figure: str
    before: float | None
    after: float | None
    ratio: float | None
    verdict: Verdict


def compare(before: Result, after: Result, tolerance: float) -> list[Compared]:
    """Every figure that either has. `tolerance`: ratios within 1 +- this are the same.

    Raises NotComparable when they are not of the same load.
    """
    if differences := _differences(before, after):
        raise NotComparable(f"these are results of different loads: {'; '.join(differences)}")
    return [
        _compared(figure, before.figures.get(figure), after.figures.get(figure), tolerance)
        for figure in FIGURES
        if figure in before.figures or figure in after.figures
    ]


def remarks(before: Result, after: Result) -> list[str]:
    """What does not forbid to compare them, and should be known."""
    told = []
    if before.machine.processors != after.machine.processors or before.machine.system != after.machine.system:
        told.append(f"different machines: {before.machine.system}, {after.machine.system}")
    for name, result in (("A", before), ("B", after)):
        if result.harness_was_late:
            told.append(f"in {name} the harness itself was late: its figures are not the server's")
        if result.interrupted:
            told.append(f"{name} was interrupted")
    return told


def _differences(before: Result, after: Result) -> list[str]:
    found = [
        f"{key} {_brief(before.scenario.get(key))} and {_brief(after.scenario.get(key))}"
        for key in sorted({*before.scenario, *after.scenario} - {"about", "slo"})
        if before.scenario.get(key) != after.scenario.get(key)
    ]
    if before.sources != after.sources:
        found.append(f"audio {_brief(before.sources)} and {_brief(after.sources)}")
    return found


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _compared(figure: str, before: float | None, after: float | None, tolerance: float) -> Compared:
    if before is None or after is None:
        return Compared(figure, before, after, None, "only in B" if before is None else "only in A")
    known = FIGURES[figure]
    ratio = after / before if before else None
    if known.better == "neither":
        return Compared(figure, before, after, ratio, "")
    near = abs(after - before) <= known.noise or (ratio is not None and abs(ratio - 1) <= tolerance)
    if near or after == before:
        return Compared(figure, before, after, ratio, "same")
    return Compared(figure, before, after, ratio, "better" if (after < before) is (known.better == "less") else "worse")
