"""docs/answers.md has the tables of answers and next steps as the code has them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from covergate.eligibility.answers.given import ANSWERED_LATE, NO_RESULT, RULES
from covergate.eligibility.answers.questions import QUESTIONS
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.next_steps import BY_ANSWER, BY_FAILURE, BY_OUTCOME, BY_WARNING, STEPS
from covergate.eligibility.terms import NextStepCode, Outcome, OutcomeReason, QuestionName

PAGE = (Path(__file__).parents[2] / "docs" / "answers.md").read_text()


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def code(name: str) -> str:
    return f"`{name}`"


def codes(steps: Iterable[str]) -> str:
    return ", ".join(code(step) for step in steps) or "none"


TABLES = {
    "The questions": table(("question", "in words"), ((code(name), words) for name, (words, _) in QUESTIONS.items())),
    "The rules": table(
        ("question", "if", "confidence", "because"),
        ((code(rule.question), rule.when, code(rule.confidence), rule.because) for rule in RULES),
    ),
    "Without a result": table(
        ("status", "because"), ((code(status), because) for status, because in NO_RESULT.items())
    ),
    "The steps": table(("step", "who", "what"), ((code(step), code(who), what) for step, (who, what) in STEPS.items())),
    "Steps of an outcome": table(
        ("outcome", "reason", "steps"),
        (
            (code(outcome), code(reason) if reason else "–", codes(steps))
            for (outcome, reason), steps in BY_OUTCOME.items()
        ),
    ),
    "Steps of a failure": table(
        ("failure", "steps"), ((code(failure), codes(steps)) for failure, steps in BY_FAILURE.items())
    ),
    "Steps of a warning": table(
        ("warning", "steps"), ((code(warning), codes(steps)) for warning, steps in BY_WARNING.items())
    ),
    "Steps of an answer": table(
        ("question", "if", "steps"), ((code(rule.question), rule.when, codes(rule.steps)) for rule in BY_ANSWER)
    ),
}


@pytest.mark.parametrize("heading", TABLES)
def test_the_page_has_the_table(heading: str) -> None:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    told = "".join(f"{line}\n" for line in section.splitlines() if line.startswith("|"))
    assert told == TABLES[heading]


def test_every_failure_outcome_and_step_has_its_row() -> None:
    assert list(BY_FAILURE) == list(FailureCode)
    assert {outcome for outcome, _ in BY_OUTCOME} == set(Outcome)
    assert {reason for _, reason in BY_OUTCOME} == {None, *OutcomeReason}
    assert set(STEPS) == set(NextStepCode)
    of_answers = [rule.steps for rule in BY_ANSWER]
    used = {
        step
        for steps in (*BY_FAILURE.values(), *BY_OUTCOME.values(), *BY_WARNING.values(), *of_answers)
        for step in steps
    }
    assert used == set(NextStepCode) - {NextStepCode.READ_LATE_ANSWER}


def test_the_page_says_what_is_told_of_a_late_answer() -> None:
    assert f"`because` is: {ANSWERED_LATE}" in " ".join(PAGE.split())


def test_every_question_has_a_rule_that_fits_always() -> None:
    assert list(dict.fromkeys(rule.question for rule in RULES)) == list(QuestionName) == list(QUESTIONS)
    for question in QuestionName:
        assert [rule.when for rule in RULES if rule.question is question][-1] == "otherwise"
