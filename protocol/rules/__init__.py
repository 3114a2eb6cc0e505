"""The quality-rule language: parsed, matched in text, and judged on a call while it goes on and after it.

`RuleSet` compiles rules; `CallEvaluator` follows one live call; `judge` gives QC's verdict on a recording.
"""

from protocol.rules.evaluator import CallEvaluator, Scope, Verdict
from protocol.rules.grammar import Expression, RuleSyntaxError, format_expression, parse
from protocol.rules.hearing import Evidence, SentenceId
from protocol.rules.judgement import CategoryHit, Judgement, RuleHit, SentenceJudgement, judge
from protocol.rules.matcher import Hit, Match, Rule, RuleSet, RuleSetError
from protocol.rules.standing import Pending, State

__all__ = [
    "CallEvaluator",
    "CategoryHit",
    "Evidence",
    "Expression",
    "Hit",
    "Judgement",
    "Match",
    "Pending",
    "Rule",
    "RuleHit",
    "RuleSet",
    "RuleSetError",
    "RuleSyntaxError",
    "Scope",
    "SentenceId",
    "SentenceJudgement",
    "State",
    "Verdict",
    "format_expression",
    "judge",
    "parse",
]
