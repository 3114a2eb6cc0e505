"""The state of the call page is one, for who was there from the start and for who opens the finished call."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.call.document import CallDocument
from protocol import messages
from protocol.messages import ServerMessage, Start
from tests.browser.pages import NewPage

CASES = 150
TEXTS = ("I want", "I want a refund", "你好，退款", "Zoë 𠀀 said no", "")
FOLD = """
async (cases) => {
  const { CallModel } = await import("/screen/call/model.js");
  return cases.map(({ document, heard }) => {
    const model = new CallModel(document.call_id);
    model.take(document);
    for (const message of heard) model.hear(message);
    return { content: model.content, seq: model.seq, state: model.call.state, duration_ms: model.call.duration_ms };
  });
}
"""


def told(seed: int) -> Iterator[ServerMessage]:
    """What a server may say of a call, in the order of `seq`, some numbers left out."""
    dice = random.Random(seed)
    segments: list[str] = []
    alerts: list[str] = []
    seq = at_ms = 0

    def head() -> dict[str, Any]:
        nonlocal seq, at_ms
        seq += dice.choice((1, 1, 2))
        at_ms += dice.randrange(400)
        return {"call_id": "c1", "seq": seq, "at_ms": at_ms}

    def evidence(segment_id: str) -> messages.Evidence:
        return messages.Evidence(
            segment_id=segment_id, channel=0, text="refund", begin_ms=at_ms, end_ms=at_ms + 9,
            keyword=dice.choice(("refund", "money")), match="exact", begin=0, end=6,
        )  # fmt: skip

    for _ in range(dice.randrange(60)):
        which = dice.choice(
            ("open", "open", "text", "text", "text", "close", "speaker", "alert", "update", "gap", "warn")
        )
        if which == "open" or not segments:
            segments.append(f"s{len(segments)}")
            # A softphone's own text has no segment before it.
            if dice.random() < 0.2:
                which = "text"
        segment: dict[str, Any] = {"segment_id": dice.choice(segments), "channel": 0, "role": "agent"}
        if which == "open":
            segment["segment_id"] = segments[-1]
            yield messages.Segment(**head(), **segment, state="opened", begin_ms=at_ms, end_ms=at_ms)
        elif which == "close":
            yield messages.Segment(**head(), **segment, state="closed", begin_ms=at_ms, end_ms=at_ms + 500)
        elif which == "text":
            text = dice.choice(TEXTS)
            yield messages.Transcript(
                **head(), **segment, text=text, final=dice.random() < 0.4, begin_ms=at_ms, end_ms=at_ms + 300,
                language="en", words=[messages.Word(text=text, begin_ms=at_ms, end_ms=at_ms + 300)],
                stable_chars=dice.randrange(1 + len(text)),
            )  # fmt: skip
        elif which == "speaker":
            state: Any = dice.choice(("known", "unknown", "undecided", "conflict"))
            yield messages.Speaker(
                **head(), **segment, state=state, name="Ann" if state == "known" else "", score=dice.random(),
                margin=1.0, net_speech_ms=5, stable=dice.random() < 0.5, candidates=[],
            )  # fmt: skip
        elif which == "alert" or (which == "update" and not alerts):
            alerts.append(f"a{len(alerts)}")
            yield messages.Alert(
                **head(), alert_id=alerts[-1], category="c", rule="refund", rule_version=1, certainty="provisional",
                pending=["partial_text"], keywords=["refund"], evidence=[evidence(segments[0])],
            )  # fmt: skip
        elif which == "update":
            yield messages.AlertUpdate(
                **head(), alert_id=dice.choice(alerts), status=dice.choice(("final", "retracted", "confirmed")),
                reason="evidence", evidence=[evidence(segments[0])] * dice.randrange(3),
            )  # fmt: skip
        elif which == "gap":
            yield messages.Gap(**head(), channel=0, from_sample=at_ms, to_sample=at_ms + 80, cause="network")
        else:
            yield messages.Warning(**head(), code="degraded", message="m", lag_ms=0)
    if dice.random() < 0.7:
        yield messages.QcStatus(**head(), session_id="c1", state=1, state_desc="running")
        if dice.random() < 0.7:
            missed = [messages.Missed(category="c", rule="r", keywords=["k"])]
            yield messages.QcResult(**head(), session_id="c1", result={"state": 2}, missed=missed)
            yield messages.Ended(**head(), samples=8 * at_ms, duration_ms=at_ms, reason="hangup")


def document(said: list[ServerMessage], state: str = "live") -> dict[str, Any]:
    """As `/v1/calls/{id}` answers when so much was said."""
    one = CallDocument("c1", Start(rate=8000, channels=1), ("agent",))
    for message in said:
        one.apply(message)
    whole = {"state": state, "began_at_ms": 1, "ended_at_ms": None, "paused": False, **one.content}
    if state == "live":
        over = bool(said) and isinstance(said[-1], messages.Ended)
        whole |= {"seq": said[-1].seq if said else 0, "state": "judging" if over else "live"}
    told: dict[str, Any] = plain(whole)
    return told


def plain(value: object) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def coalesced(said: list[ServerMessage], dice: random.Random) -> list[ServerMessage]:
    """What a slow watcher, or one that comes back, may be told instead: texts that later ones replace are left out."""
    latest = {one.segment_id: one.seq for one in said if isinstance(one, messages.Transcript)}
    first = {one.segment_id: one.seq for one in reversed(said) if isinstance(one, messages.Transcript)}
    return [
        one
        for one in said
        if not isinstance(one, messages.Transcript)
        or one.seq in (latest[one.segment_id], first[one.segment_id])
        or dice.random() < 0.5
    ]


def wanted(whole: dict[str, Any]) -> dict[str, Any]:
    names = ("segments", "alerts", "shadow_alerts", "gaps", "notes", "warnings", "qc")
    return {name: whole[name] for name in names}


async def test_every_cut_between_document_and_watch_gives_the_same_state(new_page: NewPage) -> None:
    page = await new_page(app=None)
    cases, expected = [], []
    for seed in range(CASES):
        dice = random.Random(seed)
        said = list(told(seed))
        cut = dice.randrange(len(said) + 1)
        again = dice.randrange(cut + 1)
        # Messages that are in the document already come again where the watch begins earlier.
        heard = coalesced(said[again:], dice)
        cases.append({"document": document(said[:cut]), "heard": plain(heard)})
        expected.append(said)
        if said and isinstance(said[-1], messages.Ended):
            cases.append({"document": document(said, "judged"), "heard": []})
            expected.append(said)
    folded = await page.evaluate(FOLD, cases)
    for case, said, got in zip(cases, expected, folded, strict=True):
        assert got["content"] == wanted(document(said)), case
        if said and isinstance(said[-1], messages.Ended):
            at_the_end = case["document"].get("seq") == said[-1].seq  # its verdict is filed after that
            assert got["state"] == ("judging" if at_the_end else "judged")
            assert got["duration_ms"] == said[-1].duration_ms


async def test_an_older_document_takes_back_nothing_that_was_heard_since(new_page: NewPage) -> None:
    page = await new_page(app=None)
    said = list(told(3))
    later = {
        **document(said[:5]),
        "shadow_alerts": [{"alert_id": "x"}],
        "notes": [{"kind": "mark"}],
        "metadata": {"n": 1},
    }
    got = await page.evaluate(
        """async ([early, heard, later]) => {
          const { CallModel } = await import("/screen/call/model.js");
          const model = new CallModel("c1");
          model.take(early);
          heard.forEach((message) => model.hear(message));
          model.take(later);
          const { segments, ...brief } = later;
          model.take({ ...brief, seq: 10_000 });
          return { content: model.content, metadata: model.call.metadata };
        }""",
        [document([]), plain(said), later],
    )
    assert len(said) > 10
    assert got["content"] == {
        **wanted(document(said)),
        "shadow_alerts": [{"alert_id": "x"}],
        "notes": [{"kind": "mark"}],
    }
    assert got["metadata"] == {"n": 1}
