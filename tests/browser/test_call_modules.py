"""The call page's pure parts: what they count and cut, held against the report's own figures where it has them."""

import random
from typing import Any

from playwright.async_api import Page

from gateway.report.sources import of_call
from tests.browser.pages import NewPage

IMPORT = "Object.assign({}, ...await Promise.all(names.map((name) => import(`/screen/call/${name}.js`))))"


async def run(new_page: NewPage, body: str, argument: object) -> Any:
    """`body` with everything that the modules export as `m`, and the argument as `a`."""
    page: Page = await new_page(app=None)
    names = ["spans", "scale", "levels", "pieces", "speakers"]
    return await page.evaluate(f"async ([names, a]) => {{ const m = {IMPORT}; {body} }}", [names, argument])


def a_call(seed: int) -> dict[str, Any]:
    dice = random.Random(seed)
    segments: list[dict[str, Any]] = []
    at_ms = 0
    for number in range(dice.randrange(12)):
        at_ms += dice.randrange(6000)
        end_ms = at_ms + dice.randrange(1, 8000)
        segments.append(
            {"segment_id": f"s{number}", "channel": dice.randrange(2), "role": "r", "begin_ms": at_ms, "end_ms": end_ms}
        )
    duration_ms = max((one["end_ms"] for one in segments), default=0) + dice.randrange(9000)
    return {"channels": 2, "roles": ["agent", "customer"], "segments": segments, "duration_ms": duration_ms}


async def test_silences_and_talk_over_are_those_of_the_report(new_page: NewPage) -> None:
    calls = [a_call(seed) for seed in range(100)]
    found = await run(
        new_page,
        """return a.map((call) => [m.silences(call.segments, call.duration_ms), m.talkovers(call.segments)].map(
             (list) => list.map((one) => [one.begin_ms, one.end_ms])));""",
        calls,
    )
    for call, (silences, talkovers) in zip(calls, found, strict=True):
        report = of_call({"call_id": "c", "state": "judged", "rate": 8000, **call})
        assert silences == [[one.begin_ms, one.end_ms] for one in report.silences]
        assert talkovers == [[one.begin_ms, one.end_ms] for one in report.talkovers]


async def test_only_what_is_in_view_is_drawn_and_nothing_of_it_left_out(new_page: NewPage) -> None:
    found = await run(
        new_page,
        """return a.map(({ segments }, seed) => {
             const sorted = m.inOrder(segments);
             const longest = Math.max(0, ...sorted.map((one) => one.end_ms - one.begin_ms));
             const [from, to] = [seed * 300, seed * 300 + 4000];
             const seen = new Set(m.visible(sorted, from, to, longest));
             return sorted.every((one) => one.end_ms <= from || one.begin_ms >= to || seen.has(one));
           });""",
        [a_call(seed) for seed in range(60)],
    )
    assert all(found)


async def test_a_zoom_keeps_what_it_points_at_and_a_view_never_leaves_the_call(new_page: NewPage) -> None:
    moves = [
        [random.Random(f"{seed} {at}").choice(("zoom", "pan", "show", "reach", "resize", "fit")), at * 997 % 7919]
        for seed in range(20)
        for at in range(30)
    ]
    outside = await run(
        new_page,
        """const scale = new m.Scale(800);
           scale.reach(3_600_000);
           scale.follow(false);
           const faults = [];
           for (const [kind, number] of a) {
             const x = number % 800;
             const before = scale.at(x);
             if (kind === "zoom") {
               scale.zoom(0.5 + (number % 100) / 60, x);
               const free = scale.fromMs > 0 && scale.toMs < scale.durationMs - 1;
               if (free && Math.abs(scale.at(x) - before) > 1) faults.push(["moved", kind, number]);
             }
             if (kind === "pan") scale.pan((number - 4000) * 100);
             if (kind === "show") scale.show(number * 400);
             const shownAt = scale.x(number * 400);
             if (kind === "show" && (shownAt < -1 || shownAt > scale.widthPx + 1)) faults.push(["hidden", number]);
             if (kind === "reach") scale.reach(3_600_000 + number);
             if (kind === "resize") scale.resize(300 + (number % 1000));
             if (kind === "fit") scale.fit();
             if (scale.fromMs < 0 || scale.toMs > scale.durationMs + 1) faults.push(["outside", kind, number]);
             const { ticks } = scale.ticks();
             if (ticks.length > scale.widthPx / 80 + 2) faults.push(["ticks", ticks.length]);
           }
           scale.follow(true);
           if (Math.abs(scale.toMs - scale.durationMs) > 1) faults.push(["not followed"]);
           return faults;""",
        moves,
    )
    assert outside == []


async def test_measured_levels_take_the_place_of_live_readings(new_page: NewPage) -> None:
    got = await run(
        new_page,
        """const track = new m.LevelTrack(1);
           track.hear([-30, -10], 0, 250);
           track.take({ step_ms: 100, from_ms: 0, channels: [[-60, -20, 0], [-90, -90, -90]] });
           track.hear([-6, -6], 200, 500);
           const one = (channel, from, to) => track.loudness(channel, from, to);
           const asked = [[0, 0, 100], [0, 200, 300], [0, 300, 400], [1, 0, 300], [1, 300, 500], [0, 900, 950]];
           const before = asked.map(([channel, from, to]) => one(channel, from, to));
           track.take({ step_ms: 200, from_ms: 0, channels: [[-30], [-90]] });
           const after = [one(0, 0, 200), one(1, 0, 200)];
           track.takeFine({ step_ms: 10, from_ms: 50, channels: [[-90, -6, 0, -90], [-90, -90, -90, -90]] });
           const fine = [track.isFine(60, 90), track.isFine(0, 90), one(0, 60, 70), one(0, 60, 90), one(0, 40, 60)];
           return { before, lengthMs: track.lengthMs, after, fine };""",
        None,
    )
    assert got["before"] == [0, 1, 0.9, 0, 0.9, 0]
    assert got["fine"] == [True, False, 0.9, 1, 0.5]
    assert (got["lengthMs"], got["after"]) == (200, [0.5, 0])


async def test_marks_stand_where_the_server_counted_them_in_characters(new_page: NewPage) -> None:
    text = "𠀀𠀀 我要退款 now"
    begin = text.index("退款")
    evidence = {"text": text, "begin": begin, "end": begin + 2, "begin_ms": 500, "end_ms": 700, "keyword": "退款"}
    words = [{"text": "我要", "begin_ms": 0, "end_ms": 500}, {"text": "对款", "begin_ms": 500, "end_ms": 700}]
    got = await run(
        new_page,
        """const piece = (text, spans) => m.cut(text, spans).filter((one) => one.kinds.length).map((one) => one.text);
           const { text, evidence, words } = a;
           return {
             same: piece(text, m.keywordSpans(text, [], evidence)),
             moved: piece(`嗯 ${text}`, m.keywordSpans(`嗯 ${text}`, [], evidence)),
             changed: piece("我要对款", m.keywordSpans("我要对款", words, evidence)),
             whole: m.cut(text, [{ begin: -5, end: 400 }, { begin: 2, end: 2 }]).map((one) => one.text).join(""),
             found: piece("Refund, REFUND, refunds", m.findSpans("Refund, REFUND, refunds", "refund")),
             odd: m.findSpans("İstanbul", "i"),
           };""",
        {"text": text, "evidence": evidence, "words": words},
    )
    assert got == {
        "same": ["退款"],
        "moved": ["退款"],
        "changed": ["对款"],
        "whole": text,
        "found": ["Refund", "REFUND", "refund"],
        "odd": [],
    }


async def test_every_voice_has_a_look_of_its_own(new_page: NewPage) -> None:
    segments = [
        {"role": ("agent", "customer")[number % 2], "speaker": {"state": "known", "name": f"voice {number}"}}
        for number in range(16)
    ]
    undecided = [{"role": "agent"}, {"role": "agent", "speaker": {"state": "unknown", "name": ""}}]
    voices = await run(new_page, "return [...m.voicesOf(a).values()];", undecided + segments)
    assert [one["name"] for one in voices] == [f"voice {number}" for number in range(16)]
    assert len({(one["tone"], one["pattern"]) for one in voices}) == 16
    assert len({one["letter"] for one in voices}) == 16
    assert (voices[0]["tone"], voices[1]["tone"]) == ("agent", "customer")
