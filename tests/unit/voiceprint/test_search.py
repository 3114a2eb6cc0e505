from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import Embedding, VoiceprintRow
from gateway.voiceprint import nearest
from gateway.voiceprint.search import VoiceIndex
from protocol.voiceprint import Scope

ORG = Scope("acme", "org", None)


def unit(seed: int) -> Embedding:
    vector = np.random.default_rng(seed).standard_normal(8).astype(np.float32)
    scaled: Embedding = vector / np.linalg.norm(vector)
    return scaled


def row(seed: int, *, tag: str = "tag", app: str = "acme", org: str = "org") -> VoiceprintRow:
    return VoiceprintRow(f"p{seed}", app, org, tag, f"name{seed}", ())


async def names(index: VoiceIndex, scope: Scope, seed: int, top: int = 10) -> list[str]:
    return [hit.entry.name for hit in await index.closest(scope, unit(seed), top)]


async def test_the_same_voice_comes_first_with_cosine_one() -> None:
    index = VoiceIndex(8)
    for seed in range(30):
        index.add(row(seed), unit(seed))
    hits = await index.closest(ORG, unit(7), 10)
    assert (hits[0].entry.name, len(hits)) == ("name7", 10)
    assert hits[0].cosine == pytest.approx(1, abs=1e-6)
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)


async def test_other_apps_orgs_and_tags_are_not_there() -> None:
    index = VoiceIndex(8)
    index.add(row(1, tag="a"), unit(1))
    index.add(row(2, tag="b"), unit(2))
    index.add(row(3, org="elsewhere"), unit(3))
    index.add(row(4, app="rival"), unit(4))
    assert sorted(await names(index, ORG, 1)) == ["name1", "name2"]
    assert await names(index, Scope("acme", "org", "a"), 1) == ["name1"]
    assert await names(index, Scope("acme", "org", "c"), 1) == []
    assert await names(index, Scope("acme", "nowhere", None), 1) == []


async def test_a_removed_voice_is_gone_at_once_and_its_place_is_free() -> None:
    index = VoiceIndex(8)
    index.add(row(1), unit(1))
    index.remove("acme", "org", "tag", ["p1", "unheard of"])
    index.remove("acme", "org", "tag", ["p1"])
    assert await names(index, ORG, 1) == []
    assert (len(index), index.holds(ORG), index.holds(Scope("acme", "org", "tag"))) == (0, False, False)
    index.add(row(2), unit(2))
    assert await names(index, ORG, 1) == ["name2"]


async def test_a_large_set_is_searched_in_a_thread_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    index = VoiceIndex(8)
    for seed in range(40):
        index.add(row(seed, tag=f"t{seed % 3}"), unit(seed))
    inline = await names(index, ORG, 5)
    monkeypatch.setattr(nearest, "INLINE_ROWS", 10)
    assert await names(index, ORG, 5) == inline


def test_an_embedding_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(8,\), not \(4,\)"):
        VoiceIndex(4).add(row(1), unit(1))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
async def test_after_any_changes_the_index_finds_what_a_plain_scan_finds(changes: list[tuple[bool, int]]) -> None:
    index, there = VoiceIndex(8), dict[int, Embedding]()
    for adds, seed in changes:
        if adds and seed not in there:
            there[seed] = unit(seed)
            index.add(row(seed), unit(seed))
        elif not adds:
            there.pop(seed, None)
            index.remove("acme", "org", "tag", [f"p{seed}"])
    wanted = sorted(there, key=lambda seed: -float(there[seed] @ unit(99)))[:5]
    assert await names(index, ORG, 99, top=5) == [f"name{seed}" for seed in wanted]
    assert len(index) == len(there)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 25), st.sampled_from("abc")), max_size=80), st.integers(2, 9))
async def test_voices_of_many_tags_are_found_by_tag_and_in_the_whole_organisation(
    changes: list[tuple[bool, int, str]], large: int
) -> None:
    index, there = VoiceIndex(8), dict[tuple[int, str], Embedding]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "CODED_FROM_ROWS", large)
        patch.setattr(nearest.NearestVectors, "needs_codes", False)  # so few vectors are none to train codes on
        for adds, seed, tag in changes:
            key = (seed, tag)
            voice = row(seed + 100 * ord(tag), tag=tag)
            if adds and key not in there:
                there[key] = unit(seed + 100 * ord(tag))
                index.add(voice, there[key])
            elif not adds:
                there.pop(key, None)
                index.remove("acme", "org", tag, [voice.print_id])
        for scope in (ORG, *(Scope("acme", "org", tag) for tag in "abc")):
            chosen = [key for key in there if scope.tag_id in (None, key[1])]
            wanted = sorted(chosen, key=lambda key: -float(there[key] @ unit(7)))[:6]
            hits = await index.closest(scope, unit(7), 6)
            assert [hit.entry.name for hit in hits] == [f"name{seed + 100 * ord(tag)}" for seed, tag in wanted]
            assert [hit.entry.tag_id for hit in hits] == [tag for _, tag in wanted]
            assert index.holds(scope) == bool(chosen)
    assert len(index) == len(there)
