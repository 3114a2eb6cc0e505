"""AS-norm: what is close to everybody says less."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.ports import Embedding, Prints, VoiceprintRow
from gateway.voiceprint.bands import Asked, BandedIndex
from gateway.voiceprint.norm import CLOSEST, Cohorts
from gateway.voiceprint.search import Entry, Hit
from protocol.voiceprint import Scope

D = 32
ORG = Scope("acme", "org", None)


def unit(vector: Embedding) -> Embedding:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def strangers(count: int, lean: Embedding) -> list[Embedding]:
    chance = np.random.default_rng(5)
    return [unit(lean + chance.normal(0, 0.12, D).astype(np.float32)) for _ in range(count)]


def axis(at: int) -> Embedding:
    return np.asarray(np.eye(D)[at], np.float32)


def hit(print_id: str, cosine: float) -> Hit:
    return Hit(Entry(print_id, "tag", print_id), cosine)


def row(name: str, vector: Embedding) -> VoiceprintRow:
    return VoiceprintRow(name, "acme", "org", "tag", name, (Prints("model", vector[None]),))


def test_a_score_is_told_in_deviations_from_strangers_on_both_sides() -> None:
    cohorts, asked, found = Cohorts(), unit(axis(0) + axis(1)), axis(1)
    others = strangers(CLOSEST + 5, axis(2))
    for number, vector in enumerate(others):
        cohorts.add("acme", f"s{number}", vector)
    cohorts.add("acme", "found", found)
    (score,) = cohorts.normed("acme", asked, [hit("found", 0.7)]) or [np.nan]
    expected = []
    for side in (asked, found):
        closest = np.sort([float(side @ one) for one in others])[-CLOSEST:]
        expected.append((0.7 - closest.mean()) / closest.std())
    assert score == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_too_few_strangers_and_other_apps_norm_nothing() -> None:
    cohorts = Cohorts()
    for number, vector in enumerate(strangers(CLOSEST, axis(0))):
        cohorts.add("acme", f"s{number}", vector)
        cohorts.add("rival", f"r{number}", vector)
    assert cohorts.normed("acme", axis(0), [hit("s0", 0.5)]) is None
    cohorts.add("acme", "one more", axis(3))
    assert cohorts.normed("acme", axis(0), [hit("s0", 0.5)]) is not None
    cohorts.remove("acme", ["one more", "unknown"])
    assert cohorts.normed("acme", axis(0), [hit("s0", 0.5)]) is None
    assert cohorts.normed("nobody", axis(0), []) is None


def test_a_voice_that_went_while_one_searched_comes_last() -> None:
    cohorts = Cohorts()
    for number, vector in enumerate(strangers(CLOSEST + 1, axis(0))):
        cohorts.add("acme", f"s{number}", vector)
    assert cohorts.normed("acme", axis(0), [hit("gone", 0.9)]) == [-np.inf]


@pytest.mark.parametrize(("normed", "first"), [(False, "like everybody"), (True, "like one")])
async def test_a_normed_search_puts_who_is_like_everybody_behind_and_leaves_the_scores(
    normed: bool, first: str
) -> None:
    index = BandedIndex("model", D, normed=normed)
    for number, vector in enumerate(strangers(CLOSEST + 10, axis(0))):
        index.add(row(f"s{number}", vector))
    index.add(row("like everybody", unit(axis(0) + 0.8 * axis(1))))
    index.add(row("like one", unit(axis(1) + 0.8 * axis(9))))
    asked = unit(0.3 * axis(0) + axis(1))
    hits = await index.closest(ORG, Asked(asked, None, 16000), 10)
    assert hits[0].entry.name == first
    cosines = {one.entry.name: one.cosine for one in hits}
    assert cosines["like everybody"] > cosines["like one"]
