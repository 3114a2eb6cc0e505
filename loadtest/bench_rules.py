"""What a sentence costs with many rules: `python -m loadtest.bench_rules`.

Prints the time of a sentence in a running call, for 1,000 and 10,000 rules, beside the naive way (every rule's tree
evaluated over a sentence folded once, with substring search): the ratio holds on any machine, the microseconds on this
one. The two are measured in turn, several times over, and the median of the quickest rounds counts, so that a busy
machine disturbs neither more than the other. Then the same after ever more of a call, where words come back again
and again: `late / early` near 1 is flat.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence

from protocol.rules import CallEvaluator, RuleSet
from protocol.rules.grammar import Expression, Keyword, parse
from protocol.rules.kleene import evaluate
from protocol.rules.text import fold

RULE_COUNTS = (1_000, 10_000)
SENTENCES = 200
NAIVE_SENTENCES = 10
ROUNDS = 9
LONG_CALL_SENTENCES = 4_000
LONG_CALL_WORDS = 50
SENTENCE_CHARS = 86

_TALK = (
    "您好请问是本人吗我们是信用中心的客服您的账单已经出来了今天给您来电是想确认一下最近的消费情况如果方便的话"
    "麻烦您核对一下姓名和身份证后四位稍后会有短信通知到您的手机感谢您的理解与支持祝您生活愉快再见"
)
_SHAPES = ("{}", "{}||{}", "{}&&{}", "!{}", "{}&&!{}", "({}||{})&&({}||{})")


def _word(dice: random.Random) -> str:
    """A made-up word of two to four characters out of the common 3,500 or so."""
    return "".join(chr(dice.randrange(0x4E00, 0x4E00 + 3500)) for _ in range(dice.randint(2, 4)))


def expressions(count: int, words: Sequence[str], dice: random.Random) -> list[str]:
    """`count` rules of the shapes in use, keywords drawn from `words`."""
    return [
        shape.format(*dice.choices(words, k=shape.count("{}")))
        for shape in (dice.choice(_SHAPES) for _ in range(count))
    ]


def sentences(count: int, words: Sequence[str], dice: random.Random) -> list[str]:
    """`count` sentences of SENTENCE_CHARS characters of talk, each with two keywords in it."""
    made = []
    for _ in range(count):
        begin = dice.randrange(len(_TALK))
        talk = (_TALK[begin:] + _TALK)[: SENTENCE_CHARS - 6]
        cut = dice.randrange(len(talk))
        made.append(talk[:cut] + "".join(dice.choices(words, k=2)) + talk[cut:])
    return made


def _median_us(work: Callable[[str], object], texts: Sequence[str]) -> float:
    times_ns = []
    for text in texts:
        begin_ns = time.perf_counter_ns()
        work(text)
        times_ns.append(time.perf_counter_ns() - begin_ns)
    return statistics.median(times_ns) / 1000


def _quiet_us(rounds: Sequence[float]) -> float:
    """The median of the quicker third: what it costs when nobody disturbs."""
    return statistics.median(sorted(rounds)[: max(1, len(rounds) // 3)])


def naive(trees: Sequence[Expression]) -> Callable[[str], int]:
    """Judge a sentence by evaluating every tree; the yardstick."""
    folded_keywords: dict[str, str] = {}

    def hits(sentence: str) -> int:
        text = fold(sentence).text

        def said(keyword: Keyword) -> bool:
            word = folded_keywords.get(keyword.text)
            if word is None:
                word = folded_keywords[keyword.text] = fold(keyword.text).text
            return word in text

        return sum(evaluate(tree, said) is True for tree in trees)

    return hits


def _in_call(ruleset: RuleSet, *, pinyin: bool) -> Callable[[str], object]:
    evaluator = CallEvaluator(ruleset, pinyin=pinyin)
    numbers = iter(range(1 << 30))
    return lambda sentence: evaluator.final(next(numbers), sentence)


def _late_to_early(ruleset: RuleSet, words: Sequence[str], dice: random.Random) -> tuple[float, float]:
    """The time of a sentence in the first and in the last tenth of a long call that repeats a few words."""
    texts = sentences(LONG_CALL_SENTENCES, words[:LONG_CALL_WORDS], dice)
    tenth = LONG_CALL_SENTENCES // 10
    work = _in_call(ruleset, pinyin=False)
    early_us = _median_us(work, texts[:tenth])
    for text in texts[tenth:-tenth]:
        work(text)
    return early_us, _median_us(work, texts[-tenth:])


def main() -> None:
    """Print the tables."""
    dice = random.Random(20240220)
    words = [_word(dice) for _ in range(max(RULE_COUNTS))]
    print(f"median us a sentence of {SENTENCE_CHARS} characters, {SENTENCES} sentences in one call")
    print(f"{'rules':>7} {'compile ms':>11} {'exact':>8} {'pinyin':>8} {'naive':>9} {'naive / exact':>14}")
    for count in RULE_COUNTS:
        made = expressions(count, words[:count], dice)
        texts = sentences(SENTENCES, words[:count], dice)
        begin_s = time.perf_counter()
        ruleset = RuleSet.from_categories({"bench": made}, 1, pinyin=True)
        compile_ms = (time.perf_counter() - begin_s) * 1000
        _in_call(ruleset, pinyin=True)(_TALK)  # fills the caches of words and characters
        plain = naive([parse(expression) for expression in made])
        rounds = [
            (
                _median_us(_in_call(ruleset, pinyin=False), texts),
                _median_us(_in_call(ruleset, pinyin=True), texts),
                _median_us(plain, texts[:NAIVE_SENTENCES]),
            )
            for _ in range(ROUNDS)
        ]
        exact_us, pinyin_us, naive_us = (_quiet_us(times) for times in zip(*rounds, strict=True))
        ratio = naive_us / exact_us
        print(f"{count:>7} {compile_ms:>11.0f} {exact_us:>8.1f} {pinyin_us:>8.1f} {naive_us:>9.0f} {ratio:>14.0f}")
    early_us, late_us = _late_to_early(ruleset, words, dice)
    print(f"\na call of {LONG_CALL_SENTENCES} sentences over {LONG_CALL_WORDS} words, us a sentence")
    print(f"{'first tenth':>12} {'last tenth':>11} {'late / early':>13}")
    print(f"{early_us:>12.1f} {late_us:>11.1f} {late_us / early_us:>13.2f}")


if __name__ == "__main__":
    main()
