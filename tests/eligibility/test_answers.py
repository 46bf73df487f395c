"""A front desk's questions: what is answered, how sure, and from where; and what is to be done then."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import orjson
import pytest

from covergate.eligibility.answers.given import ANSWERED_LATE, answers_of, no_answers
from covergate.eligibility.next_steps import (
    second_request,
    shown_steps,
    steps_by_end,
    steps_by_result,
    steps_of_late_news,
)
from covergate.eligibility.stored import with_every_key
from covergate.eligibility.terms import Confidence, NextStepCode, QuestionName, WarningCode

Q, S = QuestionName, NextStepCode
LEFT = {"total": "1000.00", "used": None, "remaining": "250.00"}
NO_LEVELS = {"individual": None, "family": None, "unknown_level": None}


SHARE: dict[str, Any] = {
    "network": "in",
    "place": None,
    "copay": None,
    "coinsurance_percent": None,
    "deductible_applies": None,
    "limited_to": [],
}


def benefit(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "network": "in", "level": "individual", **fields}


def warned(*codes: WarningCode) -> list[dict[str, Any]]:
    return [{"code": code, "message": "", "sources": [f"/exchanges/0/body/{code}"]} for code in codes]


def cell(**fields: Any) -> dict[str, Any]:
    return {
        "copay": None,
        "coinsurance_percent": None,
        "deductible": NO_LEVELS,
        "out_of_pocket_max": NO_LEVELS,
        **fields,
    }


def service(**fields: Any) -> dict[str, Any]:
    return {"network": "in", "matched_by": "code", "sources": {"copay": ["/exchanges/0/body/copay"]}, **fields}


def result(*, summary: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        **{name: {} for name in ("plan", "payer", "patient", "references", "payer_status")},
        **dict.fromkeys(("service_covered", "provider_in_network", "subscriber", "referral_required")),
        "coverage": "active",
        "as_of": "2026-11-28",
        "answered_at": "2026-11-28T15:00:00Z",
    }
    return with_every_key({**empty, "summary": {"in": None, "out": None, "unknown": None, **(summary or {})}, **fields})


def bill_to(because: str, **payer: Any) -> dict[str, Any]:
    return {"payer": payer, "because": because, "sources": {"payer": ["/exchanges/0/body/payer"]}}


def answered(
    question: QuestionName, shown: dict[str, Any], outcome: str | None = "eligible", reason: str | None = None
) -> tuple[Any, Confidence]:
    (answer,) = (one for one in answers_of(shown, outcome, reason) if one.question is question)
    return answer.answer, answer.confidence


def steps(shown: dict[str, Any], outcome: str | None = "eligible", reason: str | None = None) -> set[NextStepCode]:
    return set(steps_by_result(outcome, reason, shown, answers_of(shown, outcome, reason)))


@pytest.mark.parametrize(
    ("shown", "outcome", "reason", "expected"),
    [
        (result(), "eligible", None, (True, Confidence.STATED)),
        (result(coverage="inactive"), "ineligible", "inactive", (False, Confidence.STATED)),
        (result(coverage="unknown"), "ineligible", "unspecified", (False, Confidence.DERIVED)),
        (result(coverage="unknown"), "unknown", None, (None, Confidence.NOT_STATED)),
        (
            result(coverage="inactive", warnings=warned(WarningCode.COVERAGE_DATES_CONFLICT)),
            "ineligible",
            "inactive",
            (False, Confidence.DERIVED),
        ),
        (result(warnings=warned(WarningCode.COVERAGE_MAY_END)), "eligible", None, (True, Confidence.DERIVED)),
        (
            result(coverage="unknown", warnings=warned(WarningCode.SEVERAL_PLANS_DISAGREE)),
            "unknown",
            None,
            (None, Confidence.CONFLICT),
        ),
    ],
)
def test_active(shown: dict[str, Any], outcome: str, reason: str | None, expected: tuple[Any, Confidence]) -> None:
    assert answered(Q.ACTIVE, shown, outcome, reason) == expected


def test_a_payer_that_says_active_is_pointed_at() -> None:
    row = benefit("coverage", code="1", sources={"code": ["/exchanges/0/body/eb/0/code"]})
    (answer, *_) = answers_of(result(benefits=[row]), "eligible", None)
    assert answer.sources == ["/exchanges/0/body/eb/0/code"]


def test_another_payer_is_billed_and_its_benefits_decide() -> None:
    shown = result(
        bill_to=bill_to("medicare_advantage", name="Sample Advantage"),
        summary={"service": service(copay="30.00", deductible_applies=False)},
    )
    given, confidence = answered(Q.WHO_TO_BILL, shown)
    assert (given["payer"]["name"], given["because"], confidence) == (
        "Sample Advantage",
        "medicare_advantage",
        Confidence.STATED,
    )
    assert answered(Q.WHAT_TO_COLLECT, shown) == (None, Confidence.DERIVED)
    assert {S.BILL_OTHER_PAYER, S.VERIFY_WITH_OTHER_PAYER} <= steps(shown)
    assert S.COLLECT_COPAY not in steps(shown)


def test_a_payer_without_id_and_name_cannot_be_asked() -> None:
    taken = steps(result(bill_to=bill_to("managed_care", phone="5550100")))
    assert S.BILL_OTHER_PAYER in taken and S.VERIFY_WITH_OTHER_PAYER not in taken


def test_an_administrator_pays_by_the_asked_payers_benefits() -> None:
    shown = result(
        bill_to=bill_to("tpa", name="Sample Claims"),
        summary={"service": service(copay="30.00", deductible_applies=False)},
    )
    assert answered(Q.WHAT_TO_COLLECT, shown)[0]["amount"] == "30.00"
    assert S.VERIFY_WITH_OTHER_PAYER not in steps(shown)


@pytest.mark.parametrize("said", [True, False])
def test_in_network_by_element_or_phrase(said: bool) -> None:
    stated = result(provider_in_network=said, sources={"provider_in_network": ["/exchanges/0/body/network"]})
    assert answered(Q.IN_NETWORK, stated) == (said, Confidence.STATED)
    phrase = {"pointers": ["/exchanges/0/body/msg"], "by": "phrase:sample@1"}
    read = result(provider_in_network=said, sources={"provider_in_network": phrase})
    assert answered(Q.IN_NETWORK, read) == (said, Confidence.DERIVED)
    assert answered(Q.IN_NETWORK, result()) == (None, Confidence.NOT_STATED)


@pytest.mark.parametrize(
    ("summary", "copay", "confidence"),
    [
        ({"service": service(copay="30.00")}, "30.00", Confidence.STATED),
        ({"service": service(copay="30.00", matched_by="family")}, "30.00", Confidence.DERIVED),
        ({"in": cell(copay="40.00")}, "40.00", Confidence.DERIVED),
        ({"in": cell(copay="40.00"), "why_null": {"service.copay": "several_shares"}}, None, Confidence.NOT_STATED),
        ({"in": cell(copay="40.00"), "why_null": {"service.copay": "limited_rows_only"}}, None, Confidence.NOT_STATED),
        ({"why_null": {"service.copay": "conflict"}}, None, Confidence.CONFLICT),
        ({}, None, Confidence.NOT_STATED),
    ],
)
def test_the_copay_of_this_visit(summary: dict[str, Any], copay: str | None, confidence: Confidence) -> None:
    given, seen = answered(Q.COPAY_FOR_THIS_VISIT, result(summary=summary))
    assert (given and given["copay"], seen) == (copay, confidence)


@pytest.mark.parametrize(
    ("limited_to", "copay", "codes", "confidence"),
    [
        (["SPECIALIST"], "40.00", ["98"], Confidence.DERIVED),
        (["SPECIALIST"], "30.00", ["98"], Confidence.STATED),
        (["SPECIALIST"], "40.00", ["MH"], Confidence.STATED),
        ([], "40.00", ["98"], Confidence.STATED),
    ],
)
def test_an_amount_beside_another_under_the_payers_own_words_is_not_stated_of_the_visit(
    limited_to: list[str], copay: str, codes: list[str], confidence: Confidence
) -> None:
    general = {**SHARE, "copay": "30.00", "service_type_codes": ["98"], "sources": {"copay": ["/1"]}}
    other = {
        **SHARE,
        "copay": copay,
        "service_type_codes": codes,
        "limited_to": limited_to,
        "sources": {"copay": ["/2"]},
    }
    asked = service(copay="30.00", matched_by="code", sources={"copay": ["/1"]})
    shown = result(summary={"service": asked}, cost_shares=[general, other])
    answer, told = answered(Q.COPAY_FOR_THIS_VISIT, shown)
    assert (answer["copay"], told) == ("30.00", confidence)


def test_what_is_left_is_stated_for_the_providers_network_only() -> None:
    summary = {"in": cell(deductible={**NO_LEVELS, "individual": LEFT})}
    row = benefit("deductible", **LEFT, sources={"remaining": ["/exchanges/0/body/left"], "total": ["/t"]})
    known = result(summary=summary, benefits=[row], provider_in_network=True)
    given, confidence = answered(Q.DEDUCTIBLE_LEFT, known)
    assert (given["network"], given["individual"], confidence) == ("in", "250.00", Confidence.STATED)
    assert next(one for one in answers_of(known, "eligible", None) if one.question is Q.DEDUCTIBLE_LEFT).sources == [
        "/exchanges/0/body/left"
    ]
    assert answered(Q.DEDUCTIBLE_LEFT, result(summary=summary, benefits=[row]))[1] is Confidence.DERIVED


@pytest.mark.parametrize(
    ("accumulator", "left"),
    [
        ({"total": "1000.00", "used": "400.00", "remaining": None}, "600.00"),
        ({"total": "1000.00", "used": "1400.00", "remaining": None}, "0.00"),
        ({"total": "0.00", "used": None, "remaining": None}, "0.00"),
        ({"total": "1000.00", "used": None, "remaining": None}, None),
        ({"total": None, "used": "400.00", "remaining": None}, None),
    ],
)
def test_what_is_left_is_counted_only_from_what_was_stated(accumulator: dict[str, Any], left: str | None) -> None:
    shown = result(summary={"in": cell(deductible={**NO_LEVELS, "individual": accumulator})}, provider_in_network=True)
    given, confidence = answered(Q.DEDUCTIBLE_LEFT, shown)
    assert (given and given["individual"]) == left
    assert confidence is (Confidence.DERIVED if left else Confidence.NOT_STATED)


def test_several_deductibles_are_a_conflict() -> None:
    shown = result(summary={"in": cell(), "why_null": {"in.deductible.individual": "conflict"}})
    assert answered(Q.DEDUCTIBLE_LEFT, shown) == (None, Confidence.CONFLICT)


def test_visits() -> None:
    visits = {"unit": "visits", "total": 20, "used": 20, "remaining": 0}
    shown = result(summary={"service": service(visits=visits)})
    assert answered(Q.VISITS_LEFT, shown) == (visits, Confidence.STATED)
    assert {S.SELF_PAY_ESTIMATE, S.CALL_PAYER} <= steps(shown)
    assert answered(Q.VISITS_LEFT, result()) == (None, Confidence.NOT_STATED)


@pytest.mark.parametrize(
    ("summary", "expected", "step"),
    [
        ({"service": service(authorization="required")}, ("required", Confidence.STATED), S.GET_AUTHORIZATION),
        ({"service": service(authorization="may_apply")}, ("may_apply", Confidence.STATED), S.CALL_PAYER),
        (
            {"service": service(authorization="required", matched_by="plan")},
            ("required", Confidence.DERIVED),
            S.GET_AUTHORIZATION,
        ),
        ({"in": cell(authorization="required")}, ("required", Confidence.DERIVED), S.GET_AUTHORIZATION),
        ({"service": service(authorization="not_required")}, ("not_required", Confidence.STATED), None),
        ({"why_null": {"service.authorization": "conflict"}}, (None, Confidence.CONFLICT), S.CALL_PAYER),
        ({}, (None, Confidence.NOT_STATED), None),
    ],
)
def test_authorization(summary: dict[str, Any], expected: tuple[Any, Confidence], step: NextStepCode | None) -> None:
    shown = result(summary=summary)
    assert answered(Q.AUTHORIZATION, shown) == expected
    assert steps(shown) == ({step} if step else set())


def test_referral() -> None:
    shown = result(referral_required=True, sources={"referral_required": ["/exchanges/0/body/referral"]})
    assert answered(Q.REFERRAL, shown) == (True, Confidence.STATED)
    assert steps(shown) == {S.GET_REFERRAL}
    assert steps(result(referral_required=False)) == set()


def test_telehealth() -> None:
    share = {"network": "in", "place": "telehealth", "copay": "0.00", "sources": {"copay": ["/exchanges/0/body/tele"]}}
    given, confidence = answered(
        Q.TELEHEALTH, result(cost_shares=[share, {**share, "place": "office", "copay": "30.00"}])
    )
    assert (given["covered"], given["copay"], confidence) == (True, "0.00", Confidence.DERIVED)
    limited = {**share, "limited_to": ["CRISIS LINE"]}
    assert answered(Q.TELEHEALTH, result(cost_shares=[limited])) == (None, Confidence.NOT_STATED)
    assert answered(Q.TELEHEALTH, result(cost_shares=[share, {**share, "copay": "20.00"}]))[0] is None
    denied = result(
        summary={"in": cell()}, benefits=[benefit("non_covered", place="telehealth", service_type_codes=["98"])]
    )
    assert answered(Q.TELEHEALTH, denied)[0]["covered"] is False


def test_other_insurance_that_nobody_names_is_not_none() -> None:
    assert answered(Q.OTHER_INSURANCE, result()) == (None, Confidence.NOT_STATED)
    other = {"order": "primary", "payer": {"id": None, "name": "Sample Mutual"}, "member_id": "W1"}
    given, confidence = answered(Q.OTHER_INSURANCE, result(other_coverage=[other]))
    assert confidence is Confidence.STATED
    assert given == [{**other, "kind": "unknown"}]


@pytest.mark.parametrize(
    ("share", "left", "amount", "confidence"),
    [
        ({"copay": "30.00", "deductible_applies": False}, "250.00", "30.00", Confidence.DERIVED),
        ({"copay": "30.00", "deductible_applies": None}, "250.00", "30.00", Confidence.DERIVED),
        ({"copay": "30.00", "deductible_applies": True}, "250.00", None, Confidence.DERIVED),
        ({"copay": "30.00", "deductible_applies": True}, "0.00", "30.00", Confidence.DERIVED),
        ({"copay": "30.00", "deductible_applies": True}, None, None, Confidence.DERIVED),
        ({"copay": "30.00", "coinsurance_percent": 20}, "0.00", "30.00", Confidence.DERIVED),
        ({"coinsurance_percent": 20}, "0.00", None, Confidence.DERIVED),
        ({"coinsurance_percent": 0}, "0.00", "0.00", Confidence.DERIVED),
        ({"coinsurance_percent": 0}, "250.00", None, Confidence.DERIVED),
        ({}, "250.00", None, Confidence.NOT_STATED),
    ],
)
def test_what_to_collect(share: dict[str, Any], left: str | None, amount: str | None, confidence: Confidence) -> None:
    deductible = {**NO_LEVELS, "individual": left and {"total": "1000.00", "used": None, "remaining": left}}
    shown = result(summary={"service": service(**share), "in": cell(deductible=deductible)})
    given, seen = answered(Q.WHAT_TO_COLLECT, shown)
    assert (given and given["amount"], seen) == (amount, confidence)
    assert (S.COLLECT_COPAY in steps(shown)) is (Decimal(amount or 0) > 0)


def test_nothing_is_collected_by_an_answer_that_does_not_pay() -> None:
    shown = result(coverage="inactive", summary={"service": service(copay="30.00")})
    assert answered(Q.WHAT_TO_COLLECT, shown, "ineligible", "inactive") == (None, Confidence.DERIVED)
    assert steps(shown, "ineligible", "inactive") == {S.ASK_FOR_OTHER_INSURANCE, S.SELF_PAY_ESTIMATE}
    unknown = result(coverage="unknown", summary={"service": service(copay="30.00")})
    assert answered(Q.WHAT_TO_COLLECT, unknown, "unknown") == (None, Confidence.NOT_STATED)


def test_a_limit_that_was_met_is_asked_about() -> None:
    met = {**NO_LEVELS, "individual": {"total": "3000.00", "used": None, "remaining": "0.00"}}
    shown = result(summary={"service": service(copay="30.00"), "in": cell(out_of_pocket_max=met)})
    assert answered(Q.WHAT_TO_COLLECT, shown) == (None, Confidence.DERIVED)


def test_of_a_copay_of_nothing_nobody_is_asked_although_the_limit_was_met() -> None:
    met = {**NO_LEVELS, "individual": {"total": "3000.00", "used": None, "remaining": "0.00"}}
    shown = result(summary={"service": service(copay="0.00", coinsurance_percent=0), "in": cell(out_of_pocket_max=met)})
    collected, confidence = answered(Q.WHAT_TO_COLLECT, shown)
    assert (collected["amount"], confidence) == ("0.00", Confidence.DERIVED)


def test_answers_depend_on_the_result_alone_and_not_on_the_order_of_its_rows() -> None:
    rows = [
        benefit("deductible", **LEFT, sources={"remaining": [f"/exchanges/0/body/{number}"]}, notes=[str(number)])
        for number in range(6)
    ]
    others = [{"order": None, "payer": {"id": str(number)}, "member_id": None} for number in range(2)]
    shown = result(
        summary={"in": cell(deductible={**NO_LEVELS, "individual": LEFT})}, benefits=rows, other_coverage=others
    )
    once = orjson.loads(orjson.dumps(shown))
    given = [one.shown() for one in answers_of(shown, "eligible", None)]
    assert [one.shown() for one in answers_of(once, "eligible", None)] == given
    assert orjson.loads(orjson.dumps(shown)) == once, "nothing is changed by reading"
    random.Random(1).shuffle(shown["benefits"])
    assert [one.shown() for one in answers_of(shown, "eligible", None)] == given


def test_without_a_result_nothing_is_known() -> None:
    for answer in no_answers("failed", answered_late=False):
        assert (answer.answer, answer.confidence, answer.sources) == (None, Confidence.NOT_STATED, [])


def test_what_came_after_the_end_is_told_instead() -> None:
    assert {one.because for one in no_answers("failed", answered_late=True)} == {ANSWERED_LATE}
    assert steps_of_late_news(None, None) == []
    assert steps_of_late_news(result(), None) == [S.READ_LATE_ANSWER]
    assert steps_of_late_news(None, {"code": "payer_unavailable"}) == [S.ASK_AGAIN_LATER, S.CALL_PAYER]


def test_steps_stand_in_one_order_and_each_once() -> None:
    shown = result(
        warnings=warned(WarningCode.SPEND_DOWN_OPEN, WarningCode.COVERAGE_MAY_END), bill_to=bill_to("msp", id="12345")
    )
    taken = steps_by_result("ineligible", "inactive", shown, answers_of(shown, "ineligible", "inactive"))
    assert taken == [
        S.ASK_FOR_OTHER_INSURANCE,
        S.BILL_OTHER_PAYER,
        S.VERIFY_WITH_OTHER_PAYER,
        S.SELF_PAY_ESTIMATE,
        S.ASK_AGAIN_LATER,
    ]


def test_the_end_alone_tells_steps_without_the_result() -> None:
    assert steps_by_end(None, None, None) == []
    assert steps_by_end("eligible", None, None) == []
    assert steps_by_end(None, None, "member_id_invalid") == [S.CORRECT_MEMBER_ID]
    assert steps_by_end("ineligible", "a reason of tomorrow", None) == []


INQUIRY: dict[str, Any] = {
    "payer": {"id": "60054", "name": "Aetna", "directory_id": None},
    "patient": {"first_name": "Jane", "last_name": "Sample", "member_id": "W123", "group_number": "G1"},
    "coverage_order": "secondary",
    "service": {"date": "2026-12-01"},
}


@pytest.mark.parametrize(
    ("because", "member_id"),
    [("managed_care", "W123"), ("carve_out", "W123"), ("medicare_advantage", None), ("msp", None)],
)
def test_the_second_request_has_a_member_id_only_if_that_payer_knows_it(because: str, member_id: str | None) -> None:
    shown = result(bill_to=bill_to(because, id="12345", name="Sample Health"))
    request = second_request(shown, INQUIRY)
    assert request is not None
    assert request["payer"] == {"id": "12345", "name": "Sample Health", "directory_id": None}
    assert request["patient"] == {**INQUIRY["patient"], "member_id": member_id, "group_number": None}
    assert (request["coverage_order"], request["service"]) == ("primary", INQUIRY["service"])
    (step,) = shown_steps([S.VERIFY_WITH_OTHER_PAYER], request)
    assert step["request"] is request
    assert shown_steps([S.CALL_PAYER], request)[0]["request"] is None


def test_the_second_request_takes_the_member_id_that_the_answer_states() -> None:
    other = {"payer": {"id": None, "name": "Sample Health"}, "member_id": "1EG4"}
    shown = result(bill_to=bill_to("medicare_advantage", name="Sample Health"), other_coverage=[other])
    request = second_request(shown, INQUIRY)
    assert request is not None and request["patient"]["member_id"] == "1EG4"
    two = result(
        bill_to=bill_to("medicare_advantage", name="Sample Health"), other_coverage=[other, {**other, "member_id": "2"}]
    )
    assert second_request(two, INQUIRY)["patient"]["member_id"] is None  # type: ignore[index]
    assert second_request(result(), INQUIRY) is None
