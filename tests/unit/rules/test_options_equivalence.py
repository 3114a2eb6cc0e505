"""Rules with options, judged live or after the call, come to what a plain reading of the options comes to."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.rules import CallEvaluator, Options, Rule, RuleSet, Said, judge
from protocol.rules.grammar import And, Expression, Keyword, Not, Or, format_expression
from tests.unit.rules.naive_options import Line, true_with

WORDS = ("aa", "bb", "cc", "x")
KEYWORDS = ("aa", "bb", "cc", "aa bb", "agent:aa", "customer:bb")
END_MS = 60_000

words = st.sampled_from(KEYWORDS).map(lambda written: written.split(":")).map(
    lambda parts: Keyword(parts[-1], 0, parts[0] if len(parts) == 2 else "")
)  # fmt: skip
links = st.one_of(words, st.lists(words, min_size=2, max_size=2).map(lambda two: Or(tuple(two))))
chains = st.lists(links, min_size=2, max_size=3).map(lambda terms: And(tuple(terms)))
windows = st.sampled_from([{}, {}, {"first_s": 20.0}, {"last_s": 20.0}, {"first_s": 5.0}])
parties = st.sampled_from([{}, {}, {"role": "agent"}, {"role": "customer"}, {"channel": 1}])
counts = st.sampled_from([{}, {}, {"count": 2}, {"count": 3}])
distances = st.sampled_from(
    [{"order": True}, {"order": True, "within_ms": 4000}, {"within_ms": 2000}, {"within_words": 1},
     {"order": True, "within_words": 0}, {"within_ms": 9000, "within_words": 2}]
)  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> list[Line]:
    """Sentences in order of their end, two people speaking at times together."""
    made, free_ms = [], [0, 0]
    for _ in range(draw(st.integers(0, 5))):
        channel = draw(st.integers(0, 1))
        text = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6)))
        begin_ms = free_ms[channel] + draw(st.sampled_from([0, 500, 6000]))
        end_ms = free_ms[channel] = min(END_MS, begin_ms + draw(st.sampled_from([1000, 3000])))
        made.append(Line(text, Said(channel, ("agent", "customer")[channel], begin_ms, end_ms)))
    return sorted(made, key=lambda one: one.said.end_ms)


def _options(*parts: dict[str, object]) -> Options:
    return Options(**{name: value for part in parts for name, value in part.items()})  # type: ignore[arg-type]


def _compound(terms: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    several = st.lists(terms, min_size=2, max_size=3).map(tuple)
    return st.one_of(several.map(And), several.map(Or), terms.map(Not))


trees = st.recursive(words, _compound, max_leaves=5)
asked = st.one_of(
    st.tuples(trees, st.builds(_options, windows, parties, counts)),
    st.tuples(chains, st.builds(_options, windows, parties, counts, distances)),
)
rule_lists = st.lists(asked, min_size=1, max_size=4)


def _compiled(rules: list[tuple[Expression, Options]]) -> RuleSet:
    return RuleSet(Rule("c", format_expression(tree), 1, options=options) for tree, options in rules)


def _expected(ruleset: RuleSet, said: list[Line]) -> list[Rule]:
    return [
        one.rule
        for one in ruleset.compiled
        if one.conditions is not None and true_with(one.tree, one.conditions.options, said, END_MS)
    ]


def _judged(ruleset: RuleSet, said: list[Line]) -> list[Rule]:
    facts = [one.said for one in said]
    judgement = judge(ruleset, [one.text for one in said], said=facts, duration_ms=END_MS)
    return [hit.rule for category in judgement.recording for hit in category.rules]


@given(rule_lists, lines())
def test_the_judgement_is_that_of_a_plain_reading(rules: list[tuple[Expression, Options]], said: list[Line]) -> None:
    ruleset = _compiled(rules)
    assert _judged(ruleset, said) == _expected(ruleset, said)


@given(rule_lists, lines(), st.data())
def test_however_a_call_goes_its_end_is_the_judgement(
    rules: list[tuple[Expression, Options]], said: list[Line], data: st.DataObject
) -> None:
    ruleset = _compiled(rules)
    live = CallEvaluator(ruleset)
    final: set[tuple[object, ...]] = set()
    for number, line in enumerate(said):
        if data.draw(st.booleans()):
            live.partial(number, data.draw(st.sampled_from([line.text, "aa", "bb cc"])), line.said)
        for verdict in live.final(number, line.text, line.said):
            final |= {verdict.rule.identity} if verdict.state == "final" else set()
        # All that follows ends later, so what ended before this began has its text.
        later = min((one.said.begin_ms for one in said[number + 1 :]), default=END_MS)
        for verdict in live.settled(min(later, line.said.end_ms)):
            final |= {verdict.rule.identity} if verdict.state == "final" else set()
    live.close(END_MS)
    stands = [verdict.rule for verdict in live.verdicts()]
    assert stands == _expected(ruleset, said)
    assert final <= {rule.identity for rule in stands}, "what was final during the call stays"


@given(st.lists(trees, min_size=1, max_size=4), lines())
def test_options_that_ask_nothing_change_nothing(rules: list[Expression], said: list[Line]) -> None:
    written = [format_expression(tree) for tree in rules if ":" not in format_expression(tree)]
    plain = RuleSet(Rule("c", one, 1) for one in written)
    optional = RuleSet(Rule("c", one, 1, options=Options()) for one in written)
    assert [one.expression for one in _judged(plain, said)] == [one.expression for one in _judged(optional, said)]
