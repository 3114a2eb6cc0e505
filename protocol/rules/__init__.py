"""The quality-rule language: parsed, matched in text, and judged on a call while it goes on and after it.

`RuleSet` compiles rules; `CallEvaluator` follows one live call; `judge` gives QC's verdict on a recording.
"""

from protocol.rules.book import AnyContent, BookError, Category, Content
from protocol.rules.circumstances import Said, SentenceId
from protocol.rules.evaluator import CallEvaluator, Scope
from protocol.rules.grammar import Expression, RuleSyntaxError, format_expression, parse
from protocol.rules.hearing import Evidence
from protocol.rules.judgement import CategoryHit, Judgement, RuleHit, SentenceJudgement, judge
from protocol.rules.matcher import Hit, Match, Rule, RuleSet, RuleSetError
from protocol.rules.options import Options
from protocol.rules.record import Verdict
from protocol.rules.standing import Pending, State

__all__ = [
    "AnyContent",
    "BookError",
    "CallEvaluator",
    "Category",
    "CategoryHit",
    "Content",
    "Evidence",
    "Expression",
    "Hit",
    "Judgement",
    "Match",
    "Options",
    "Pending",
    "Rule",
    "RuleHit",
    "RuleSet",
    "RuleSetError",
    "RuleSyntaxError",
    "Said",
    "Scope",
    "SentenceId",
    "SentenceJudgement",
    "State",
    "Verdict",
    "format_expression",
    "judge",
    "parse",
]
