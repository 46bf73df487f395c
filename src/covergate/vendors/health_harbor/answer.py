"""From an inquiry that has ended to an `Answer` (plan, maximums, one answer per procedure code) or the reason for none.

Source: the page on reading an inquiry. Money and percentages are strings; blank is not stated. Text in place of an amount or
a date ("after deductible") is kept as a note. Recordings and transcripts stay in the raw reply.

The answers are about the provider of the inquiry, but no benefit says in which network it holds: `network` stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from covergate.eligibility.answer import Answer
from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.eligibility.result import Benefit, Plan, References, ServiceAnswer
from covergate.eligibility.sentinels import means_no_limit
from covergate.eligibility.sourced import Sourced, money, pointer
from covergate.eligibility.terms import AppliesTo, CodeType, Coverage, Kind, Period, WarningCode
from covergate.eligibility.warning import warning
from covergate.vendors.document import (
    Node,
    is_met,
    is_text,
    iso_instant,
    looks_like_a_number,
    no_limit,
    number_in_words,
    row,
    stated_day,
    unreadable,
    waived_in_words,
    whole_percent,
)
from covergate.vendors.flow import Reply
from covergate.vendors.health_harbor.codes import MAXIMUMS, PLAN_TYPES, CallState, call_state

_COVERAGE: dict[bool | None, Coverage] = {True: Coverage.ACTIVE, False: Coverage.INACTIVE, None: Coverage.UNKNOWN}

_KNOWN_RESULTS = frozenset({"plan_information", "maximums", "procedure_codes", "call_details"})
_MOST_OTHERS, _LONGEST_OTHER, _DEEPEST_OTHER = 50, 500, 4
"""Of other answers become notes: so many, of so many characters each, and so deep at most."""

_PLAN_QUESTIONS = ("is_active", "is_provider_in_network", "is_primary_insurance", "is_calendar_year_plan")
_CODE_QUESTIONS = ("is_covered", "is_prior_auth_required", "is_deductible_waived")
_AMOUNTS = [field for name in MAXIMUMS for field in (name, f"{name}_used")]

_TELLING_FIELDS: dict[str, FailureCode] = {
    "member_id": FailureCode.MEMBER_ID_INVALID,
    "dob": FailureCode.MEMBER_DOB_MISMATCH,
    "patient_name": FailureCode.MEMBER_NAME_MISMATCH,
    "insurance": FailureCode.PAYER_NOT_RECOGNIZED,
    "insurance_payor_id": FailureCode.PAYER_NOT_RECOGNIZED,
}


def answer_of(inquiry: Inquiry, reply: Reply) -> Answer | Failure | None:
    """None while the call goes on. `SUCCESS` without results is no answer yet."""
    body = reply.body
    state = call_state(body.get("status"))
    if state is CallState.FAILED:
        summary = body.get("summary")
        return failure(
            FailureCode.VENDOR_COULD_NOT_ANSWER,
            vendor_code=body["status"],
            vendor_message=summary if isinstance(summary, str) and summary else None,
        )
    if state is CallState.FINISHED and body.get("results") is not None:
        return _stated(inquiry, reply)
    return None


def rejection_of(reply: Reply) -> Failure:
    """The reason in a 4xx: a 422 names the fields that were not accepted (`tax_id, dob`), any other has only its status."""
    errors = reply.body.get("detail") if isinstance(reply.body, dict) else None
    if isinstance(errors, str):
        return failure(FailureCode.REQUEST_REJECTED, vendor_code=str(reply.status), vendor_message=errors)
    rows = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    fields = [str(error["loc"][-1]) for error in rows if isinstance(error.get("loc"), list) and error["loc"]]
    words = [str(error["msg"]) for error in rows if "msg" in error]
    # Fields of the patient alone, or of the payer: these are to be mended. With any other beside them the whole request is.
    codes = [_TELLING_FIELDS.get(field, FailureCode.REQUEST_REJECTED) for field in fields]
    code = FailureCode.REQUEST_REJECTED if not codes or FailureCode.REQUEST_REJECTED in codes else codes[0]
    return failure(
        code,
        vendor_code=", ".join(dict.fromkeys(fields)) or str(reply.status),
        vendor_message="; ".join(words) or None,
    )


def _stated(inquiry: Inquiry, reply: Reply) -> Answer:
    body = Node(reply.body, reply.body_pointer)
    results = body.at("results")
    plan = results.at("plan_information")
    call = _last_call(results.at("call_details"))
    answered_at = iso_instant(call.text("call_end_time").value, reply.at)
    pairs, unread = _pairs(results.at("procedure_codes"))
    if not isinstance(results.value, dict):
        unread.append(results.pointer)
    unread += unreadable(results.at("maximums").read, money, *_AMOUNTS, looks_right=_is_bare_number)
    for _, details in pairs:
        unread += unreadable(details.read, money, "copay_amount", looks_right=_is_bare_number)
        unread += unreadable(details.read, whole_percent, "coinsurance_percentage", looks_right=_is_bare_number)
    services = [_service(code, details) for code, details in pairs]
    maximums = results.at("maximums")
    notes = [
        *_unread(plan, stated_day, "effective_date", "termination_date"),
        *_unread(plan, _is_plain, *_PLAN_QUESTIONS),
        *_unread(maximums, _figure, *_AMOUNTS),
        *(
            f"{code.text('procedure_code').value} {words}"
            for code, details in pairs
            for words in _unread(details, _is_plain, *_CODE_QUESTIONS)
        ),
    ]
    notes += _other_answers(results)
    if summary := body.text("summary").value:
        notes.append(summary)
    active, in_network = plan.read("is_active", _yes_or_no), plan.read("is_provider_in_network", _yes_or_no)
    return Answer(
        coverage=_COVERAGE[active.value],
        service_covered=None if inquiry.service.procedure_codes else _unanimous(services),
        provider_in_network=in_network.value,
        sources=row(coverage=active, provider_in_network=in_network)["sources"],
        as_of=today_eastern(answered_at),
        answered_at=answered_at,
        services=services,
        plan=_plan(plan),
        benefits=_maximums(maximums, plan) + [row for pair in pairs for row in _benefits(inquiry, *pair)],
        references=References(
            vendor_id=body.text("id").value,
            call_reference=call.text("reference_number").value,
            representative=call.text("representative_name").value,
        ),
        notes=notes,
        warnings=[warning(WarningCode.RAW_UNPARSABLE, *unread)] if unread else [],
    )


def _other_answers(results: Node) -> list[str]:
    """The answers to questions that the page does not show, such as those of a customer's own query, each with its question."""
    if not isinstance(results.value, dict):
        return []
    others = [name for name in sorted(results.value) if name not in _KNOWN_RESULTS]
    told = [f"{question}: {said}" for name in others for question, said in _answered(results.at(name), (name,))]
    return told[:_MOST_OTHERS]


def _answered(node: Node, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(node.value, dict):
        for name in node.value if len(names) < _DEEPEST_OTHER else ():
            yield from _answered(node.at(name), (*names, name))
        return
    elements = node.value if isinstance(node.value, list) else [node.value]
    said = ", ".join(_word(element) for element in elements if isinstance(element, str | int | float))
    if said.strip():
        yield ".".join(names), said[:_LONGEST_OTHER]


def _word(said: str | float) -> str:
    if isinstance(said, bool):
        return "yes" if said else "no"
    return str(said)


def _unanimous(services: list[ServiceAnswer]) -> bool | None:
    """If no procedure code was asked, the rows are the vendor's own notion of the service, which counts if they agree."""
    covered = {service.covered for service in services}
    return covered.pop() if len(covered) == 1 else None


def _plan(plan: Node) -> Plan:
    plan_type = plan.text("plan_type")
    return Plan(
        **row(
            type=plan_type.then(lambda words: PLAN_TYPES.get(words.upper())),
            type_name=plan_type,
            is_calendar_year=plan.read("is_calendar_year_plan", _yes_or_no),
            is_primary=plan.read("is_primary_insurance", _yes_or_no),
            starts_on=plan.read("effective_date", stated_day),
            ends_on=plan.read("termination_date", stated_day),
        )
    )


def _maximums(maximums: Node, plan: Node) -> list[Benefit]:
    period = plan.read("is_calendar_year_plan", lambda value: Period.CALENDAR_YEAR if value is True else None)
    benefits: list[Benefit] = []
    for name, (kind, level) in MAXIMUMS.items():
        total, used = maximums.read(name, _total_of[kind]), maximums.read(f"{name}_used", money)
        met, unlimited = maximums.read(f"{name}_used", is_met), maximums.read(name, no_limit)
        if total or used or unlimited:
            left = _difference(total, used) | met.then(lambda _: _NOTHING)
            amounts = row(total=total, used=used, remaining=left, unlimited=unlimited, period=period)
            benefits.append(Benefit(kind=kind, applies_to=AppliesTo.PLAN, level=level, **amounts))
    return benefits


def _deductible(value: Any) -> Decimal | None:
    return _NOTHING if is_text(value) and _NO_DEDUCTIBLE.fullmatch(value.strip().casefold()) else money(value)


def _figure(value: Any) -> Decimal | bool | None:
    """Anything that is read in the place of a maximum, or of what is used of it."""
    found: tuple[Decimal | bool | None, ...] = (_deductible(value), no_limit(value), is_met(value))
    return next((one for one in found if one is not None), None)


_NOTHING = Decimal("0.00")
_NO_DEDUCTIBLE = re.compile(r"(there is )?no deductible")
_total_of: dict[Kind, Callable[[Any], Decimal | None]] = {Kind.DEDUCTIBLE: _deductible, Kind.OUT_OF_POCKET_MAX: money}


def _difference(total: Sourced[Decimal], used: Sourced[Decimal]) -> Sourced[Decimal]:
    if total.value is None or used.value is None or means_no_limit(total.value):
        return Sourced(None)
    return Sourced(max(total.value - used.value, _NOTHING), total.pointers + used.pointers)


def _pairs(procedures: Node) -> tuple[list[tuple[Node, Node]], list[str]]:
    """`procedure_codes` as (code, details), and the pointers to whatever is not such a pair.

    It is a list of two-element lists: a mapping whose keys are objects, serialized.
    """
    if not isinstance(procedures.value, list):
        return [], [] if procedures.value is None else [procedures.pointer]
    pairs: list[tuple[Node, Node]] = []
    unread: list[str] = []
    for index, pair in enumerate(procedures.value):
        at = pointer(procedures.pointer, index)
        match pair:
            case [{"procedure_code": str(code)}, dict()] if code.strip():
                pairs.append((Node(pair[0], pointer(at, 0)), Node(pair[1], pointer(at, 1))))
            case _:
                unread.append(at)
    return pairs, unread


def _service(code: Node, details: Node) -> ServiceAnswer:
    return ServiceAnswer(
        code_type=CodeType.PROCEDURE,
        **row(
            code=code.text("procedure_code"),
            name=code.text("procedure_name"),
            covered=details.read("is_covered", _yes_or_no),
            authorization_required=details.read("is_prior_auth_required", _yes_or_no),
            authorization_note=details.text("prior_auth_info"),
            deductible_waived=details.read("is_deductible_waived", _yes_or_no),
        ),
    )


def _benefits(inquiry: Inquiry, code: Node, details: Node) -> list[Benefit]:
    """Covered or not, copay, coinsurance and limits: one row for each that is stated."""
    applies_to = AppliesTo.CODES if inquiry.service.procedure_codes else AppliesTo.ASKED_SERVICE
    named = row(
        description=code.text("procedure_name"),
        procedure_codes=code.text("procedure_code").then(lambda value: [value]),
    )
    authorization = details.read("is_prior_auth_required", _yes_or_no)
    waived = details.read("is_deductible_waived", _yes_or_no)
    rows: list[Benefit] = []

    def add(kind: Kind, **stated: Sourced[Any]) -> None:
        values = row(**stated)
        sources = {**named["sources"], **values["sources"]}
        rows.append(Benefit(**{"kind": kind, "applies_to": applies_to, **named, **values, "sources": sources}))

    covered = details.read("is_covered", _yes_or_no)
    if covered.value is not None:
        add(_COVERED[covered.value], authorization_required=authorization)
    for kind, field, key, convert in (
        (Kind.COPAY, "amount", "copay_amount", money),
        (Kind.COINSURANCE, "percent", "coinsurance_percentage", whole_percent),
    ):
        number, words = details.read(key, number_in_words).then(convert), details.text(key)
        cost: dict[str, Sourced[Any]] = {field: number} if number else {"notes": _as_note(words)}
        if number or words:
            said = waived | details.read(key, waived_in_words)
            add(kind, **cost, authorization_required=authorization, deductible_waived=said)
    limits = [details.text("frequency_limitations"), details.text("limitations")]
    if any(limits):
        add(Kind.LIMITATION, notes=_as_note(*limits))
    return rows


_COVERED: dict[bool, Kind] = {True: Kind.COVERAGE, False: Kind.NON_COVERED}


def _as_note(*texts: Sourced[str]) -> Sourced[list[str]]:
    stated = [text for text in texts if text]
    return Sourced(
        [text.value for text in stated if text.value is not None],
        tuple(place for text in stated for place in text.pointers),
    )


def _unread(node: Node, convert: Callable[[Any], Any], *fields: str) -> list[str]:
    """Text in place of an amount or a date, for a person to read."""
    texts = ((field, node.text(field).value) for field in fields if not node.read(field, convert))
    return [f"{field}: {words}" for field, words in texts if words is not None]


def _is_bare_number(value: Any) -> bool | None:
    """None for anything with letters in it, such as "$30 after the deductible": that is a note."""
    return looks_like_a_number(value) and (None if any(map(str.isalpha, str(value))) else True)


def _yes_or_no(value: Any) -> bool | None:
    """A boolean, or the words of the representative that begin with a plain yes or no."""
    if isinstance(value, bool):
        return value
    match = _YES_OR_NO.match(value.strip().casefold()) if is_text(value) else None
    return None if match is None else match["no"] is None


_YES_OR_NO = re.compile(r"(?:yes|true|(?P<no>no|false))(?=[,.;:]|$)")


def _is_plain(value: Any) -> bool | None:
    """Whether it says nothing beside yes or no."""
    return (
        True if isinstance(value, bool) or (is_text(value) and _YES_OR_NO.fullmatch(value.strip().casefold())) else None
    )


def _last_call(details: Node) -> Node:
    """The last call that has a reference number: a list in the newer page, one object in the older."""
    if isinstance(details.value, dict):
        return details
    rows = details.value if isinstance(details.value, list) else []
    calls = [Node(call, details.pointer) for call in rows if isinstance(call, dict)]
    with_reference = [call for call in calls if call.text("reference_number")]
    return (with_reference or calls or [Node(None, details.pointer)])[-1]
