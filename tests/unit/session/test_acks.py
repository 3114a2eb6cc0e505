"""What a commit means to calls: their events are handed over before any of them says a word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from gateway.call.effects import Effect
from gateway.session.acks import ACKED_AT_A_TIME, Acknowledgements


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
