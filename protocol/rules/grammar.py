"""The rule language: `A`, `A||B`, `A&&B`, `!B`, `A&&!B` and parentheses, as the voice QC API documents it.

`!` binds tightest, then `&&`, then `||`. A keyword is any run of other characters, trimmed; it may hold
spaces. Full-width operators and parentheses mean the same as ASCII ones. One `&` between Latin letters or
digits belongs to the keyword (`AT&T`); every other lone `&` or `|` is taken for half an operator and refused.

A rule with options (`extended`) knows two more things, which mean nothing to the vendor: `customer:refund` is the
keyword said by that role only, and `silence>10s`, `talkover>2s`, `rate>300`, `rate<80` are heard, not read.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TypeAlias

from protocol.rules.measures import EXAMPLES, NAMED, Measure, SoundKind, measured
from protocol.rules.text import ZERO_WIDTH

MAX_LENGTH_CHARS = 4096
MAX_DEPTH = 64
MAX_KEYWORDS = 1000

_CARET_CONTEXT_CHARS = 30


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword as written, trimmed, and the index of its first character; equal whatever the position.

    Only in a rule with options: `role` is who must say it (empty: anyone); with a `measure` it is no word at all.
    """

    text: str
    position: int = field(compare=False)
    role: str = ""
    measure: Measure | None = None


@dataclass(frozen=True, slots=True)
class Not:
    """True when its term is not."""

    term: "Expression"


@dataclass(frozen=True, slots=True)
class And:
    """True when all of its terms, two or more, are."""

    terms: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """True when any of its terms, two or more, is."""

    terms: "tuple[Expression, ...]"


Expression: TypeAlias = Keyword | Not | And | Or


class RuleSyntaxError(ValueError):
    """An expression that is not in the rule language: `position` is the index where `expected` should stand."""

    def __init__(self, expression: str, position: int, expected: str) -> None:
        self.expression = expression
        self.position = position
        self.expected = expected
        found = f'"{expression[position]}"' if position < len(expression) else "the end"
        super().__init__(f"at index {position}: expected {expected}, found {found}")

    def caret(self) -> str:
        """Two lines: the expression (an excerpt of a long one) and a caret under the fault."""
        begin = max(0, self.position - _CARET_CONTEXT_CHARS)
        end = self.position + _CARET_CONTEXT_CHARS
        before = ("…" if begin else "") + "".join(map(_printable, self.expression[begin : self.position]))
        after = "".join(map(_printable, self.expression[self.position : end]))
        more = "…" if end < len(self.expression) else ""
        return f"{before}{after}{more}\n{' ' * sum(map(_columns, before))}^"


def _printable(char: str) -> str:
    return char if char.isprintable() else " "


def _columns(char: str) -> int:
    """How many columns a terminal gives to `char`: CJK and full-width take two, combining marks none."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


_FULL_WIDTH = str.maketrans("（）！＆｜", "()!&|")
_LATIN_PAIR = re.compile(r"[0-9A-Za-z\u00c0-\u024f]&[0-9A-Za-z\u00c0-\u024f]")
_ROLE = re.compile(r"([^\W\d][\w-]*)\s*[:\uff1a]\s*")
_BLANK = re.compile(rf"[\s{ZERO_WIDTH}]*")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # one of ( ) ! && || keyword end
    position: int
    text: str = ""


def _tokens(expression: str) -> list[_Token]:
    """Split into tokens, the last of kind `end`; raises RuleSyntaxError."""
    ascii_form = expression.translate(_FULL_WIDTH)
    tokens: list[_Token] = []
    index = keywords = 0
    while (index := _skip_blanks(ascii_form, index)) < len(expression):
        char = ascii_form[index]
        if char in "()!":
            tokens.append(_Token(char, index))
            index += 1
        elif char in "&|":
            if not ascii_form.startswith(char * 2, index):
                raise RuleSyntaxError(expression, index, f'"{char * 2}" (one alone means nothing)')
            tokens.append(_Token(char * 2, index))
            index += 2
        else:
            keywords += 1
            if keywords > MAX_KEYWORDS:
                raise RuleSyntaxError(expression, index, f"no more than {MAX_KEYWORDS} keywords")
            end = _keyword_end(ascii_form, index)
            tokens.append(_Token("keyword", index, _trim_end(expression[index:end])))
            index = end
    return [*tokens, _Token("end", len(expression))]


def _skip_blanks(text: str, index: int) -> int:
    blank = _BLANK.match(text, index)
    return blank.end() if blank else index


def _trim_end(keyword: str) -> str:
    end = len(keyword)
    while end and (keyword[end - 1].isspace() or keyword[end - 1] in ZERO_WIDTH):
        end -= 1
    return keyword[:end]


def _keyword_end(ascii_form: str, index: int) -> int:
    while index < len(ascii_form):
        char = ascii_form[index]
        if char in "()!|" or (char == "&" and not _LATIN_PAIR.match(ascii_form, index - 1)):
            break
        index += 1
    return index


class _Parser:
    """Recursive descent over the tokens; depth is bounded, so Python's stack is safe."""

    def __init__(self, expression: str, *, extended: bool) -> None:
        self.expression = expression
        self.extended = extended
        self.tokens = _tokens(expression)
        self.next = 0
        self.depth = 0

    def fault(self, expected: str) -> RuleSyntaxError:
        return RuleSyntaxError(self.expression, self.tokens[self.next].position, expected)

    def take(self, kind: str) -> bool:
        if self.tokens[self.next].kind != kind:
            return False
        self.next += 1
        return True

    def whole(self) -> Expression:
        tree = self.alternatives()
        if self.tokens[self.next].kind != "end":
            raise self.fault('"&&", "||" or the end')
        return tree

    def alternatives(self) -> Expression:
        terms = [self.conjunction()]
        while self.take("||"):
            terms.append(self.conjunction())
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def conjunction(self) -> Expression:
        terms = [self.term()]
        while self.take("&&"):
            terms.append(self.term())
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def term(self) -> Expression:
        token = self.tokens[self.next]
        if self.take("keyword"):
            return self.atom(token) if self.extended else Keyword(token.text, token.position)
        if token.kind not in "!(":
            raise self.fault('a keyword, "!" or "("')
        if self.depth == MAX_DEPTH:
            raise self.fault(f"no more than {MAX_DEPTH} levels of nesting")
        self.next += 1
        self.depth += 1
        tree = Not(self.term()) if token.kind == "!" else self.parenthesised(token)
        self.depth -= 1
        return tree

    def atom(self, token: _Token) -> Keyword:
        """What a keyword of a rule with options is: a word, perhaps of one role, or something measured."""
        prefix = _ROLE.match(token.text)
        role, begin = (prefix[1], prefix.end()) if prefix else ("", 0)
        rest = token.text[begin:]
        position = token.position + begin
        if not rest:
            raise RuleSyntaxError(self.expression, position, f'a keyword after "{token.text}"')
        named = NAMED.match(rest)
        if named is None:
            return Keyword(rest, token.position, role)
        kind: SoundKind = named[1].lower()  # type: ignore[assignment] # the pattern knows the kinds only
        if role and kind != "rate":
            raise RuleSyntaxError(self.expression, token.position, f'"{kind}" without a role: it is nobody\'s')
        measure = measured(kind, named[2], rest[named.end() :])
        if measure is None:
            raise RuleSyntaxError(self.expression, position + named.start(2), EXAMPLES[kind])
        return Keyword(str(measure), token.position, role, measure)

    def parenthesised(self, opening: _Token) -> Expression:
        tree = self.alternatives()
        if not self.take(")"):
            raise self.fault(f'"&&", "||" or the ")" to the "(" at index {opening.position}')
        return tree


def parse(expression: str, *, extended: bool = False) -> Expression:
    """Parse a rule's expression; raises RuleSyntaxError, also for one too long, too deep or of too many keywords.

    `extended`: the rule has options, so roles and measures mean what they say; else they are plain keywords.
    """
    if len(expression) > MAX_LENGTH_CHARS:
        raise RuleSyntaxError(expression, MAX_LENGTH_CHARS, f"no more than {MAX_LENGTH_CHARS} characters")
    return _Parser(expression, extended=extended).whole()


def format_expression(expression: Expression) -> str:
    """Write an expression in the vendor's notation with no more parentheses than its shape needs.

    `parse(format_expression(e)) == e` for every `e` that `parse` made.
    """
    match expression:
        case Keyword(text, role=role):
            return f"{role}:{text}" if role else text
        case Not(term):
            return "!" + _grouped(term, (And, Or))
        case And(terms):
            return "&&".join(_grouped(term, (And, Or)) for term in terms)
        case Or(terms):
            return "||".join(_grouped(term, (Or,)) for term in terms)


def _grouped(term: Expression, loose: tuple[type, ...]) -> str:
    written = format_expression(term)
    return f"({written})" if isinstance(term, loose) else written
