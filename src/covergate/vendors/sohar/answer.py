"""From a verification of Sohar to an `Answer`, or to the reason why there is none.

Sources: "Get Verification" v2 and "Patient Intake" (docs.soharhealth.com). Money is JSON numbers of dollars, shares are
fractions (0.1 is 10 %), dates MM/DD/YYYY. One of Sohar's benefits is a network and tier with several amounts; each amount
becomes a row of its own.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.inquiry import today_eastern
from covergate.eligibility.result import (
    Benefit,
    Member,
    NamedPayer,
    OtherCoverage,
    PayerAnswer,
    Plan,
    PostalAddress,
    References,
    RelatedEntity,
    Warning_,
)
from covergate.eligibility.sourced import Sourced, money, percent
from covergate.eligibility.terms import (
    AppliesTo,
    Coverage,
    Kind,
    Level,
    Network,
    PatientRelationship,
    Role,
    WarningCode,
)
from covergate.eligibility.warning import warning
from covergate.eligibility.x12.codes import ENTITY_ROLES, LEVELS, PAYER_ORDERS, RELATIONSHIPS
from covergate.eligibility.x12.names import EB04_NAMES
from covergate.vendors.document import (
    Node,
    looks_like_a_day,
    remaining,
    row,
    stated_day,
    text,
    token,
    unparsable,
    unreadable,
)
from covergate.vendors.flow import Question, Reply
from covergate.vendors.sohar import codes
from covergate.vendors.sohar.request import sohar_payer_id

_fraction = partial(percent, fraction=True)


def answer_of(body: Node, question: Question, answered_at: datetime) -> Answer | Failure | None:
    """None for a verification that is still open; with a status that no document explains it is."""
    status = body.read("status", token).value or ""
    if status in (codes.COMPLETE_ELIGIBLE, codes.COMPLETE_INELIGIBLE):
        return _completed(body, question, answered_at)
    reason = body.read("statusReason", token).value
    if status.startswith("error.") and reason == codes.CONTACT_PAYER:
        return failure(FailureCode.PAYER_MANUAL_CHECK_REQUIRED, vendor_code=reason)
    if status in codes.ERROR_STATUSES:
        return failure(codes.ERROR_STATUSES[status], vendor_code=status, vendor_message=reason)
    return None


def rejection_of(reply: Reply) -> Failure:
    """The reason in a 4xx on a new verification: `param` names the field."""
    body = Node(reply.body, reply.body_pointer)
    param = body.read("param", token).value
    if param is not None and param.rpartition(".")[2] == "payerId":
        return failure(FailureCode.PAYER_NOT_RECOGNIZED, vendor_code=param)
    error = param or body.read("error", token).value or f"http_{reply.status}"
    return failure(FailureCode.REQUEST_REJECTED, vendor_code=error)


def _completed(body: Node, question: Question, answered_at: datetime) -> Answer:
    warnings = [*_unknown_codes(body), *_unreadable(body), *_contradiction(body)]
    coverage, covered, without_reason, at = _coverage(body)
    payer = _payer(body)
    asked_id = sohar_payer_id(question.inquiry, question.payer_codes)
    if payer.id is not None and asked_id is not None and payer.id.casefold() != asked_id.casefold():
        warnings.append(warning(WarningCode.PAYER_CHANGED, body.at("payer").at("id").pointer))
    entities = body.rows("relatedEntities")
    return Answer(
        coverage=coverage,
        service_covered=covered,
        ineligible_without_reason=without_reason,
        sources=row(coverage=Sourced(coverage, at), service_covered=Sourced(covered, at))["sources"],
        as_of=today_eastern(answered_at),
        answered_at=answered_at,
        plan=_plan(body),
        payer=payer,
        patient=_member(body.at("patient")),
        subscriber=_subscriber(body.at("subscriber")),
        benefits=[row for benefit in body.rows("benefits") for row in _amounts(benefit)],
        other_coverage=[_other_coverage(entity) for entity in entities if _order(entity) is not None],
        related_entities=[_related_entity(entity) for entity in entities if _order(entity) is None],
        references=References(vendor_id=body.read("verificationId", token).value),
        warnings=warnings,
    )


def _coverage(body: Node) -> tuple[Coverage, bool | None, bool, tuple[str, ...]]:
    """(coverage, service_covered, ineligible without a reason that we know, where it is said)."""
    status, reason = body.read("status", token), _code(body, "statusReason")
    if status.value == codes.COMPLETE_ELIGIBLE:
        is_denied = reason in codes.INELIGIBLE_REASONS
        return (Coverage.UNKNOWN, None, False, ()) if is_denied else (Coverage.ACTIVE, True, False, status.pointers)
    if reason in codes.INELIGIBLE_REASONS:
        return *codes.INELIGIBLE_REASONS[reason], False, (body.at("statusReason").pointer,)
    return Coverage.UNKNOWN, None, True, ()


_LIMITS = {Kind.DEDUCTIBLE: "deductible", Kind.OUT_OF_POCKET_MAX: "outOfPocket"}


def _amounts(benefit: Node) -> list[Benefit]:
    about: dict[str, Any] = {
        "applies_to": AppliesTo.ASKED_SERVICE,
        "network": codes.NETWORK_STATUSES.get(_code(benefit, "networkStatus"), Network.UNKNOWN),
        "tier": benefit.read("tier", _tier).value,
        "accuracy": benefit.read("accuracy", _accuracy).value,
    }
    rows: list[tuple[Kind, Node, dict[str, Sourced[Decimal]]]] = [
        (Kind.COPAY, benefit, {"amount": benefit.read("copay", money)}),
        (Kind.COINSURANCE, benefit, {"percent": benefit.read("coinsurance", _fraction)}),
    ]
    for kind, key in _LIMITS.items():
        limit = benefit.at(key)
        amounts = {"total": limit.read("total", money), "remaining": limit.read("remaining", remaining)}
        rows.append((kind, limit, amounts))
    return [
        Benefit(
            kind=kind,
            level=LEVELS.get(_code(node, "coverageLevelCode"), Level.UNKNOWN),
            **about,
            **row(**amounts),
        )
        for kind, node, amounts in rows
        if any(amounts.values())
    ]


def _unreadable(body: Node) -> list[Warning_]:
    pointers = [
        at
        for benefit in body.rows("benefits")
        for found in (
            unreadable(benefit.read, money, "copay"),
            unreadable(benefit.read, _fraction, "coinsurance"),
            *(unreadable(benefit.at(key).read, money, "total") for key in _LIMITS.values()),
            *(unreadable(benefit.at(key).read, remaining, "remaining") for key in _LIMITS.values()),
        )
        for at in found
    ]
    days = unreadable(body.at("plan").read, stated_day, "startDate", "endDate", looks_right=looks_like_a_day)
    return unparsable(amounts=pointers, dates=days)


def _plan(body: Node) -> Plan:
    plan, group = body.at("plan"), body.at("group")
    type_ = plan.read("insuranceTypeCode", token)
    return Plan(
        **row(
            name=plan.text("name"),
            number=plan.text("number"),
            type=type_,
            network_id=plan.text("networkId"),
            starts_on=plan.read("startDate", stated_day),
            ends_on=plan.read("endDate", stated_day),
            group_number=group.text("number"),
            group_name=group.text("name"),
        ),
        type_name=EB04_NAMES.get(type_.value or ""),
    )


def _payer(body: Node) -> PayerAnswer:
    payer = body.at("payer")
    return PayerAnswer(**row(id=payer.text("id"), name=payer.text("name")))


def _subscriber(subscriber: Node) -> Member | None:
    member = _member(subscriber)
    return None if member == Member() else member


def _member(person: Node) -> Member:
    code = _code(person, "subscriberRelationshipCode")
    return Member(
        relationship=RELATIONSHIPS.get(code, PatientRelationship.UNKNOWN),
        **row(
            first_name=person.text("firstName"),
            last_name=person.text("lastName"),
            date_of_birth=person.read("dateOfBirth", stated_day),
            gender=person.text("gender"),
            member_id=person.text("memberId"),
            address=_address(person.at("address")),
        ),
    )


def _address(address: Node) -> Sourced[PostalAddress]:
    keys = {"line1": "address1", "line2": "address2", "city": "city", "state": "state", "zip": "zipCode"}
    parts = {name: part for name, key in keys.items() if (part := address.text(key))}
    if not parts:
        return Sourced(None)
    pointers = tuple(pointer for part in parts.values() for pointer in part.pointers)
    return Sourced(PostalAddress(**{name: part.value for name, part in parts.items()}), pointers)


def _order(entity: Node) -> str | None:
    return PAYER_ORDERS.get(_code(entity, "entityIdentifierCode"))


def _other_coverage(entity: Node) -> OtherCoverage:
    payer = {name: part for name in ("id", "name") if (part := entity.text(name))}
    named = Sourced(
        NamedPayer(**{name: part.value for name, part in payer.items()}) if payer else None,
        tuple(pointer for part in payer.values() for pointer in part.pointers),
    )
    return OtherCoverage(
        **row(
            order=entity.read("entityIdentifierCode", token).then(PAYER_ORDERS.get),
            payer=named,
            member_id=entity.text("memberId"),
            qualifier=entity.text("entityQualifier"),
        )
    )


def _related_entity(entity: Node) -> RelatedEntity:
    return RelatedEntity(
        role=ENTITY_ROLES.get(_code(entity, "entityIdentifierCode"), Role.OTHER),
        **row(
            entity_code=entity.read("entityIdentifierCode", token),
            name=entity.text("name"),
            id=entity.text("id"),
            type=entity.text("entityQualifier"),
        ),
    )


def _unknown_codes(body: Node) -> list[Warning_]:
    """One warning for each code that no table has; a code that is not stated is not unknown."""
    patient = body.at("patient")
    coded: list[tuple[Node, str, Container[str]]] = [
        *((benefit, "networkStatus", codes.NETWORK_STATUSES) for benefit in body.rows("benefits")),
        *((benefit.at("deductible"), "coverageLevelCode", LEVELS) for benefit in body.rows("benefits")),
        *((benefit.at("outOfPocket"), "coverageLevelCode", LEVELS) for benefit in body.rows("benefits")),
        (patient, "subscriberRelationshipCode", RELATIONSHIPS),
        (body.at("plan"), "insuranceTypeCode", EB04_NAMES),
    ]
    if body.read("status", token).value == codes.COMPLETE_INELIGIBLE:
        coded.append((body, "statusReason", codes.INELIGIBLE_REASONS))
    return [
        warning(WarningCode.UNKNOWN_CODE, node.at(key).pointer, detail=f"{key} {_code(node, key)}")
        for node, key, table in coded
        if _code(node, key) not in table and node.at(key).value not in (None, "")
    ]


def _contradiction(body: Node) -> list[Warning_]:
    """Eligible, with a reason why not."""
    status = body.read("status", token)
    if status.value != codes.COMPLETE_ELIGIBLE or _code(body, "statusReason") not in codes.INELIGIBLE_REASONS:
        return []
    said_at = (*status.pointers, body.at("statusReason").pointer)
    return [warning(WarningCode.SEVERAL_PLANS_DISAGREE, *said_at, detail="status")]


def _code(node: Node, key: str) -> str:
    """The code, "" if nothing is stated that could be one. Of Sohar's own words the case does not count."""
    code = node.read(key, token).value or ""
    return _CASES[key](code) if key in _CASES else code


_CASES = {"networkStatus": str.lower, "statusReason": str.upper}


def _tier(value: Any) -> str | None:
    return f"{value:g}" if isinstance(value, float) else text(value)


def _accuracy(value: Any) -> float | None:
    """Sohar's confidence, 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None
