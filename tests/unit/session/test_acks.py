"""What a commit means to calls: their events are handed over before any of them says a word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from gateway.call.effects import Effect
from gateway.session import acks as acks_module
from gateway.session.acks import ACKED_AT_A_TIME, MANY_CALLS, Acknowledgements
from tests.integration.hummed import eventually


class Witness:
    """A journal and its calls, which write down what is asked of them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []
        self.degraded = self.backlog_bytes = None

    def tell(self, listener: Any) -> None:
        self.listener = listener

    def hand_over(self, call_ids: Iterable[str]) -> None:
        self.seen.append(("handed over", *call_ids))


class Told:
    """A call."""

    def __init__(self, call_id: str, witness: Witness, unacked_samples: int = 1) -> None:
        self.call_id = call_id
        self.unacked_samples = unacked_samples
        self.live = True
        self._witness = witness
        self.breaks = False

    def stored(self, samples: int) -> Sequence[Effect]:
        if self.breaks:
            raise RuntimeError("this call alone")
        self._witness.seen.append(("stored", self.call_id, str(samples)))
        return ()

    def carry_out(self, effects: Sequence[Effect]) -> None:
        self._witness.seen.append(("sent", self.call_id))

    def note_degraded(self) -> None:
        self._witness.seen.append(("degraded", self.call_id))

    def fail(self, fault: BaseException) -> None:
        self._witness.seen.append(("failed", self.call_id))


def entered(*names: str) -> tuple[Witness, Acknowledgements, list[Told]]:
    witness = Witness()
    acks = Acknowledgements(witness)  # type: ignore[arg-type]  # what it asks of a journal
    calls = [Told(name, witness) for name in names]
    for call in calls:
        acks.enter(call)
    return witness, acks, calls


def test_what_calls_have_stored_is_handed_over_in_one_go_before_any_of_them_says_so() -> None:
    witness, acks, _ = entered("a", "b")
    acks.note_safe({"a": 320, "b": 640, "gone": 1}, 7)
    assert witness.seen == [
        ("stored", "a", "320"),
        ("stored", "b", "640"),
        ("handed over", "a", "b"),
        ("sent", "a"),
        ("sent", "b"),
    ]


def test_a_call_that_breaks_breaks_alone() -> None:
    witness, acks, calls = entered("a", "b")
    calls[0].breaks = True
    acks.note_safe({"a": 320, "b": 640}, 7)
    assert witness.seen == [("failed", "a"), ("stored", "b", "640"), ("handed over", "b"), ("sent", "b")]


def sent(witness: Witness) -> list[str]:
    return [one[1] for one in witness.seen if one[0] == "sent"]


async def several_turns() -> None:
    for _ in range(MANY_CALLS):
        await asyncio.sleep(0)


async def test_of_very_many_calls_half_are_told_of_each_commit_and_each_of_every_second() -> None:
    names = [str(number) for number in range(MANY_CALLS + 1)]
    witness, acks, _ = entered(*names)
    told = []
    for position in range(1, 7):
        acks.note_safe(dict.fromkeys(names, 320 * position), position)
        await several_turns()
        told.append(sent(witness))
        witness.seen.clear()
    for one, next_one in pairwise(told):
        assert sorted(one + next_one, key=int) == names
    acks.note_safe({}, 7)
    await several_turns()
    assert sent(witness) == told[-2], "whoever has waited for a commit waits for no other"


async def test_no_call_waits_for_another_commit_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks_module, "LATEST_S", 0.001)
    names = [str(number) for number in range(MANY_CALLS + 1)]
    witness, acks, _ = entered(*names)
    acks.note_safe(dict.fromkeys(names, 320), 1)

    async def all_told() -> bool:
        return len(sent(witness)) == len(names)

    await eventually(all_told)
    assert sent(witness) == names


async def test_a_call_that_hangs_up_waits_for_no_other_commit() -> None:
    names = [str(number) for number in range(MANY_CALLS + 1)]
    witness, acks, calls = entered(*names)
    acks.note_safe(dict.fromkeys(names, 320), 1)
    await several_turns()
    witness.seen.clear()
    calls[-1].live = False
    acks.tell_now(calls[-1])
    assert witness.seen == [("stored", names[-1], "320"), ("handed over", names[-1]), ("sent", names[-1])]
    witness.seen.clear()
    acks.note_safe(dict.fromkeys(names, 640), 2)
    assert sent(witness)[0] == names[-1]
    assert witness.seen[0] == ("stored", names[-1], "640")


async def test_many_calls_are_told_in_turns_and_each_the_newest() -> None:
    names = [str(number) for number in range(ACKED_AT_A_TIME + 2)]
    witness, acks, calls = entered(*names)
    acks.note_safe(dict.fromkeys(names, 320), 7)
    acks.note_safe({names[-1]: 640}, 8)
    acks.leave(calls[-2])
    assert len([one for one in witness.seen if one[0] == "sent"]) == ACKED_AT_A_TIME
    witness.seen.clear()
    await asyncio.sleep(0)
    assert witness.seen == [("stored", names[-1], "640"), ("handed over", names[-1]), ("sent", names[-1])]


def test_calls_with_audio_that_waits_hear_once_that_the_disk_takes_nothing() -> None:
    witness, acks, calls = entered("a", "b")
    calls[1].unacked_samples = 0
    acks.note_fault("full")
    acks.note_fault("full")
    assert witness.seen == [("degraded", "a")]
    acks.note_safe({"a": 320}, 7)
    witness.seen.clear()
    acks.note_fault("full")
    assert witness.seen == [("degraded", "a")]
