"""Is an authorization needed, is a referral?"""

from __future__ import annotations

from covergate.eligibility.answers.result_reading import NOTHING_FOUND, Found, ResultReading, pointers_in
from covergate.eligibility.answers.rule import AnswerRule, always, stated_field
from covergate.eligibility.sourced import pointers_at
from covergate.eligibility.terms import AuthorizationNeed, Confidence, QuestionName, WhyNull


def _authorization_of_service(reading: ResultReading) -> Found | None:
    need = reading.service["authorization"]
    if need == AuthorizationNeed.UNKNOWN or reading.service["matched_by"] != "code":
        return None
    return Found(need, pointers_in(reading.service, "authorization"))


def _authorization_beside(reading: ResultReading) -> Found | None:
    for part in (reading.service, reading.cell):
        if part and part["authorization"] != AuthorizationNeed.UNKNOWN:
            stating = [row for row in reading.result["benefits"] if row["authorization"] == part["authorization"]]
            pointers = {
                pointer for row in stating for field in _AUTHORIZATION for pointer in pointers_at(row["sources"], field)
            }
            return Found(part["authorization"], sorted(pointers))
    return None


_AUTHORIZATION = ("authorization", "authorization_required")


def _authorization_in_conflict(reading: ResultReading) -> Found | None:
    paths = ("service.authorization", f"{reading.network}.authorization", f"{reading.network}.authorization_required")
    return NOTHING_FOUND if WhyNull.CONFLICT in reading.why(*paths) else None


_Q, _C = QuestionName, Confidence
PERMISSION_RULES: tuple[AnswerRule, ...] = (
    AnswerRule(
        _Q.AUTHORIZATION,
        "stated of the asked service",
        _C.STATED,
        "The payer says so of the asked service.",
        _authorization_of_service,
    ),
    AnswerRule(
        _Q.AUTHORIZATION,
        "stated of its family, of the plan or of the network",
        _C.DERIVED,
        "The payer says so of a wider group of services or of the network, not of the asked code.",
        _authorization_beside,
    ),
    AnswerRule(
        _Q.AUTHORIZATION,
        "`why_null`: `conflict`",
        _C.CONFLICT,
        "The payer says both; see benefits.",
        _authorization_in_conflict,
    ),
    AnswerRule(
        _Q.AUTHORIZATION,
        "otherwise",
        _C.NOT_STATED,
        "The payer did not say whether an authorization is needed.",
        always,
    ),
    AnswerRule(
        _Q.REFERRAL,
        "`referral_required` is stated",
        _C.STATED,
        "The payer says so.",
        stated_field("referral_required", by_phrase=False),
    ),
    AnswerRule(
        _Q.REFERRAL,
        "`referral_required` was read from a phrase",
        _C.DERIVED,
        "A message of the payer says so.",
        stated_field("referral_required", by_phrase=True),
    ),
    AnswerRule(_Q.REFERRAL, "otherwise", _C.NOT_STATED, "The payer did not say whether a referral is needed.", always),
)
