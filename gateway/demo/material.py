"""The demo's calls, rules and expectations, as they lie beside this file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "zh")


class Agent(msgspec.Struct, frozen=True):
    name: str
    enrol: str


class Turn(msgspec.Struct, frozen=True):
    channel: Literal["agent", "customer"]
    speaker: str
    start_s: float
    end_s: float
    text: str


class Expectation(msgspec.Struct, frozen=True):
    """What should become of one rule. `early`: where its alert settles before hangup."""

    category: str
    rule: str
    early: Literal["final", "provisional", "none"]
    retracted: bool
    at_hangup: Literal["final", "retracted", "none"]
    qc: Literal["confirmed", "no_hit"]


class DemoCall(msgspec.Struct, frozen=True):
    language: Literal["zh", "en"]
    agent: Agent
    turns: tuple[Turn, ...]
    expect: tuple[Expectation, ...]

    @property
    def audio(self) -> Path:
        return FOLDER / "calls" / f"{self.language}.flac"

    @property
    def enrolment(self) -> Path:
        return FOLDER / "calls" / self.agent.enrol


@dataclass(frozen=True, slots=True)
class Category:
    """A category of the demo's rules."""

    name: str
    description: str
    contents: tuple[str, ...]


def demo_call(language: str) -> DemoCall:
    return msgspec.json.decode((FOLDER / "calls" / f"{language}.json").read_bytes(), type=DemoCall)


def categories(language: str) -> tuple[Category, ...]:
    """The rule categories of one language: the other's must-say rule would always hit."""
    entries = tomllib.loads((FOLDER / "rules.toml").read_text("utf-8"))["category"]
    return tuple(
        Category(entry["name"], entry["description"], tuple(entry["contents"]))
        for entry in entries
        if entry["language"] == language
    )
