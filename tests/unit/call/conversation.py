"""A ledger to talk to, and short ways to say what it answered."""

from collections.abc import Mapping, Sequence

from gateway.call.alerts import AlertLedger
from gateway.call.events import HeardWord
from gateway.call.text import Text
from protocol.messages import Alert, AlertUpdate, Evidence
from protocol.rules import AnyContent
from protocol.rules.book import compiled
from protocol.rules.matcher import RuleSet

Said = list[Alert | AlertUpdate]
ROLES = ("agent", "customer")


def rules_named(categories: Mapping[str, Sequence[AnyContent]], version: int = 7) -> RuleSet:
    return compiled(categories.items(), version, pinyin=True)


class Conversation:
    """A ledger with rules of category `c` (or as given), and short words for what is heard."""

    def __init__(
        self, *rules: AnyContent, scope: str = "recording", pinyin: bool = False, **more: list[AnyContent]
    ) -> None:
        ruleset = rules_named({"c": rules, **more})
        self.ledger = AlertLedger(ruleset, (), scope, pinyin=pinyin)  # type: ignore[arg-type]

    def partial(self, text: str, segment_id: str = "s1", channel: int = 0, begin_ms: int = 0) -> Said:
        return self.ledger.partial(segment_id, channel, spoken(text, begin_ms), text, role=ROLES[channel])

    def final(self, text: str, segment_id: str = "s1", channel: int = 0, begin_ms: int = 0) -> Said:
        return self.ledger.final(segment_id, channel, spoken(text, begin_ms), role=ROLES[channel])


def spoken(text: str, begin_ms: int = 0) -> Text:
    """Words of 100 ms each."""
    words = tuple(
        HeardWord((" " if at else "") + word, begin_ms + 100 * at, begin_ms + 100 * at + 100)
        for at, word in enumerate(text.split())
    )
    return Text(text, "en", words, begin_ms, begin_ms + 100 * len(words))


def raised(said: Said) -> Alert:
    (alert,) = said
    assert isinstance(alert, Alert)
    return alert


def updated(said: Said) -> AlertUpdate:
    (update,) = said
    assert isinstance(update, AlertUpdate)
    return update


def where(evidence: list[Evidence]) -> list[tuple[str, int, str, int, int]]:
    return [(one.segment_id, one.channel, one.text[one.begin : one.end], one.begin_ms, one.end_ms) for one in evidence]
