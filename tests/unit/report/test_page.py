"""The page of a report: whatever came from outside is text in it, it runs nothing, and people can read it."""

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.report.page import KINDS, STYLE, Audio, clock, policy, render
from gateway.report.sources import of_call, of_result
from gateway.report.view import FindingKind, Verdict
from gateway.report.words import HTML_LANG, WORDS, Lang, language_for

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><script>alert(1)</script>",
    "</title></svg><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "<!-- ]]> -->",
    "javascript:alert(1)",
    "&lt;b&gt; &amp;",
    "\u202egnp.exe \u2066",
    "\x00\x1b[31m",
)
AUDIO = Audio("recording?expires=1&sig=ab-c_d")


class Tags(HTMLParser):
    """Counts tags and attribute names, and collects the text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes[name] += 1
            if name in ("href", "src"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def call_saying(*words: str) -> dict[str, Any]:
    """A judged call that holds `words`, one after another, in each field that comes from outside."""
    at = iter(words * 40)

    def one() -> str:
        return next(at)

    return {
        "call_id": one(),
        "state": "judged",
        "began_at_ms": 1_700_000_000_000,
        "rate": 8000,
        "channels": 2,
        "roles": [one(), "customer"],
        "language": "en",
        "metadata": {one(): one(), "list": [one()]},
        "duration_ms": 30_000,
        "reason": one(),
        "segments": [
            {"segment_id": "a", "channel": 0, "role": "agent", "begin_ms": 500, "end_ms": 9000, "text": one(),
             "final": True, "speaker": {"state": "known", "name": one()}},
        ],
        "alerts": [
            {"category": one(), "rule": one(), "status": status, "keywords": [one()], "at_ms": 5,
             "evidence": [{"channel": 0, "begin_ms": 700, "keyword": one()}]}
            for status in ("confirmed", "not_confirmed", "retracted", "provisional", "indeterminate")
        ],
        "gaps": [{"channel": 0, "from_sample": 100, "to_sample": 900, "cause": one()}],
        "notes": [{"kind": "mark", "value": one(), "at_ms": 3}, {"kind": one(), "value": one(), "at_ms": 4}],
        "qc": {
            "missed": [{"category": one(), "rule": one(), "keywords": [one()]}],
            "failure": "",
            "result": {
                "pass_detection": "failed",
                "rules_version": 3,
                "call_duration": 30,
                "asr_result": [
                    {"sentence": one(), "speaker_id": 0, "begin_ms": 600, "end_ms": 8900, "voice_speed": 1},
                    {"sentence": one(), "speaker_id": 1, "speaker_name": one(), "begin_ms": 8000, "end_ms": 9900},
                ],
            },
        },
    }  # fmt: skip


def result_saying(*words: str) -> dict[str, Any]:
    at = iter(words * 20)
    return {
        "session_id": next(at),
        "state": 2,
        "call_duration": 12,
        "pass_detection": "failed",
        "asr_result": [
            {"sentence": next(at), "speaker_id": 1, "begin_time": 1, "end_time": 3},
            {"sentence": next(at), "speaker_id": 0, "begin_time": 2, "end_time": 9},
        ],
        "detection_result": [
            {"category": next(at), "keyword": [next(at)], "detail": [{"content": next(at), "keyword": [next(at)]}]}
        ],
    }


def page_of(call: dict[str, Any], lang: Lang = "en") -> Tags:
    return Tags(render(of_call(call), lang, AUDIO))


# --- hostile text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", get_args(Lang))
@pytest.mark.parametrize("markup", HOSTILE)
def test_markup_in_every_field_is_text(markup: str, lang: Lang) -> None:
    harmless, hostile = page_of(call_saying("plain"), lang), page_of(call_saying(markup), lang)
    # Marked keywords differ with the words; nothing else may.
    for tags in (harmless, hostile):
        tags.tags.pop("mark", None)
    assert hostile.tags == harmless.tags
    assert hostile.attributes == harmless.attributes
    assert "script" not in hostile.tags
    assert hostile.text.count(markup) >= 20
    other = Tags(render(of_result(result_saying(markup)), lang))
    assert (other.tags["script"], other.tags["img"]) == (0, 0)
    assert markup in other.text


WORDS_OF = st.text(st.sampled_from("<>&\"'/={}%#ab 你-\x00\u202e"), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WORDS_OF, min_size=40, max_size=40))
def test_no_text_makes_a_tag_or_an_attribute(words: list[str]) -> None:
    known = page_of(call_saying("plain"))
    tags = page_of(call_saying(*words))
    assert set(tags.tags) <= set(known.tags) | {"mark"}
    assert set(tags.attributes) == set(known.attributes)
    assert all(
        link == AUDIO.url or re.fullmatch(r"#s\d+|recording\?expires=1&sig=ab-c_d#t=\d+", link) for link in tags.links
    )


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just("x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["sentence", "keyword", "a"]), inner),
    max_leaves=6,
)
FIELDS = ["asr_result", "detection_result", "detection_detail", "call_duration", "session_id", "state_desc", "state"]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING))
def test_an_answer_of_any_shape_makes_a_page(result: dict[str, Any]) -> None:
    assert "<html" in render(of_result({"state": 2, **result}), "en")
    call = {**call_saying("plain"), "qc": {"result": result, "missed": result.get("asr_result")}}
    assert "<html" in render(of_call(call), "zh")


# --- what it may do ----------------------------------------------------------------------------------------------


def test_the_page_holds_one_style_whose_digest_its_policy_names_and_no_script() -> None:
    page = render(of_call(call_saying("plain")), "en", AUDIO)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style == STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    tags = Tags(page)
    assert tags.tags["script"] == tags.attributes["style"] == tags.attributes["onclick"] == 0
    assert f"style-src 'sha256-{digest}'" in policy(AUDIO)
    assert policy(None).startswith("default-src 'none'")
    assert "media-src" not in policy(None)
    assert "media-src 'self'" in policy(AUDIO)
    assert "unsafe" not in policy(AUDIO)


def test_nothing_is_loaded_but_the_recording() -> None:
    tags = page_of(call_saying("plain"))
    outside = [link for link in tags.links if not link.startswith("#")]
    assert outside
    assert all(link.startswith(AUDIO.url) for link in outside)
    without = Tags(render(of_call(call_saying("plain")), "en"))
    assert [link for link in without.links if not link.startswith("#")] == []
    assert without.tags["audio"] == 0


# --- what people see ---------------------------------------------------------------------------------------------


def test_both_languages_have_every_word() -> None:
    assert set(WORDS) == set(HTML_LANG) == set(get_args(Lang))
    for words in WORDS.values():
        assert set(words) == set(WORDS["en"])
        assert {*get_args(FindingKind), *get_args(Verdict)} <= set(words)
    assert set(KINDS) == set(get_args(FindingKind))
    page = render(of_call(call_saying("plain")), "zh")
    assert '<html lang="zh-CN">' in page
    assert "转写文本" in page


@pytest.mark.parametrize(
    ("asked", "accepted", "expected"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "en;q=0.5, zh;q=0.7", "zh"),
        (None, "de, fr;q=0.9, zh;q=0.1", "zh"),
        (None, "zh;q=0, en;q=0.1", "en"),
        (None, "zh;q=no, *", "en"),
        ("zh", "en", "zh"),
        ("EN-gb", "zh", "en"),
        ("xx", "zh", "zh"),
    ],
)
def test_the_language_asked_for_wins_over_what_the_browser_likes(
    asked: str | None, accepted: str, expected: str
) -> None:
    assert language_for(asked, accepted) == expected


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2])
def test_text_and_marks_stand_out_in_light_dark_and_print(scheme: int) -> None:
    """WCAG 2.1 AA: 4.5 for text, 3 for what is drawn."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert len(blocks) == 3
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[scheme]))
    for ground in ("paper", "panel"):
        for text in ("ink", "quiet", "link"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for drawn in ("first", "second", "third", "fourth", "good", "bad", "both"):
            assert contrast(colours[drawn], colours[ground]) >= 3, (drawn, ground)
    assert contrast(colours["hit-ink"], colours["hit"]) >= 4.5


def test_times_are_read_as_clocks() -> None:
    assert [clock(at) for at in (0, 61_999, 3_600_000, -5)] == ["0:00", "1:01", "1:00:00", "0:00"]


def test_keywords_are_marked_as_the_rules_find_them() -> None:
    call = call_saying("plain")
    call["alerts"] = [{"category": "Money", "rule": "退款", "status": "confirmed", "keywords": ["退款", "art"]}]
    call["qc"]["missed"] = []
    call["qc"]["result"]["asr_result"] = [
        {"sentence": "我要ＲＥＦＵＮＤ，退 款！ part of ART", "speaker_id": 0, "begin_ms": 0, "end_ms": 900}
    ]
    page = render(of_call(call), "en")
    assert "<mark>退 款</mark>" in page
    assert "part of <mark>ART</mark>" in page
