"""Did every stage of the demo really happen? A pure look at the messages of one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.demo.material import DemoCall, Expectation
from protocol import messages
from protocol.messages import ServerMessage


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, and what is wrong with it (empty: it happened)."""

    name: str
    fault: str


def stages(call: DemoCall, heard: Sequence[ServerMessage], sent_samples: int, hangup_at: int) -> list[Stage]:
    """Each stage of the call, in order. `hangup_at` is how many messages had come when the client hung up."""
    return [
        Stage("audio acknowledged", _acked(heard, sent_samples)),
        Stage("utterances found on both channels", _segments(heard)),
        Stage("words transcribed on both channels", _transcripts(heard)),
        Stage("the agent recognised by voice", _agent(call, heard)),
        Stage("the customer not taken for anyone enrolled", _customer(heard)),
        Stage("alerts pushed before hangup", _early(call, heard[:hangup_at])),
        Stage("a provisional alert withdrawn", _withdrawn(call, heard)),
        Stage("every rule judged as the script says", _rules(call, heard)),
        Stage("voice QC's verdict received", _verdict(heard)),
        Stage("every alert confirmed or withdrawn", _settled(heard)),
        Stage("call ended in order", _ended(heard)),
    ]


def _acked(heard: Sequence[ServerMessage], sent_samples: int) -> str:
    acked = max((one.samples for one in heard if isinstance(one, messages.Ack)), default=0)
    return "" if acked == sent_samples else f"{acked} of {sent_samples} samples were acknowledged"


def _segments(heard: Sequence[ServerMessage]) -> str:
    closed = [one for one in heard if isinstance(one, messages.Segment) and one.state == "closed"]
    silent = {"agent", "customer"} - {one.role for one in closed}
    return f"no utterance of the {' or the '.join(sorted(silent))}" if silent else ""


def _transcripts(heard: Sequence[ServerMessage]) -> str:
    said = [one for one in heard if isinstance(one, messages.Transcript) and one.final and one.text]
    mute = {"agent", "customer"} - {one.role for one in said}
    return f"no words of the {' or the '.join(sorted(mute))}" if mute else ""


def _agent(call: DemoCall, heard: Sequence[ServerMessage]) -> str:
    labels = [one for one in heard if isinstance(one, messages.Speaker) and one.role == "agent"]
    if any(one.state == "known" and one.name == call.agent.name for one in labels):
        return ""
    return f"the agent's channel was never labelled {call.agent.name}"


def _customer(heard: Sequence[ServerMessage]) -> str:
    labels = [one for one in heard if isinstance(one, messages.Speaker) and one.role == "customer"]
    named = {one.name for one in labels if one.name}
    if named:
        return f"the customer was taken for {', '.join(sorted(named))}"
    return "" if any(one.state == "unknown" for one in labels) else "the customer was never compared with anyone"


def _early(call: DemoCall, before_hangup: Sequence[ServerMessage]) -> str:
    wanted = {(one.category, one.rule) for one in call.expect if one.early != "none"}
    raised = {(one.category, one.rule) for one in before_hangup if isinstance(one, messages.Alert)}
    return _names("no alert before hangup for", wanted - raised)


def _withdrawn(call: DemoCall, heard: Sequence[ServerMessage]) -> str:
    wanted = {(one.category, one.rule) for one in call.expect if one.retracted}
    alerts = {one.alert_id: (one.category, one.rule) for one in heard if isinstance(one, messages.Alert)}
    withdrawn = {
        alerts[one.alert_id] for one in heard if isinstance(one, messages.AlertUpdate) and one.status == "retracted"
    }
    return _names("not withdrawn:", wanted - withdrawn)


def _rules(call: DemoCall, heard: Sequence[ServerMessage]) -> str:
    faults = []
    for expected in call.expect:
        outcome = _outcome(expected, heard)
        if outcome != expected.qc:
            faults.append(f"{expected.category} ({expected.rule}): {outcome} where {expected.qc} was expected")
    return "; ".join(faults)


def _outcome(expected: Expectation, heard: Sequence[ServerMessage]) -> str:
    """What the verdict made of a rule: that of its last alert, `missed`, or `no_hit`."""
    ids = [
        one.alert_id
        for one in heard
        if isinstance(one, messages.Alert) and (one.category, one.rule) == (expected.category, expected.rule)
    ]
    status = ""
    for one in heard:
        if isinstance(one, messages.AlertUpdate) and ids and one.alert_id == ids[-1]:
            status = one.status
        if isinstance(one, messages.QcResult) and any(hit.category == expected.category for hit in one.missed):
            return "missed"
    return "no_hit" if status in ("", "retracted") else status


def _verdict(heard: Sequence[ServerMessage]) -> str:
    for one in heard:
        if isinstance(one, messages.QcResult):
            return "" if one.result.get("asr_text") else "the verdict holds no transcript"
    return "no verdict came"


def _settled(heard: Sequence[ServerMessage]) -> str:
    status = {one.alert_id: str(one.certainty) for one in heard if isinstance(one, messages.Alert)}
    status |= {one.alert_id: one.status for one in heard if isinstance(one, messages.AlertUpdate)}
    if not status:
        return "there was no alert"
    open_ones = [alert_id for alert_id, one in status.items() if one in ("provisional", "final", "indeterminate")]
    return f"still open: {', '.join(open_ones)}" if open_ones else ""


def _ended(heard: Sequence[ServerMessage]) -> str:
    numbers = [one.seq for one in heard if one.seq]
    if not heard or not isinstance(heard[-1], messages.Ended):
        return "no `ended`"
    return "" if numbers == list(range(1, len(numbers) + 1)) else "message numbers have holes"


def _names(text: str, rules: Iterable[tuple[str, str]]) -> str:
    named = ", ".join(f"{category} ({rule})" for category, rule in sorted(rules))
    return f"{text} {named}" if named else ""
