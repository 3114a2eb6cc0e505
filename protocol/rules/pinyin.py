"""Toneless pinyin of folded text, with the readings that contact-centre calls need."""

import re
from functools import lru_cache

from pypinyin import lazy_pinyin
from pypinyin.seg.mmseg import seg

from protocol.rules.text import is_han

# What pypinyin reads wrongly in talk about money, as one character in its context. The table is applied to
# keywords and sentences alike, so that both agree.
_READINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        # 还 is huán before what is paid back (还款, 还清, 还不上), and after 未, 已, 按时 and the like (未还),
        # unless an adverb's company follows (还没, 还是, 还有). pypinyin alone reads most of these hái.
        re.compile(
            r"还(?=[款钱贷债账帐息掉]|清(?!楚)|完(?!全)|上(?!涨)|了(?!解)|利息|本[金息]|欠款|逾期|多少|信用卡|最低|不[上了起清完]|得[起上])"
            r"|(?:(?<=[未没已应待催缴代先拒])|(?<=拒不)|(?<=按时)|(?<=准时)|(?<=及时)|(?<=提前)|(?<=分期)|(?<=无力))"
            r"还(?![没是有要会能想在])"
        ),
        "huan",
    ),
    # 行 is háng, a bank, in 我行, 他行, 支行, 发卡行; not in 我行不行.
    (re.compile(r"(?<=[本我他贵该各支总分跨卡])行(?![不吗为动使程走驶])"), "hang"),
    # 卡 is kǎ but in 关卡; pypinyin reads 发卡 as a hair clip's qiǎ.
    (re.compile(r"(?<!关)卡"), "ka"),
)
_OVERRIDDEN = re.compile("[还行卡]")
_HAN_RUN = re.compile(r"[\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")


@lru_cache(maxsize=1 << 16)
def _word(word: str) -> tuple[str | None, ...]:
    """The syllables of one word of pypinyin's own segmentation; None where it knows no reading."""
    # What `errors` answers for characters without a reading: one item each keeps syllables and characters
    # aligned. (The library's type stub knows of strings only.)
    read: list[str] = lazy_pinyin(word, errors=list)  # type: ignore[arg-type]
    return tuple(None if is_han(syllable[0]) else syllable for syllable in read)


def syllables(folded: str) -> list[str | None]:
    """The toneless syllable (`lv` for 绿) of every character; None for what is not Chinese. Same length."""
    result: list[str | None] = [None] * len(folded)
    for run in _HAN_RUN.finditer(folded):
        # One syllable a character: tests/unit/rules/test_text.py holds the library's whole dictionary to it.
        result[run.start() : run.end()] = [syllable for word in seg.cut(run.group()) for syllable in _word(word)]
    if _OVERRIDDEN.search(folded):
        for pattern, syllable in _READINGS:
            for match in pattern.finditer(folded):
                result[match.start()] = syllable
    return result
