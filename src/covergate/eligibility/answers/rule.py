"""A rule of the answers: when it fits, what it answers and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from covergate.eligibility.answers.result_reading import NOTHING_FOUND, Found, ResultPartJson, ResultReading
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import Confidence, QuestionName


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """`when` says in words what `read` looks for; it returns None if the rule does not fit."""

    question: QuestionName
    when: str
    confidence: Confidence
    because: str
    read: Callable[[ResultReading], Found | None]


def always(reading: ResultReading) -> Found:
    return NOTHING_FOUND


def stated_field(field: str, *, by_phrase: bool) -> Callable[[ResultReading], Found | None]:
    def read(reading: ResultReading) -> Found | None:
        result = reading.result
        if result[field] is None or _is_phrase(result, field) is not by_phrase:
            return None
        return Found(result[field], pointers_at(result["sources"], field))

    return read


def _is_phrase(row: ResultPartJson, field: str) -> bool:
    return not isinstance(row["sources"].get(field, []), list)
