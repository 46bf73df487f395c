"""What the gateway says is shown to a front desk without names of fields, and says the same otherwise."""

from __future__ import annotations

import re

import pytest

from covergate.eligibility.answers.given import ANSWERED_LATE, NO_RESULT, RULES
from covergate.eligibility.answers.page import STEP_BY_WORDS
from covergate.eligibility.failure import MEANINGS
from covergate.eligibility.next_steps import STEPS
from covergate.eligibility.plain_words import plain
from covergate.eligibility.terms import StepBy, WarningCode
from covergate.eligibility.warning import warning

MESSAGES = [
    *(message for _, message in STEPS.values()),
    *(rule.because for rule in RULES),
    *NO_RESULT.values(),
    ANSWERED_LATE,
    *(words for meaning in MEANINGS.values() for words in (meaning.message, meaning.suggestion)),
    *(warning(code).message for code in WarningCode),
]
FIELD = re.compile(r"[a-z]_[a-z]|[a-z]\.[a-z]|\bin raw\b|see benefits|/v1/")


def test_no_message_names_a_field() -> None:
    for message in MESSAGES:
        shown = plain(message)
        assert not FIELD.search(shown), shown
        assert shown.endswith(".") and ";." not in shown and ",." not in shown
        if not FIELD.search(message):
            assert shown == message


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "Send the claim to the payer named in bill_to, not to the one asked.",
            "Send the claim to the payer that is to be billed, not to the one asked.",
        ),
        ("Collect the copay at the visit; see the answer to what_to_collect.", "Collect the copay at the visit."),
        ("Another payer pays first; see bill_to and other_coverage.", "Another payer pays first."),
    ],
)
def test_the_rest_of_a_message_stands(message: str, shown: str) -> None:
    assert plain(message) == shown


def test_everybody_who_takes_a_step_has_words() -> None:
    assert set(STEP_BY_WORDS) == set(StepBy)
