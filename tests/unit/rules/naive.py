"""An independent reading of the rules' specification, as plain as can be: the yardstick for the fast one."""

import unicodedata
from collections.abc import Callable, Sequence

import opencc
from pypinyin import lazy_pinyin

from protocol.rules.grammar import And, Expression, Keyword, Not, Or

_TO_SIMPLIFIED = opencc.OpenCC("t2s")


def is_chinese(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"


def normalised(text: str) -> str:
    """The specification of folding, for letters, digits, Chinese, punctuation and white space."""
    text = text.replace("’", "'").replace("‘", "'")
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(_TO_SIMPLIFIED.convert(char) for char in text)
    text = " ".join(text.split())
    text = "".join(
        char
        for index, char in enumerate(text)
        if char != " " or not (is_chinese(text[index - 1]) or is_chinese(text[index + 1]))
    )
    return _loose_punctuation_as_space(text)


LOOSE = ',;:-\u2010\u2011\u2012\u2013\u2014\u2015"\u201c\u201d\u201e\u201f\u00ab\u00bb()[]'


def _loose_punctuation_as_space(text: str) -> str:
    """Between two Latin words, a run of loose punctuation is one space; but within a number it stays."""
    result, index = "", 0
    while index < len(text):
        end = index
        while end < len(text) and text[end] in LOOSE + " ":
            end += 1
        run = text[index:end]
        joins = (
            run.strip(" ") != ""
            and result != ""
            and end < len(text)
            and _is_latin(result[-1])
            and _is_latin(text[end])
            and not (" " not in run and result[-1].isdigit() and text[end].isdigit())
        )
        result += " " if joins else run or text[index]
        index = max(end, index + 1)
    return result


def normalised_keyword(keyword: str) -> str:
    """A keyword loses loose punctuation at an end where a Latin word stands."""
    word = normalised(keyword)
    if _is_latin((stripped := word.lstrip(LOOSE + " ") or " ")[0]):
        word = stripped
    if _is_latin((stripped := word.rstrip(LOOSE + " ") or " ")[-1]):
        word = stripped
    return word


def _is_latin(char: str) -> bool:
    return (char.isalnum() or char == "_") and not is_chinese(char)


def contains(sentence: str, keyword: str) -> bool:
    text, word = normalised(sentence), normalised_keyword(keyword)
    for begin in range(len(text) - len(word) + 1):
        end = begin + len(word)
        cut_before = begin > 0 and _is_latin(text[begin - 1]) and _is_latin(text[begin])
        cut_after = end < len(text) and _is_latin(text[end - 1]) and _is_latin(text[end])
        if text[begin:end] == word and not cut_before and not cut_after:
            return True
    return False


def sounds_in(sentence: str, keyword: str) -> bool:
    """Chinese keywords of two characters or more; for words whose reading depends on no context."""
    text, word = normalised(sentence), normalised_keyword(keyword)
    if not all(map(is_chinese, word)) or len(word) < 2:
        return False
    wanted = [lazy_pinyin(char)[0] for char in word]
    for begin in range(len(text) - len(word) + 1):
        part = text[begin : begin + len(word)]
        if all(map(is_chinese, part)) and [lazy_pinyin(char)[0] for char in part] == wanted:
            return True
    return False


def holds(tree: Expression, said: Callable[[str], bool]) -> bool:
    match tree:
        case Keyword(text):
            return said(text)
        case Not(term):
            return not holds(term, said)
        case And(terms):
            return all(holds(term, said) for term in terms)
        case Or(terms):
            return any(holds(term, said) for term in terms)


def true_for(tree: Expression, sentences: Sequence[str], *, pinyin: bool = False) -> bool:
    def said(keyword: str) -> bool:
        return any(contains(sentence, keyword) or (pinyin and sounds_in(sentence, keyword)) for sentence in sentences)

    return holds(tree, said)


def positive_keywords(tree: Expression, *, negated: bool = False) -> list[str]:
    match tree:
        case Keyword(text):
            return [] if negated else [text]
        case Not(term):
            return positive_keywords(term, negated=not negated)
        case And(terms) | Or(terms):
            return [word for term in terms for word in positive_keywords(term, negated=negated)]
