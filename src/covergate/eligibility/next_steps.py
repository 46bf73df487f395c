"""What somebody is to do after a verification: from its outcome, its failure, and what the result answers (docs/answers.md).

The steps are a closed list; a message is a constant, so that a step can be shown anywhere. `request` is the body of the next
verification, and holds PHI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from covergate.eligibility.answers.given import GivenAnswer
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.terms import (
    AuthorizationNeed,
    BillToReason,
    Confidence,
    NextStepCode,
    Outcome,
    OutcomeReason,
    QuestionName,
    StepBy,
    WarningCode,
)

_Row = Mapping[str, Any]
_S, _F, _W = NextStepCode, FailureCode, WarningCode

STEPS: dict[NextStepCode, tuple[StepBy, str]] = {
    _S.READ_LATE_ANSWER: (
        StepBy.FRONT_DESK,
        "Read the answer that came after the verification had failed; see late_result.",
    ),
    _S.CORRECT_MEMBER_ID: (
        StepBy.FRONT_DESK,
        "Compare the member id with the insurance card, then verify again with retry_of set to this one.",
    ),
    _S.CORRECT_MEMBER_DATA: (
        StepBy.FRONT_DESK,
        "Compare name, birth date, gender and group number with the insurance card, then verify again.",
    ),
    _S.CORRECT_PAYER: (StepBy.FRONT_DESK, "Check on the card which payer it is, then verify again with that one."),
    _S.CORRECT_PROVIDER: (StepBy.BILLER, "Check the provider's NPI and tax id, then verify again."),
    _S.CORRECT_REQUEST: (StepBy.REQUESTER, "Correct the request, then send a new one with retry_of set to this one."),
    _S.REVIEW_RECORD: (StepBy.BILLER, "Have a person look at the payer's record before anyone contacts the patient."),
    _S.ASK_FOR_OTHER_INSURANCE: (StepBy.FRONT_DESK, "Ask the patient for other insurance, and for its card."),
    _S.BILL_OTHER_PAYER: (StepBy.BILLER, "Send the claim to the payer named in bill_to, not to the one asked."),
    _S.VERIFY_WITH_OTHER_PAYER: (StepBy.FRONT_DESK, "Verify the coverage with the payer named in bill_to as well."),
    _S.GET_AUTHORIZATION: (StepBy.PROVIDER, "Get the payer's authorization before the visit."),
    _S.GET_REFERRAL: (StepBy.FRONT_DESK, "Get a referral from the primary care provider before the visit."),
    _S.COLLECT_COPAY: (StepBy.FRONT_DESK, "Collect the copay at the visit; see the answer to what_to_collect."),
    _S.SELF_PAY_ESTIMATE: (StepBy.FRONT_DESK, "Tell the patient before the visit what it costs without insurance."),
    _S.ENROLL_PROVIDER: (StepBy.BILLER, "Enroll the provider with this payer, and with the vendor if it asks for it."),
    _S.ASK_AGAIN_LATER: (StepBy.REQUESTER, "Verify again later, at the latest on the day of the visit."),
    _S.CALL_PAYER: (StepBy.BILLER, "Call the payer, or the entity that it names, with the patient's details."),
    _S.ASK_OPERATOR: (StepBy.OPERATOR, "Have an operator of the gateway look at it."),
}
"""Step → who takes it, and what to do; in the order in which they are shown."""

BY_FAILURE: dict[str, tuple[NextStepCode, ...]] = {
    _F.PAYER_UNAVAILABLE: (_S.ASK_AGAIN_LATER, _S.CALL_PAYER),
    _F.MEMBER_ID_INVALID: (_S.CORRECT_MEMBER_ID,),
    _F.MEMBER_NAME_MISMATCH: (_S.CORRECT_MEMBER_DATA,),
    _F.MEMBER_DOB_MISMATCH: (_S.CORRECT_MEMBER_DATA,),
    _F.MEMBER_GENDER_MISMATCH: (_S.CORRECT_MEMBER_DATA,),
    _F.MEMBER_NOT_FOUND: (_S.CORRECT_MEMBER_ID, _S.CORRECT_MEMBER_DATA, _S.ASK_FOR_OTHER_INSURANCE),
    _F.DEPENDENT_NOT_FOUND: (_S.CORRECT_MEMBER_DATA,),
    _F.MEMBER_AMBIGUOUS: (_S.CORRECT_MEMBER_DATA,),
    _F.MEMBER_NOT_IN_PLAN: (_S.CORRECT_MEMBER_DATA, _S.ASK_FOR_OTHER_INSURANCE),
    _F.MEMBER_DECEASED: (_S.REVIEW_RECORD,),
    _F.SERVICE_DATE_REJECTED: (_S.CORRECT_REQUEST,),
    _F.PROVIDER_NOT_RECOGNIZED: (_S.CORRECT_PROVIDER, _S.ENROLL_PROVIDER),
    _F.PROVIDER_NOT_ELIGIBLE: (_S.ENROLL_PROVIDER,),
    _F.PAYER_ENROLLMENT_REQUIRED: (_S.ENROLL_PROVIDER,),
    _F.PAYER_NOT_RECOGNIZED: (_S.CORRECT_PAYER,),
    _F.PAYER_NOT_SUPPORTED: (_S.CALL_PAYER,),
    _F.PAYER_MANUAL_CHECK_REQUIRED: (_S.CALL_PAYER,),
    _F.VENDOR_COULD_NOT_ANSWER: (_S.ASK_AGAIN_LATER, _S.CALL_PAYER),
    _F.REQUEST_REJECTED: (_S.CORRECT_REQUEST,),
    _F.VENDOR_UNAVAILABLE: (_S.ASK_AGAIN_LATER,),
    _F.VENDOR_RATE_LIMITED: (_S.ASK_AGAIN_LATER,),
    _F.VENDOR_PROTOCOL_ERROR: (_S.CALL_PAYER, _S.ASK_OPERATOR),
    _F.VENDOR_AUTH_FAILED: (_S.ASK_OPERATOR,),
    _F.SUBMISSION_UNKNOWN: (_S.ASK_OPERATOR,),
    _F.INTERNAL_ERROR: (_S.ASK_OPERATOR,),
    _F.DEADLINE_EXCEEDED: (_S.ASK_AGAIN_LATER,),
}

BY_OUTCOME: dict[tuple[str, str | None], tuple[NextStepCode, ...]] = {
    (Outcome.ELIGIBLE, None): (),
    (Outcome.INELIGIBLE, OutcomeReason.INACTIVE): (_S.ASK_FOR_OTHER_INSURANCE, _S.SELF_PAY_ESTIMATE),
    (Outcome.INELIGIBLE, OutcomeReason.NOT_COVERED): (_S.SELF_PAY_ESTIMATE,),
    (Outcome.INELIGIBLE, OutcomeReason.UNSPECIFIED): (
        _S.ASK_FOR_OTHER_INSURANCE,
        _S.SELF_PAY_ESTIMATE,
        _S.CALL_PAYER,
    ),
    (Outcome.UNKNOWN, OutcomeReason.CARVED_OUT): (_S.BILL_OTHER_PAYER,),
    (Outcome.UNKNOWN, None): (_S.CALL_PAYER,),
}

BY_WARNING: dict[str, tuple[NextStepCode, ...]] = {
    _W.COVERAGE_MAY_END: (_S.ASK_AGAIN_LATER,),
    _W.PREMIUM_GRACE_PERIOD: (_S.ASK_AGAIN_LATER,),
    _W.PENDING_INVESTIGATION: (_S.ASK_AGAIN_LATER,),
    _W.LIMITED_BENEFIT: (_S.ASK_FOR_OTHER_INSURANCE,),
    _W.SPEND_DOWN_OPEN: (_S.SELF_PAY_ESTIMATE,),
    _W.HOSPICE_ELECTION: (_S.CALL_PAYER,),
    _W.SEVERAL_PLANS_DISAGREE: (_S.CALL_PAYER,),
    _W.CONTACT_OTHER_ENTITY: (_S.CALL_PAYER,),
    _W.PAYER_CHANGED: (_S.CORRECT_PAYER,),
    _W.PAYER_ID_AND_NAME_DIFFER: (_S.CORRECT_PAYER,),
    _W.MEMBER_DATA_DIFFERS: (_S.CORRECT_MEMBER_DATA,),
    _W.RAW_UNPARSABLE: (_S.ASK_OPERATOR,),
}


@dataclass(frozen=True, slots=True)
class StepRule:
    """Steps of an answer. `when` says in words what `fits` looks for."""

    question: QuestionName
    when: str
    fits: Callable[[GivenAnswer], bool]
    steps: tuple[NextStepCode, ...]


def _bills_another(answer: GivenAnswer) -> bool:
    return answer.answer is not None and answer.answer["because"] != BillToReason.THIS_PAYER


def _has_other_benefits(answer: GivenAnswer) -> bool:
    """A third party administrator pays claims by the benefits of the payer that was asked."""
    return (
        _bills_another(answer)
        and answer.answer["because"] != BillToReason.TPA
        and any(answer.answer["payer"][name] for name in ("id", "name"))
    )


def _is_to_be_collected(answer: GivenAnswer) -> bool:
    return answer.answer is not None and Decimal(answer.answer["amount"] or 0) > 0


BY_ANSWER: tuple[StepRule, ...] = (
    StepRule(QuestionName.WHO_TO_BILL, "another payer than the one asked", _bills_another, (_S.BILL_OTHER_PAYER,)),
    StepRule(
        QuestionName.WHO_TO_BILL,
        "another payer with an id or a name, and not as a third party administrator",
        _has_other_benefits,
        (_S.VERIFY_WITH_OTHER_PAYER,),
    ),
    StepRule(
        QuestionName.VISITS_LEFT,
        "none is left",
        lambda answer: answer.answer is not None and answer.answer["remaining"] == 0,
        (_S.SELF_PAY_ESTIMATE, _S.CALL_PAYER),
    ),
    StepRule(
        QuestionName.AUTHORIZATION,
        "`required`",
        lambda answer: answer.answer == AuthorizationNeed.REQUIRED,
        (_S.GET_AUTHORIZATION,),
    ),
    StepRule(
        QuestionName.AUTHORIZATION,
        "`may_apply`, or a conflict",
        lambda answer: answer.answer == AuthorizationNeed.MAY_APPLY or answer.confidence is Confidence.CONFLICT,
        (_S.CALL_PAYER,),
    ),
    StepRule(QuestionName.REFERRAL, "true", lambda answer: answer.answer is True, (_S.GET_REFERRAL,)),
    StepRule(QuestionName.WHAT_TO_COLLECT, "an amount above zero", _is_to_be_collected, (_S.COLLECT_COPAY,)),
)


def steps_by_end(outcome: str | None, reason: str | None, failure_code: str | None) -> list[NextStepCode]:
    """What the end alone tells, without the result."""
    if failure_code is not None:
        return _in_order(BY_FAILURE.get(failure_code, ()))
    return [] if outcome is None else _in_order(BY_OUTCOME.get((outcome, reason), ()))


def steps_of_late_news(late_result: _Row | None, late_failure: _Row | None) -> list[NextStepCode]:
    """Instead of those of the failure, if anything came after it; else none."""
    if late_result is not None:
        return [_S.READ_LATE_ANSWER]
    return [] if late_failure is None else _in_order(BY_FAILURE[late_failure["code"]])


def steps_by_result(
    outcome: str | None, reason: str | None, result: _Row, answers: Sequence[GivenAnswer]
) -> list[NextStepCode]:
    """`answers` are those of the result (`answers.answers_of`)."""
    steps = set(steps_by_end(outcome, reason, None))
    for warning in result["warnings"]:
        steps |= set(BY_WARNING.get(warning["code"], ()))
    given = {answer.question: answer for answer in answers}
    for rule in BY_ANSWER:
        if rule.fits(given[rule.question]):
            steps |= set(rule.steps)
    return _in_order(steps)


def _in_order(steps: Iterable[NextStepCode]) -> list[NextStepCode]:
    named = set(steps)
    return [code for code in STEPS if code in named]


def shown_steps(codes: Iterable[NextStepCode], request: _Row | None = None) -> list[dict[str, Any]]:
    """As the API shows them. `request`: of `verify_with_other_payer`."""
    return [
        {
            "code": code,
            "message": STEPS[code][1],
            "who": STEPS[code][0],
            "request": request if code is _S.VERIFY_WITH_OTHER_PAYER else None,
        }
        for code in codes
    ]


_OWN_NUMBER = frozenset({BillToReason.MANAGED_CARE, BillToReason.CARVE_OUT})
"""Such a payer knows the member by the number on the card that was asked about."""


def second_request(result: _Row, inquiry: _Row) -> dict[str, Any] | None:
    """The body of `POST /v1/verifications` for the payer that is to be billed; None if it is not known.

    Where the answer does not tell the member id that the other payer knows, it is null: somebody has to ask for that card.
    """
    bill_to = result["bill_to"]
    if bill_to is None or not any(bill_to["payer"][name] for name in ("id", "name")):
        return None
    payer = bill_to["payer"]
    numbers = {
        other["member_id"]
        for other in result["other_coverage"]
        if other["member_id"] and any(payer[name] and other["payer"][name] == payer[name] for name in ("id", "name"))
    }
    own = inquiry["patient"]["member_id"] if bill_to["because"] in _OWN_NUMBER else None
    member_id = numbers.pop() if len(numbers) == 1 else own
    return {
        **inquiry,
        "payer": {name: payer[name] for name in ("id", "name", "directory_id")},
        "patient": {**inquiry["patient"], "member_id": member_id, "group_number": None},
        "coverage_order": "primary",
    }
