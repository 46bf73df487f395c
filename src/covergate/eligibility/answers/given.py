"""The answers to the fixed questions, each by the first rule that fits (docs/answers.md).

Everything here is read from the result as it is shown, its outcome and the outcome's reason, and from nothing else; `because` is
the rule's own sentence and holds no PHI. A rule never turns "not stated" into a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from covergate.eligibility.answers.active import ACTIVE_RULES
from covergate.eligibility.answers.costs import COST_RULES
from covergate.eligibility.answers.payers import PAYER_RULES
from covergate.eligibility.answers.permissions import PERMISSION_RULES
from covergate.eligibility.answers.result_reading import ResultPartJson, ResultReading
from covergate.eligibility.answers.rule import AnswerRule
from covergate.eligibility.answers.to_collect import COLLECTION_RULES
from covergate.eligibility.terms import Confidence, QuestionName


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    question: QuestionName
    answer: Any
    confidence: Confidence
    because: str
    sources: list[str]

    def shown(self) -> dict[str, Any]:
        return {
            "question": self.question,
            "answer": self.answer,
            "confidence": self.confidence,
            "because": self.because,
            "sources": self.sources,
        }


_EVERY_RULE = (*ACTIVE_RULES, *PAYER_RULES, *COST_RULES, *PERMISSION_RULES, *COLLECTION_RULES)
RULES = tuple(rule for question in QuestionName for rule in _EVERY_RULE if rule.question is question)
"""In the order in which they are tried."""

_RULES_OF = {question: [rule for rule in RULES if rule.question is question] for question in QuestionName}

NO_RESULT: dict[str, str] = {
    "queued": "The verification has not ended yet.",
    "in_progress": "The verification has not ended yet.",
    "canceled": "The verification was canceled.",
    "failed": "The verification failed, and there is no result; its failure says why.",
    "completed": "The result was erased, or does not open.",
}
"""Status → why nothing is known where there is no result."""
ANSWERED_LATE = "The answer came after the verification had failed; see late_result."
"""Why nothing is known of a failed one that was answered after its end."""


def answers_of(result: ResultPartJson, outcome: str | None, reason: str | None) -> list[GivenAnswer]:
    """`result` is JSON with every key (`stored.with_every_key`). One answer for each question, in the fixed order."""
    reading = ResultReading(result, outcome, reason)
    return [_first_fitting(rules, reading) for rules in _RULES_OF.values()]


def _first_fitting(rules: list[AnswerRule], reading: ResultReading) -> GivenAnswer:
    for rule in rules:
        found = rule.read(reading)
        if found is not None:
            return GivenAnswer(rule.question, found.answer, rule.confidence, rule.because, found.sources)
    raise AssertionError("the last rule of each question fits always")


def no_answers(status: str, *, answered_late: bool) -> list[GivenAnswer]:
    """Where there is no result to read."""
    because = ANSWERED_LATE if answered_late else NO_RESULT[status]
    return [GivenAnswer(question, None, Confidence.NOT_STATED, because, []) for question in QuestionName]
