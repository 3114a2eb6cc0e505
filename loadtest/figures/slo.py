"""What is asked of a server: thresholds on figures, as TOML, and whether a result keeps them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from loadtest.figures.catalogue import FIGURES

ALWAYS: Final = {
    "calls_failed": 0.0,
    "calls_refused": 0.0,
    "samples_unacked": 0.0,
    "messages_lost": 0.0,
    "messages_disordered": 0.0,
    "recordings_wrong": 0.0,
    "watchers_failed": 0.0,
}
"""At most; asked of every run unless thresholds say otherwise."""

ALWAYS_AT_LEAST: Final = {"calls_begun": 1.0}
"""The same: a load without a call has shown nothing."""


class BadSlo(Exception):
    """The thresholds cannot be used; the text names the file and the field."""


class Thresholds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By figure (`loadtest.figures.catalogue`), with the unit that its name ends in."""

    at_most: dict[str, float] = {}
    at_least: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Judged:
    """One threshold, and what was measured. A figure that was not measured does not keep it."""

    figure: str
    side: str
    threshold: float
    measured: float | None

    @property
    def kept(self) -> bool:
        if self.measured is None:
            return False
        return self.measured <= self.threshold if self.side == "at most" else self.measured >= self.threshold

    def __str__(self) -> str:
        measured = "not measured" if self.measured is None else f"{self.measured:g}"
        return f"{self.figure}: {measured}, {self.side} {self.threshold:g}"


@dataclass(frozen=True, slots=True)
class Slo:
    """Thresholds of a run: those that always hold, and those given."""

    thresholds: Thresholds

    @classmethod
    def checked(cls, thresholds: Thresholds) -> Slo:
        """Of thresholds whose figures exist. Raises ValueError naming the one that does not."""
        for side in ("at_most", "at_least"):
            for figure in getattr(thresholds, side):
                if figure not in FIGURES:
                    near = difflib.get_close_matches(figure, FIGURES, 1)
                    hint = f"did you mean {near[0]}?" if near else "`python -m loadtest figures` lists them"
                    raise ValueError(f"there is no figure {figure}; {hint} - at `$.{side}`")
        return cls(thresholds)

    def judge(self, figures: Mapping[str, float]) -> list[Judged]:
        """Every threshold against the figures; of those that always hold only what was measured."""
        said = self.thresholds.at_most.keys() | self.thresholds.at_least.keys()
        always = [
            Judged(name, side, limit, figures[name])
            for side, limits in (("at most", ALWAYS), ("at least", ALWAYS_AT_LEAST))
            for name, limit in limits.items()
            if name in figures and name not in said
        ]
        return [
            *always,
            *(Judged(name, "at most", limit, figures.get(name)) for name, limit in self.thresholds.at_most.items()),
            *(Judged(name, "at least", limit, figures.get(name)) for name, limit in self.thresholds.at_least.items()),
        ]


def load_slo(path: Path) -> Slo:
    """The thresholds of a TOML file. Raises BadSlo."""
    try:
        return parse_slo(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeError) as fault:
        raise BadSlo(f"{path} cannot be read: {fault}") from fault


def parse_slo(text: str, where: str) -> Slo:
    """Thresholds of TOML text. Raises BadSlo."""
    try:
        return Slo.checked(msgspec.toml.decode(text, type=Thresholds))
    except (msgspec.DecodeError, ValueError) as fault:
        raise BadSlo(f"{where}: {fault}") from fault
