"""Makes reports from what is kept: a call's document, or a result of voice QC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gateway.report.view import (
    MOST_PLACES,
    Finding,
    FindingKind,
    Line,
    Note,
    Party,
    Place,
    Report,
    Stretch,
    Verdict,
    found_in,
    joined,
    mapping,
    mappings,
    number,
    text,
    texts,
)
from protocol.rules.text import Folded, fold

_ALERTS: Mapping[str, FindingKind] = {
    "confirmed": "confirmed",
    "not_confirmed": "not_confirmed",
    "indeterminate": "indeterminate",
    "retracted": "retracted",
}

LONGEST_MS = 7 * 24 * 3_600_000
"""No call is longer: what says so is wrong."""


def of_call(call: Mapping[str, Any]) -> Report:
    """The report of a call, as `GET /v1/calls/{id}` tells it."""
    qc = mapping(call.get("qc"))
    result = mapping(qc.get("result"))
    split = call.get("channels") == 2
    segments = [one for one in mappings(call.get("segments")) if number(one.get("begin_ms")) is not None]
    from_qc = "asr_result" in result
    lines = tuple(_lines_of(result, segments, split=split) if from_qc else _live_lines(segments))
    duration_ms = _duration_ms(number(call.get("duration_ms")) or 0, lines, segments)
    folded = _folded(lines)
    findings = [*_alerts(call, lines), *(_hit("missed", one, folded) for one in mappings(qc.get("missed")))]
    rate_hz = number(call.get("rate")) or 8000
    return Report(
        id=text(call.get("call_id")),
        of_call=True,
        began_at_ms=number(call.get("began_at_ms")),
        duration_ms=duration_ms,
        facts=tuple(
            (name, text(value))
            for name, value in (
                ("ended", call.get("reason")),
                ("language", call.get("language")),
                ("rules_version", result.get("rules_version")),
            )
            if value not in (None, "")
        ),
        metadata=tuple((key, _told(value)) for key, value in mapping(call.get("metadata")).items()),
        verdict=_verdict(text(call.get("state")), result, text(qc.get("failure"))),
        verdict_note=text(qc.get("failure")),
        parties=tuple(_parties_of_call(call, segments, lines, split=split)),
        lines=lines,
        from_qc=from_qc,
        findings=tuple(findings),
        gaps=joined(
            Stretch((number(one.get("from_sample")) or 0) * 1000 // rate_hz, end * 1000 // rate_hz)
            for one in mappings(call.get("gaps"))
            if (end := number(one.get("to_sample")))
        ),
        notes=tuple(
            Note(text(one.get("kind")), text(one.get("value")), number(one.get("at_ms")) or 0)
            for one in mappings(call.get("notes"))
        ),
    )


def of_result(result: Mapping[str, Any]) -> Report:
    """The report of a recording of other origin, from the `result` of its task."""
    lines = tuple(_lines_of(result, (), split=True))
    speakers = sorted({line.party for line in lines})
    done = result.get("state") == 2
    version = result.get("rules_version")
    return Report(
        id=text(result.get("session_id")),
        of_call=False,
        began_at_ms=None,
        duration_ms=_duration_ms((number(result.get("call_duration")) or 0) * 1000, lines, ()),
        facts=() if version is None else (("rules_version", text(version)),),
        metadata=(),
        verdict=_verdict("judged" if done else "", result if done else {}, ""),
        verdict_note="" if done else text(result.get("state_desc")),
        parties=tuple(Party("", _name_of(lines, one), _speech(lines, one)) for one in speakers),
        lines=lines,
        from_qc=True,
        findings=tuple(_hits(result, _folded(lines))),
        gaps=(),
        notes=(),
    )


def _verdict(state: str, result: Mapping[str, Any], failure: str) -> Verdict:
    if state == "live":
        return "live"
    if failure or state == "failed":
        return "no_verdict"
    if not result:
        return "judging" if state == "judging" else "no_verdict"
    return "failed" if result.get("pass_detection") == "failed" else "passed"


# --- what was said -----------------------------------------------------------------------------------------------


def _lines_of(result: Mapping[str, Any], segments: Sequence[Mapping[str, Any]], *, split: bool) -> Iterator[Line]:
    """The sentences of voice QC; of a mixed channel with the name that the live label had then."""
    sentences = mappings(result.get("asr_result"))
    unit_ms = _unit_ms(result, sentences)
    for index, one in enumerate(sentences, 1):
        begin_ms = number(one.get("begin_ms"))
        end_ms = number(one.get("end_ms"))
        if begin_ms is None:
            begin_ms = (number(one.get("begin_time")) or 0) * unit_ms
        if end_ms is None:
            end_ms = (number(one.get("end_time")) or 0) * unit_ms
        end_ms = max(begin_ms, end_ms)
        name = text(one.get("speaker_name")) or ("" if split else _name_then(segments, begin_ms, end_ms))
        yield Line(
            number=index,
            party=number(one.get("speaker_id")) or 0,
            who=name,
            begin_ms=begin_ms,
            end_ms=end_ms,
            text=text(one.get("sentence")),
            speed=number(one.get("voice_speed")),
            power_dbfs=number(one.get("voice_power")),
        )


def _unit_ms(result: Mapping[str, Any], sentences: Sequence[Mapping[str, Any]]) -> int:
    """What a vendor's times count in: they cannot lie far beyond the end of the call, which is in seconds."""
    last = max((number(one.get("end_time")) or 0 for one in sentences), default=0)
    return 1 if last > 10 * max(1, number(result.get("call_duration")) or 0) else 1000


def _live_lines(segments: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    said = sorted((one for one in segments if text(one.get("text"))), key=lambda one: number(one["begin_ms"]) or 0)
    for index, one in enumerate(said, 1):
        begin_ms = number(one["begin_ms"]) or 0
        yield Line(
            number=index,
            party=number(one.get("channel")) or 0,
            who=_known_name(one),
            begin_ms=begin_ms,
            end_ms=max(begin_ms, number(one.get("end_ms")) or 0),
            text=text(one.get("text")),
            speed=None,
            power_dbfs=None,
        )


def _known_name(segment: Mapping[str, Any]) -> str:
    speaker = mapping(segment.get("speaker"))
    return text(speaker.get("name")) if speaker.get("state") == "known" else ""


def _name_then(segments: Iterable[Mapping[str, Any]], begin_ms: int, end_ms: int) -> str:
    """The name that was known for most of a sentence's time."""
    best_ms, best = 0, ""
    for one in segments:
        shared_ms = min(end_ms, number(one.get("end_ms")) or 0) - max(begin_ms, number(one.get("begin_ms")) or 0)
        if shared_ms > best_ms:
            best_ms, best = shared_ms, _known_name(one)
    return best


def _parties_of_call(
    call: Mapping[str, Any], segments: Sequence[Mapping[str, Any]], lines: Sequence[Line], *, split: bool
) -> Iterator[Party]:
    """By channel; voices told apart in one channel by voice."""
    roles = texts(call.get("roles"))
    voices = sorted({line.party for line in lines})
    if not split and len(voices) > 1:
        yield from (Party("", _name_of(lines, one), _speech(lines, one)) for one in voices)
        return
    for channel in range(number(call.get("channels")) or 1):
        own = [one for one in segments if (number(one.get("channel")) or 0) == channel]
        names = [name for one in own if (name := _known_name(one))]
        heard = joined(
            Stretch(begin_ms, end_ms)
            for one in own
            if (end_ms := number(one.get("end_ms")) or 0) > (begin_ms := number(one.get("begin_ms")) or 0)
        )
        yield Party(
            roles[channel] if channel < len(roles) else "",
            max(names, key=names.count) if names and split else "",
            heard or _speech(lines, channel),
        )


def _speech(lines: Iterable[Line], party: int) -> tuple[Stretch, ...]:
    return joined(Stretch(one.begin_ms, one.end_ms) for one in lines if one.party == party)


def _name_of(lines: Iterable[Line], party: int) -> str:
    names = [line.who for line in lines if line.party == party and line.who]
    return max(names, key=names.count) if names else ""


def _duration_ms(told_ms: int, lines: Iterable[Line], segments: Iterable[Mapping[str, Any]]) -> int:
    ends = [line.end_ms for line in lines] + [number(one.get("end_ms")) or 0 for one in segments]
    return min(LONGEST_MS, max([told_ms, *ends]))


# --- what it hit -------------------------------------------------------------------------------------------------


def _alerts(call: Mapping[str, Any], lines: Sequence[Line]) -> Iterator[Finding]:
    for one in mappings(call.get("alerts")):
        evidence = [
            (max(0, number(each.get("begin_ms")) or 0), number(each.get("channel")))
            for each in mappings(one.get("evidence"))
        ]
        heard = evidence or [(max(0, number(one.get("at_ms")) or 0), None)]
        places = tuple(Place(at_ms, party, _line_at(lines, at_ms, party)) for at_ms, party in heard[:MOST_PLACES])
        kind = _ALERTS.get(text(one.get("status")), "open")
        yield Finding(kind, text(one.get("category")), text(one.get("rule")), texts(one.get("keywords")), places)


def _line_at(lines: Iterable[Line], at_ms: int, party: int | None) -> int | None:
    """The sentence that was said then, by the same party if two were."""
    then = [line for line in lines if line.begin_ms <= at_ms < line.end_ms]
    own = [line for line in then if line.party == party]
    return (own or then)[0].number if then else None


def _hit(kind: FindingKind, hit: Mapping[str, Any], lines: Sequence[tuple[Line, Folded]]) -> Finding:
    """A hit of voice QC, which names keywords and not where they are."""
    keywords = texts(hit.get("keywords", hit.get("keyword")))
    places = [
        Place(line.begin_ms, line.party, line.number)
        for line, folded in lines
        if any(True for keyword in keywords for _ in found_in(folded, keyword))
    ]
    rule = text(hit.get("rule", hit.get("content")))
    return Finding(kind, text(hit.get("category")), rule, keywords, tuple(places[:MOST_PLACES]))


def _folded(lines: Iterable[Line]) -> list[tuple[Line, Folded]]:
    return [(line, fold(line.text)) for line in lines]


def _hits(result: Mapping[str, Any], lines: Sequence[tuple[Line, Folded]]) -> Iterator[Finding]:
    """By expression where the result names them."""
    for one in mappings(result.get("detection_result")):
        contents = mappings(one.get("detail"))
        for each in contents or [one]:
            yield _hit("hit", {**each, "category": one.get("category")}, lines)


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
