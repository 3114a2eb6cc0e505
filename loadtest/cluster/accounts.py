"""Was anything lost? A pure look at what clients saw, what nodes tell, and what the queue and the meter hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.cluster.calls import PlayedCall
from protocol.messages import Alert, AlertUpdate, Ended

OPEN = frozenset({"provisional", "final", "indeterminate"})
"""What an alert is before it was held against a verdict."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one node answers for the calls, by call id."""

    documents: Mapping[str, Mapping[str, Any]]
    recordings: Mapping[str, bytes]
    """PCM, without the header."""
    listed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Judged:
    """What voice QC's side holds."""

    tasks: Sequence[str]
    """The session of each task that there ever was."""
    verdicts: Sequence[str]
    """The session of each verdict that a worker gave and the queue took."""
    attempts: Mapping[str, int]
    """By session: which attempt brought the verdict."""
    billed_ms: int
    """What those verdicts say was judged."""
    used_ms: int
    """What the app was told that it has used."""


@dataclass(frozen=True, slots=True)
class Observed:
    calls: Sequence[PlayedCall]
    moved: frozenset[int]
    """Numbers of the calls whose gateway was killed under them."""
    killed_at_s: float
    worker_had_work: bool
    nodes: Mapping[str, Told]
    judged: Judged
    left_in_redis: Sequence[str] = field(default=())
    """Keys of calls that are over and should be gone."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, what was seen of it, and how it was broken (empty: it was kept)."""

    promise: str
    seen: str
    fault: str


def checks(observed: Observed) -> list[Check]:
    """Each promise of the cluster, held against what was seen."""
    calls, judged = observed.calls, observed.judged
    seconds = sum(call.samples for call in calls) / 8000
    return [
        Check("a gateway was killed under its calls", f"{len(observed.moved)} calls moved", _moved(observed)),
        Check("a worker was killed at its work", _attempts(judged), _struck_worker(observed)),
        Check("every call ended as its client asked", f"{len(calls)} calls", _joined(map(_ended, calls))),
        Check("every message came once, in order", _messages(calls), _joined(map(_numbered, calls))),
        Check("recordings are what was sent, byte for byte", f"{seconds:.0f} s of sound", _recorded(observed)),
        Check("every call was judged exactly once", f"{len(judged.verdicts)} verdicts", _judged_once(observed)),
        Check("use was counted exactly once", f"{judged.used_ms / 1000:.1f} s of speech", _billed(judged)),
        Check("every alert was confirmed or withdrawn", _alerts(calls), _joined(map(_reconciled, calls))),
        Check("every node tells the same of every call", f"{len(observed.nodes)} nodes", _told_alike(observed)),
        Check("nothing was left over", "no tails, no leases", _joined(observed.left_in_redis)),
    ]


def _moved(observed: Observed) -> str:
    return "" if observed.moved else "no call was on the gateway that was killed: nothing is shown"


def _struck_worker(observed: Observed) -> str:
    return "" if observed.worker_had_work else "the worker had no recording in hand: nothing is shown"


def _attempts(judged: Judged) -> str:
    again = sum(attempt > 1 for attempt in judged.attempts.values())
    return f"{again} recording{'s' if again != 1 else ''} begun again by the other"


def _messages(calls: Iterable[PlayedCall]) -> str:
    return f"{sum(len(call.messages) for call in calls)} messages"


def _alerts(calls: Iterable[PlayedCall]) -> str:
    return f"{sum(len(call.of(Alert)) for call in calls)} alerts"


def _ended(call: PlayedCall) -> str:
    if call.fault:
        return f"{call.name}: {call.fault}"
    last = call.messages[-1] if call.messages else None
    if not isinstance(last, Ended):
        return f"{call.name} never ended"
    if last.reason != "hangup" or last.samples != call.samples:
        return f"{call.name} ended ({last.reason}) with {last.samples} of {call.samples} samples"
    return ""


def _numbered(call: PlayedCall) -> str:
    """Acks that were missed are not repeated, so numbers may be stepped over, never used twice or come late."""
    numbers = [message.seq for message in call.messages if message.seq]
    return "" if numbers == sorted(set(numbers)) else f"{call.name}: numbers came twice or out of order"


def _recorded(observed: Observed) -> str:
    faults = []
    for node, told in observed.nodes.items():
        for call in observed.calls:
            recorded = told.recordings.get(call.call_id)
            if recorded is None:
                faults.append(f"{node} has no recording of {call.name}")
            elif recorded != call.pcm:
                wrong = sum(a != b for a, b in zip(recorded, call.pcm, strict=False)) + abs(
                    len(recorded) - len(call.pcm)
                )
                faults.append(f"{node}'s recording of {call.name} differs in {wrong} of {len(call.pcm)} bytes")
    return "; ".join(faults)


def _judged_once(observed: Observed) -> str:
    judged = observed.judged
    wanted = {call.call_id: call.name for call in observed.calls}
    faults = []
    for what, sessions in (("tasks", Counter(judged.tasks)), ("verdicts", Counter(judged.verdicts))):
        faults += [f"{name} has {sessions[one]} {what}" for one, name in wanted.items() if sessions[one] != 1]
        faults += [f"{what} of unknown session {one}" for one in sessions.keys() - wanted.keys()]
    for node, told in observed.nodes.items():
        states = {name: told.documents.get(one, {}).get("state", "absent") for one, name in wanted.items()}
        faults += [f"{name} is {state} at {node}" for name, state in states.items() if state != "judged"]
    return "; ".join(faults)


def _billed(judged: Judged) -> str:
    if judged.used_ms == judged.billed_ms:
        return ""
    return f"{judged.used_ms} ms were counted, and the verdicts are of {judged.billed_ms} ms"


def _reconciled(call: PlayedCall) -> str:
    status: dict[str, str] = {one.alert_id: str(one.certainty) for one in call.of(Alert)}
    status |= {one.alert_id: one.status for one in call.of(AlertUpdate)}
    open_ones = sorted(alert_id for alert_id, one in status.items() if one in OPEN)
    return f"{call.name}: still open: {', '.join(open_ones)}" if open_ones else ""


def _told_alike(observed: Observed) -> str:
    faults = []
    for call in observed.calls:
        told = {name: one.documents.get(call.call_id) for name, one in observed.nodes.items()}
        if len({repr(document) for document in told.values()}) > 1:
            faults.append(f"{call.name} is not told alike")
        heard = {one.alert_id for one in call.of(Alert)}
        for name, document in told.items():
            stored = {alert["alert_id"] for alert in (document or {}).get("alerts", ())}
            if stored != heard:
                faults.append(f"{name} tells of {len(stored)} alerts of {call.name}, its client heard {len(heard)}")
            if call.call_id not in observed.nodes[name].listed:
                faults.append(f"{name} does not list {call.name}")
    return "; ".join(faults)


def _joined(faults: Iterable[str]) -> str:
    return "; ".join(fault for fault in faults if fault)
