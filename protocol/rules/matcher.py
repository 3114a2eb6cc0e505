"""Many rules compiled into one automaton, so that a sentence costs time for the rules it touches only."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import msgspec
from ahocorasick_rs import AhoCorasick

from protocol.rules.grammar import And, Expression, Keyword, Not, Or, RuleSyntaxError, format_expression, parse
from protocol.rules.kleene import evaluate, ways
from protocol.rules.measures import Measure
from protocol.rules.options import Conditions, Options, conditions
from protocol.rules.pinyin import syllables
from protocol.rules.text import Folded, fold, fold_keyword, is_han, on_boundaries

Match: TypeAlias = Literal["exact", "pinyin"]

# Syllables are written as one private-use character each, so that a match in pinyin is aligned on characters.
# What can't be part of such a match is written as the last of them.
_FIRST_SYLLABLE = "\U000f0000"
_FOREIGN = "\U0010ffff"


MAX_TERMS = 16


class Rule(msgspec.Struct, frozen=True):
    """One expression of a category. `pinyin` lets it match on toneless pinyin where exact is the default (QC).

    `options`: what it asks beyond the vendor's language; None: it is the vendor's, to the letter. `shadow`: it is
    judged and counted, and alerts nobody.
    """

    category: str
    expression: str
    version: int
    rule_id: str = ""
    pinyin: bool = False
    options: Options | None = None
    shadow: bool = False

    @property
    def identity(self) -> "RuleIdentity":
        """What makes it the same rule in another version of the rules."""
        return self.category, self.expression, self.options, self.pinyin, self.shadow


RuleIdentity: TypeAlias = tuple[str, str, Options | None, bool, bool]


class Hit(msgspec.Struct, frozen=True):
    """A keyword found at `sentence[begin:end]`, of the sentence as it was given."""

    keyword_id: int
    keyword: str
    begin: int
    end: int
    match: Match


class RuleSetError(ValueError):
    """A wrong expression, by its category and its index among the category's; `fault` has position and caret."""

    def __init__(self, category: str, index: int, fault: RuleSyntaxError) -> None:
        self.category = category
        self.index = index
        self.fault = fault
        super().__init__(f'category "{category}", expression {index}: {fault}')


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with its tree; an occurrence of a keyword is named by its position in the expression."""

    index: int
    rule: Rule
    tree: Expression
    keyword_ids: dict[int, int]  # position of the occurrence -> keyword id
    forbidden: frozenset[int]  # positions under an odd number of negations
    positive: dict[int, str]  # keyword id -> spelling in this rule, of the occurrences that are not forbidden
    true_in_silence: bool  # whether it is true when nothing at all was said
    conditions: Conditions | None  # None: the vendor's language
    literals: tuple[tuple[int, int, bool], ...]  # of each occurrence: position, keyword id, forbidden
    terms: tuple[int, ...] | None  # sets of literals (bits) each of which makes it true; None: too many to list
    all_or_nothing: str  # how a rule without `||` is written when it is true; empty: any other rule


class RuleSet:
    """Rules ready to be matched; immutable, and shared by all calls.

    `pinyin` also compiles every keyword of two or more Chinese characters for matching by sound; without it
    only those of rules with `pinyin` set are. An expression repeated in its category counts once.
    Raises RuleSetError for an expression that doesn't parse.
    """

    def __init__(self, rules: Iterable[Rule], *, pinyin: bool = False) -> None:
        self.compiled: list[CompiledRule] = []
        self.keywords: list[str] = []
        self.rules_of: list[list[int]] = []  # keyword id -> indices of the rules that hold it
        self.measures: dict[int, Measure] = {}  # keyword id -> what is measured instead of read
        self._folded: list[str] = []
        self._by_sound: set[int] = set()
        self._ids: dict[str | Measure, int] = {}
        seen: set[RuleIdentity] = set()
        in_category: dict[str, int] = {}
        for rule in rules:
            index = in_category.get(rule.category, 0)
            in_category[rule.category] = index + 1
            try:
                tree = parse(rule.expression, extended=rule.options is not None)
                asked = None if rule.options is None else conditions(rule.expression, tree, rule.options)
            except RuleSyntaxError as fault:
                raise RuleSetError(rule.category, index, fault) from fault
            if rule.identity not in seen:
                seen.add(rule.identity)
                self._compile(rule, tree, asked, by_sound=pinyin or rule.pinyin)
        self.categories = tuple(in_category)
        self.matches_pinyin = pinyin
        self.version = max((c.rule.version for c in self.compiled), default=0)
        self.has_pinyin_rules = any(c.rule.pinyin for c in self.compiled)
        self.silent = tuple(c.index for c in self.compiled if c.true_in_silence)
        options_of = {c.index: c.conditions.options for c in self.compiled if c.conditions is not None}
        self.early = tuple(index for index, options in options_of.items() if options.first_s is not None)
        self.late = frozenset(index for index, options in options_of.items() if options.last_s is not None)
        self.personal = frozenset(index for index, options in options_of.items() if options.speaker)
        self._words = [keyword_id for keyword_id in range(len(self.keywords)) if keyword_id not in self.measures]
        self._automaton = AhoCorasick([self._folded[keyword_id] for keyword_id in self._words])
        self._build_sound_automaton()

    @classmethod
    def from_categories(
        cls, categories: Mapping[str, Sequence[str]], version: int, *, pinyin: bool = False
    ) -> "RuleSet":
        """Compile categories as the QC API's rule list holds them; raises RuleSetError."""
        rules = (
            Rule(category, expression, version)
            for category, expressions in categories.items()
            for expression in expressions
        )
        return cls(rules, pinyin=pinyin)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in the order given, without repetitions."""
        return tuple(compiled.rule for compiled in self.compiled)

    @cached_property
    def digest(self) -> str:
        """Names these rules, their version included: equal for equal rules on every machine."""
        return hashlib.sha256(msgspec.json.encode(self.rules)).hexdigest()[:32]

    def find(self, sentence: str, *, pinyin: bool = False) -> list[Hit]:
        """Every occurrence of every keyword in one sentence, by begin, end and keyword.

        With `pinyin` also those that only sound like it, for the keywords compiled for it. Where the exact
        keyword stands, it isn't reported by sound too.
        """
        folded = fold(sentence)
        hits = [
            self._hit(self._words[pattern], folded, begin, end, "exact")
            for pattern, begin, end in self._automaton.find_matches_as_indexes(folded.text, overlapping=True)
            if on_boundaries(folded.text, begin, end)
        ]
        if pinyin and self._sound_ids:
            found = {(hit.keyword_id, hit.begin) for hit in hits}
            heard = (hit for hit in self._sounding_alike(folded) if (hit.keyword_id, hit.begin) not in found)
            hits.extend(heard)
        hits.sort(key=lambda hit: (hit.begin, hit.end, hit.keyword_id))
        return hits

    def _compile(self, rule: Rule, tree: Expression, asked: Conditions | None, *, by_sound: bool) -> None:
        keyword_ids: dict[int, int] = {}
        forbidden: set[int] = set()
        positive: dict[int, str] = {}
        index = len(self.compiled)
        for keyword, negated in _occurrences(tree, negated=False):
            keyword_id = keyword_ids[keyword.position] = self._keyword_id(keyword)
            if negated:
                forbidden.add(keyword.position)
            else:
                positive.setdefault(keyword_id, keyword.text)
            if by_sound and keyword.measure is None:
                self._by_sound.add(keyword_id)
            if not self.rules_of[keyword_id] or self.rules_of[keyword_id][-1] != index:
                self.rules_of[keyword_id].append(index)
        # With a count or an order something must be said, whatever the expression.
        needs_words = asked is not None and (asked.options.count > 1 or bool(asked.chain))
        silent = not needs_words and evaluate(tree, lambda _: False) is True
        numbers = {position: number for number, position in enumerate(keyword_ids)}
        terms = ways(tree, lambda keyword: numbers[keyword.position], most=MAX_TERMS)
        compiled = CompiledRule(
            index,
            rule,
            tree,
            keyword_ids,
            frozenset(forbidden),
            positive,
            silent,
            asked,
            tuple((position, keyword_id, position in forbidden) for position, keyword_id in keyword_ids.items()),
            None if terms is None else tuple(terms),
            format_expression(tree) if _all_or_nothing(tree) else "",
        )
        self.compiled.append(compiled)

    def _keyword_id(self, keyword: Keyword) -> int:
        folded = fold_keyword(keyword.text)
        keyword_id = self._ids.setdefault(keyword.measure or folded, len(self._ids))
        if keyword_id == len(self.keywords):
            self.keywords.append(keyword.text)
            self._folded.append(folded)
            self.rules_of.append([])
            if keyword.measure is not None:
                self.measures[keyword_id] = keyword.measure
        return keyword_id

    def _build_sound_automaton(self) -> None:
        self._codes: dict[str, str] = {}
        self._sound_ids: list[int] = []
        patterns: list[str] = []
        for keyword_id in sorted(self._by_sound):
            folded = self._folded[keyword_id]
            if sum(map(is_han, folded)) < 2 or max(folded) >= _FIRST_SYLLABLE:
                continue
            read = syllables(folded)
            for syllable in filter(None, read):
                self._codes.setdefault(syllable, chr(ord(_FIRST_SYLLABLE) + len(self._codes)))
            self._sound_ids.append(keyword_id)
            patterns.append(self._written_by_sound(folded, read))
        self._sound_automaton = AhoCorasick(patterns)

    def _written_by_sound(self, folded: str, read: Sequence[str | None]) -> str:
        """One character for every character of `folded`: the code of its syllable, or itself."""
        codes = self._codes
        return "".join(
            (char if char < _FIRST_SYLLABLE else _FOREIGN) if syllable is None else codes.get(syllable, _FOREIGN)
            for char, syllable in zip(folded, read, strict=True)
        )

    def _sounding_alike(self, folded: Folded) -> Iterator[Hit]:
        haystack = self._written_by_sound(folded.text, syllables(folded.text))
        for pattern, begin, end in self._sound_automaton.find_matches_as_indexes(haystack, overlapping=True):
            if on_boundaries(folded.text, begin, end):
                yield self._hit(self._sound_ids[pattern], folded, begin, end, "pinyin")

    def _hit(self, keyword_id: int, folded: Folded, begin: int, end: int, match: Match) -> Hit:
        return Hit(keyword_id, self.keywords[keyword_id], *folded.span(begin, end), match)


def _all_or_nothing(tree: Expression) -> bool:
    terms = tree.terms if isinstance(tree, And) else (tree,)
    return all(isinstance(term, Keyword | Not) or (isinstance(term, And) and _all_or_nothing(term)) for term in terms)


def _occurrences(tree: Expression, *, negated: bool) -> Iterator[tuple[Keyword, bool]]:
    match tree:
        case Keyword():
            yield tree, negated
        case Not(term):
            yield from _occurrences(term, negated=not negated)
        case And(terms) | Or(terms):
            for term in terms:
                yield from _occurrences(term, negated=negated)
