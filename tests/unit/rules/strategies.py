"""Expressions and sentences that hypothesis draws: few words, so that they meet often."""

from hypothesis import strategies as st

from protocol.rules.grammar import And, Expression, Keyword, Not, Or

# Words inside one another, in two scripts, with spaces, homophones (时间 and 实践) and traditional forms.
KEYWORDS = (
    "贷款",
    "款",
    "贷 款",
    "時間",
    "实践",
    "pay",
    "Pay now",
    "now",
    "app贷款",
    "AT&T",
    "3个月",
    "i'll",
    "x-now",
    "1,3",
)
FRAGMENTS = (
    *KEYWORDS,
    "时间",
    "貸",
    "大",
    "个",
    "Ｐａｙ",
    "payday",
    "I’ll",
    "13",
    " ",
    "  ",
    "，",
    ".",
    "x",
    "使",
    ", ",
    " - ",
    "now-",
    "3",
)

keywords = st.sampled_from(KEYWORDS)
sentences = st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)


def _compound(terms: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(terms, min_size=2, max_size=3).map(tuple)
    return st.one_of(several.map(And), several.map(Or), terms.map(Not))


def expressions(words: st.SearchStrategy[str] = keywords) -> st.SearchStrategy[Expression]:
    atoms: st.SearchStrategy[Expression] = words.map(lambda word: Keyword(word, 0))
    return st.recursive(atoms, _compound, max_leaves=6)
