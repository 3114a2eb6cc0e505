"""The cluster demo's proof must be able to fail: of a run in which nothing was lost, one thing at a time is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from loadtest.cluster.accounts import Judged, Observed, Told, checks
from loadtest.cluster.calls import PlayedCall
from protocol.messages import Alert, AlertUpdate, Ended, ServerMessage, Start

PCM = bytes(range(256)) * 4


def alert(call_id: str) -> Alert:
    return Alert(
        seq=1, call_id=call_id, at_ms=0, alert_id="a1", category="Money back", rule="refund", rule_version=1,
        certainty="final", pending=[], keywords=["refund"], evidence=[],
    )  # fmt: skip


def confirmed(call_id: str) -> AlertUpdate:
    return AlertUpdate(seq=2, call_id=call_id, at_ms=0, alert_id="a1", status="confirmed", reason="qc_hit", evidence=[])


def played(number: int) -> PlayedCall:
    call = PlayedCall(number, "gateway-one", Start(rate=8000, channels=2, language="en"), PCM, call_id=f"c{number}")
    call.messages = [
        alert(call.call_id),
        confirmed(call.call_id),
        Ended(seq=3, call_id=call.call_id, at_ms=0, reason="hangup", samples=call.samples, duration_ms=32),
    ]
    call.acked_at_s = [1.0, 1.1, 3.1]
    return call


def observed() -> Observed:
    documents = {f"c{number}": {"state": "judged", "alerts": [{"alert_id": "a1"}]} for number in (1, 2)}
    told = Told(documents, {"c1": PCM, "c2": PCM}, frozenset({"c1", "c2"}))
    judged = Judged(["c1", "c2"], ["c1", "c2"], {"c1": 2, "c2": 1}, 800, 800)
    return Observed([played(1), played(2)], frozenset({1}), 1.05, True, {"one": told, "two": told}, judged)


def broken(changed: Observed) -> list[str]:
    return [check.promise for check in checks(changed) if check.fault]


def test_of_a_run_in_which_nothing_was_lost_every_promise_is_kept() -> None:
    assert broken(observed()) == []
    assert observed().calls[0].longest_silence_s(1.05) == 2.0


def without_message(kind: type[ServerMessage]) -> Callable[[Observed], Observed]:
    def change(whole: Observed) -> Observed:
        call = whole.calls[0]
        call.messages = [message for message in call.messages if not isinstance(message, kind)]
        return whole

    return change


def with_node(**changes: object) -> Callable[[Observed], Observed]:
    return lambda whole: replace(whole, nodes={**whole.nodes, "two": replace(whole.nodes["two"], **changes)})  # type: ignore[arg-type]


def with_judged(**changes: object) -> Callable[[Observed], Observed]:
    return lambda whole: replace(whole, judged=replace(whole.judged, **changes))  # type: ignore[arg-type]


def number_twice(whole: Observed) -> Observed:
    whole.calls[0].messages.insert(1, whole.calls[0].messages[0])
    return whole


FAULTS: dict[str, tuple[Callable[[Observed], Observed], str]] = {
    "no end": (without_message(Ended), "every call ended as its client asked"),
    "an open alert": (without_message(AlertUpdate), "every alert was confirmed or withdrawn"),
    "an alert unheard": (without_message(Alert), "every node tells the same of every call"),
    "a number twice": (number_twice, "every message came once, in order"),
    "a byte": (
        with_node(recordings={"c1": PCM[:-1] + b"?", "c2": PCM}),
        "recordings are what was sent, byte for byte",
    ),
    "a recording": (with_node(recordings={"c1": PCM}), "recordings are what was sent, byte for byte"),
    "a verdict": (with_judged(verdicts=["c1"]), "every call was judged exactly once"),
    "a verdict twice": (with_judged(verdicts=["c1", "c1", "c2"]), "every call was judged exactly once"),
    "a task twice": (with_judged(tasks=["c1", "c2", "c2"]), "every call was judged exactly once"),
    "speech billed twice": (with_judged(used_ms=1600), "use was counted exactly once"),
    "a call at one node": (with_node(documents={}), "every node tells the same of every call"),
    "a call in a list": (with_node(listed=frozenset({"c1"})), "every node tells the same of every call"),
    "a tail left": (lambda whole: replace(whole, left_in_redis=["earshot:tail:c1"]), "nothing was left over"),
    "no call moved": (lambda whole: replace(whole, moved=frozenset()), "a gateway was killed under its calls"),
    "an idle worker": (lambda whole: replace(whole, worker_had_work=False), "a worker was killed at its work"),
}


@pytest.mark.parametrize("lost", FAULTS)
def test_what_was_lost_is_told(lost: str) -> None:
    change, promise = FAULTS[lost]
    assert promise in broken(change(observed()))
