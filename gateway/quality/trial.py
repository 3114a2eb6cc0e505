"""Dry run: what a rule would have made of stored calls and of given sentences, before it is put into force."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.ports import CallRecord, CallStore, Clock
from protocol import rules
from protocol.rules.book import Category, rules_of

MAX_CALLS = 1000
DEFAULT_CALLS = 100
MAX_TEXTS = 1000
LONGEST_S = 60.0
"""A trial that takes longer ends with what it has found."""
PAGE_CALLS = 10


class TrialRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rule is tried on. Without `calls`, `limit` and `text`: the latest 100 calls."""

    calls: Annotated[tuple[str, ...], Meta(max_length=MAX_CALLS)] = ()
    """Ids."""
    limit: Annotated[int, Meta(ge=0, le=MAX_CALLS)] = 0
    """So many of the latest calls."""
    since_ms: int = 0
    """None that began before (wall clock, ms since the Unix epoch)."""
    before: str | None = None
    """A call id: only calls that began before it, to go on where another trial ended."""
    text: Annotated[tuple[str, ...], Meta(max_length=MAX_TEXTS)] = ()
    """Sentences; each is judged alone."""
    pinyin: bool | None = None
    """Whether Chinese keywords match by sound too; default as live calls do."""

    @property
    def latest(self) -> int:
        """How many of the latest calls are meant."""
        return self.limit or (0 if self.calls or self.text else DEFAULT_CALLS)


class Trials:
    """Judges by the evaluator of live calls and of voice QC, each call in a thread, one after another."""

    def __init__(self, calls: CallStore, clock: Clock, *, pinyin: bool) -> None:
        """`pinyin`: what live calls do."""
        self._calls = calls
        self._clock = clock
        self._pinyin = pinyin

    async def run(self, app_id: str, category: Category, asked: TrialRequest) -> AsyncGenerator[dict[str, Any]]:
        """What comes of the category, which is well formed: an object for each text and call, then `totals`."""
        pinyin = self._pinyin if asked.pinyin is None else asked.pinyin
        ruleset = await asyncio.to_thread(rules.RuleSet, rules_of(category, 0), pinyin=pinyin)
        totals = {"texts": 0, "texts_fired": 0, "calls": 0, "fired": 0, "qc_hit": 0, "both": 0}
        for index, text in enumerate(asked.text):
            judgement = await asyncio.to_thread(rules.judge, ruleset, [text], pinyin=pinyin)
            hits = _hits(judgement, [{}])
            totals["texts"] += 1
            totals["texts_fired"] += bool(hits)
            yield {"text": index, "fires": bool(hits), "hits": hits}
        until_s, last, complete = self._clock.monotonic() + LONGEST_S, None, True
        async for call_id, record in self._asked_for(app_id, asked):
            if self._clock.monotonic() > until_s:
                complete = False
                break
            last = call_id
            if record is None:
                yield {"call_id": call_id, "error": "unknown_call"}
                continue
            line = await asyncio.to_thread(_tried, ruleset, record, category.category, pinyin=pinyin)
            hit = (line["qc"] or {}).get("hit", False)
            totals["calls"] += 1
            totals["fired"] += line["fires"]
            totals["qc_hit"] += hit
            totals["both"] += line["fires"] and hit
            yield line
        yield {"totals": totals, "complete": complete, "last_call_id": last}

    async def _asked_for(self, app_id: str, asked: TrialRequest) -> AsyncIterator[tuple[str, CallRecord | None]]:
        """Calls that run have no text in the store yet, and are left out."""
        for call_id in asked.calls:
            record = await self._calls.get(app_id, call_id)
            yield call_id, None if record is None or record.state == "live" else record
        left, before = asked.latest, asked.before
        while left > 0:
            page = await self._calls.page(app_id, limit=min(left, PAGE_CALLS), before=before)
            for record in page:
                if record.began_at_ms < asked.since_ms:
                    return
                if record.state != "live":
                    yield record.call_id, record
                before = record.call_id
            left = left - len(page) if page else 0


def _tried(ruleset: rules.RuleSet, record: CallRecord, category: str, *, pinyin: bool) -> dict[str, Any]:
    """What the rules make of a stored call's final texts, and what voice QC said of the category then. Blocking."""
    document = record.document
    said = sorted(
        (one for one in document["segments"] if one.get("final") and one.get("text")),
        key=lambda one: one["begin_ms"],
    )
    judgement = rules.judge(
        ruleset,
        [one["text"] for one in said],
        pinyin=pinyin,
        said=[rules.Said(one["channel"], one["role"], one["begin_ms"], one["end_ms"]) for one in said],
        speakers={index: one["speaker"]["name"] for index, one in enumerate(said) if one.get("speaker")},
        duration_ms=document["duration_ms"],
    )
    hits = _hits(judgement, said)
    alerts = [
        {"alert_id": one["alert_id"], "rule": one["rule"], "status": one["status"]}
        for one in document["alerts"]
        if one["category"] == category
    ]
    return {
        "call_id": record.call_id,
        "began_at_ms": record.began_at_ms,
        "fires": bool(hits),
        "hits": hits,
        "alerts": alerts,
        "qc": _qc_of(record, category),
    }


def _qc_of(record: CallRecord, category: str) -> dict[str, Any] | None:
    """What voice QC said of a category; None when there is no verdict."""
    result = (record.document["qc"] or {}).get("result")
    if record.state != "judged" or not result:
        return None
    entries = [one for one in result.get("detection_result") or () if one.get("category") == category]
    named = [content.get("content") for one in entries for content in one.get("detail") or ()]
    keywords = [keyword for one in entries for keyword in one.get("keyword") or ()]
    return {"hit": bool(entries), "rules": named, "keywords": keywords}


def _hits(judgement: rules.Judgement, said: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "rule": hit.rule.expression,
            "options": hit.rule.options,
            "shadow": hit.rule.shadow,
            "keywords": hit.keywords,
            "evidence": list(_evidence(hit.evidence, said)),
        }
        for category in judgement.recording
        for hit in category.rules
    ]


def _evidence(heard: Iterable[rules.Evidence], said: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    told = []
    for one in heard:
        sentence: dict[str, Any] = said[one.sentence_id] if isinstance(one.sentence_id, int) else {}
        about: dict[str, Any] = {
            key: sentence[key] for key in ("segment_id", "channel", "begin_ms", "end_ms") if key in sentence
        }
        if one.measured_ms is not None:
            about["begin_ms"], about["end_ms"] = one.measured_ms
        about |= {"text": one.text, "begin": one.begin, "end": one.end, "keyword": one.keyword, "match": one.match}
        told.append(about)
    return told
