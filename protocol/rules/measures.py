"""What rules with options can ask of the sound of a call: silence, two people at once, and how fast one speaks."""

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeAlias

SoundKind: TypeAlias = Literal["silence", "talkover", "rate"]
Relation: TypeAlias = Literal["<", ">"]

NAMED = re.compile(r"(silence|talkover|rate)\s*([<>\uff1c\uff1e])[=\uff1d]?", re.IGNORECASE)
EXAMPLES: dict[SoundKind, str] = {
    "silence": '">" and seconds, as in silence>10s',
    "talkover": '">" and seconds, as in talkover>2s',
    "rate": '">" or "<" and words (or Chinese characters) a minute, as in rate>300',
}
MOST = 86_400.0
RATED_MS = 3000
"""A sentence shorter than this says nothing about how fast somebody speaks."""

_AMOUNT = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*(ms|s|)\s*")


@dataclass(frozen=True, slots=True)
class Measure:
    """`silence` and `talkover`: at least `amount` s. `rate`: at least, or with "<" at most, `amount` a minute."""

    kind: SoundKind
    relation: Relation
    amount: float

    def __str__(self) -> str:
        amount = f"{self.amount:.3f}".rstrip("0").rstrip(".")
        return f"{self.kind}{self.relation}{amount}" + ("" if self.kind == "rate" else "s")

    @property
    def least_ms(self) -> int:
        """Of silence or talk-over: how long, in ms."""
        return math.ceil(self.amount * 1000)

    def holds_for(self, words: int, duration_ms: int) -> bool:
        """Of a rate: whether so many words in so many ms are so fast, or so slow."""
        if duration_ms < RATED_MS or not words:
            return False
        per_minute = words * 60_000 / duration_ms
        return per_minute >= self.amount if self.relation == ">" else per_minute <= self.amount


def measured(kind: SoundKind, relation: str, amount: str) -> Measure | None:
    """The measure written so; None when it is not written right. Amounts are positive and at most a day."""
    relation = unicodedata.normalize("NFKC", relation)
    found = _AMOUNT.fullmatch(unicodedata.normalize("NFKC", amount))
    if found is None or (relation == "<" and kind != "rate") or (kind == "rate") == (found[2] != ""):
        return None
    value = float(found[1]) / (1000 if found[2] == "ms" else 1)
    return Measure(kind, "<" if relation == "<" else ">", value) if 0 < value <= MOST else None
