"""`not_asked` is what no call of `submit` depends on, leaf by leaf of the inquiry.

Each leaf of a complete inquiry is replaced by another value, in every submit case of the vendor, with a subscriber and
without; a leaf is asked if some call changes. A new field of the inquiry has to be added to `COMPLETE` and `OTHER`, and
then shows at which vendors it is missing from `asks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors import VENDORS, errors
from covergate.vendors.flow import Call, Question
from covergate.vendors.vendor import Vendor
from tests.support.cases import case_names, read_case
from tests.support.flows import question, reply

COMPLETE: dict[str, Any] = {
    "payer": {"id": "60054", "name": "Aetna", "directory_id": "pyr_aetna"},
    "patient": {
        "first_name": "Jane",
        "middle_name": "Quinn",
        "last_name": "Sample",
        "suffix": "Jr",
        "date_of_birth": "1990-09-20",
        "gender": "F",
        "member_id": "W000000001",
        "group_number": "G-1",
        "ssn": "900000001",
        "employer_name": "Acme Foods",
        "address": {"line1": "1 Main St", "line2": "Apt 2", "city": "Albany", "state": "NY", "zip": "12207"},
        "email": "jane@example.com",
        "phone": "518-555-0101",
    },
    "subscriber": {
        "patient_relationship": "spouse",
        "member_id": "W000000009",
        "first_name": "John",
        "middle_name": "Ray",
        "last_name": "Holder",
        "suffix": "Sr",
        "date_of_birth": "1988-02-03",
        "gender": "M",
        "ssn": "900000002",
        "employer_name": "Acme Tools",
        "address": {"line1": "3 Oak St", "line2": "Apt 4", "city": "Troy", "state": "NY", "zip": "12180"},
        "phone": "518-555-0102",
    },
    "coverage_order": "primary",
    "provider": {
        "npi": "1234567893",
        "rendering_npi": "1245319599",
        "tax_id": "900000003",
        "name": "Sample Clinic",
        "in_network": True,
        "address": {"line1": "5 Elm St", "line2": "Floor 6", "city": "Utica", "state": "NY", "zip": "13501"},
    },
    "service": {
        "date": "2026-11-21",
        "end_date": "2026-11-22",
        "service_type_codes": ["30", "98"],
        "procedure_codes": ["90837", "99213"],
        "diagnosis_codes": ["F41.1", "F32.9"],
        "place_of_service_code": "11",
        "specialty": "PSY",
    },
}
OTHER: dict[str, Any] = {
    "payer": {"id": "87726", "name": "Cigna", "directory_id": "pyr_cigna"},
    "patient": {
        "first_name": "Mary",
        "middle_name": "Vera",
        "last_name": "Other",
        "suffix": "II",
        "date_of_birth": "1991-10-21",
        "gender": "M",
        "member_id": "W000000002",
        "group_number": "G-2",
        "ssn": "900000004",
        "employer_name": "Other Foods",
        "address": {"line1": "7 Ash St", "line2": "Apt 8", "city": "Boston", "state": "MA", "zip": "02108"},
        "email": "mary@example.com",
        "phone": "617-555-0103",
    },
    "subscriber": {
        "patient_relationship": "child",
        "member_id": "W000000008",
        "first_name": "Paul",
        "middle_name": "Sam",
        "last_name": "Keeper",
        "suffix": "III",
        "date_of_birth": "1987-03-04",
        "gender": "F",
        "ssn": "900000005",
        "employer_name": "Other Tools",
        "address": {"line1": "9 Fir St", "line2": "Apt 10", "city": "Salem", "state": "MA", "zip": "01970"},
        "phone": "617-555-0104",
    },
    "coverage_order": "secondary",
    "provider": {
        "npi": "1245319599",
        "rendering_npi": "1234567893",
        "tax_id": "900000006",
        "name": "Other Clinic",
        "in_network": False,
        "address": {"line1": "11 Yew St", "line2": "Floor 12", "city": "Lowell", "state": "MA", "zip": "01850"},
    },
    "service": {
        "date": "2026-12-01",
        "end_date": "2026-12-02",
        "service_type_codes": ["35", "MH"],
        "procedure_codes": ["97161", "97153"],
        "diagnosis_codes": ["F33.0", "F84.0"],
        "place_of_service_code": "22",
        "specialty": "PCH",
    },
}

KEPT_FROM_THE_CASE = (
    ("payer", "id"),
    *(("patient", name) for name in ("first_name", "last_name", "date_of_birth", "member_id")),
)
"""The recorded replies are about this patient and this payer."""

IN_NO_CALL: dict[str, dict[str, str]] = {
    "vsee": {
        "/payer/id": "the carrier code, of the directory or the options, names the payer",
        "/payer/name": "as above",
        "/service/service_type_codes/0": "30, which every check is about",
    },
}
"""Leaves by vendor that change no call and yet are not in `not_asked`, since they decide about the check all the same."""

IN_CALLS_ONLY: dict[str, dict[str, str]] = {
    "health_harbor": {
        "/service/service_type_codes/1": "chooses the questions of the call, which are answered by procedure code",
    },
}
"""Leaves by vendor that change a call and yet are in `not_asked`, since the answer says nothing of them."""

ROUTE = "/payer/directory_id"
"""Ours: it was resolved to the payer's other names before any vendor is asked."""


@pytest.mark.parametrize("with_subscriber", [True, False], ids=["subscriber", "no_subscriber"])
@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_not_asked_is_what_changes_no_call(vendor: Vendor, with_subscriber: bool) -> None:
    asked: set[str] = set()
    said: set[frozenset[str]] = set()
    for case in submissions(vendor.name):
        told = question(
            vendor, {**case["question"], "inquiry": completed(case["question"]["inquiry"], with_subscriber)}
        )
        inquiry = told.inquiry.model_dump(mode="json")
        every = dict(leaves(inquiry))
        said.add(vendor.asked_nothing_of(told.inquiry, told.today))
        before = calls_of(vendor, told, case)
        for pointer in every.keys() - asked:
            changed = replace(told, inquiry=Inquiry.model_validate(with_other(inquiry, pointer)))
            if calls_of(vendor, changed, case) != before:
                asked.add(pointer)
    (not_asked,) = said
    covered = {pointer for pointer in every if any(is_below(pointer, prefix) for prefix in not_asked)}
    silent = every.keys() - asked - {ROUTE}
    assert silent - covered == IN_NO_CALL.get(vendor.name, {}).keys()
    assert covered - silent == IN_CALLS_ONLY.get(vendor.name, {}).keys()


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_each_pointer_of_not_asked_is_a_field_and_said_once(vendor: Vendor) -> None:
    every = [pointer for pointer, _ in leaves(COMPLETE)]
    assert not [prefix for prefix in vendor.not_asked if not any(is_below(pointer, prefix) for pointer in every)]
    assert not [
        (one, other) for one in vendor.not_asked for other in vendor.not_asked if one != other and is_below(one, other)
    ]


def test_the_two_inquiries_are_complete_and_differ_in_every_leaf() -> None:
    for told in (COMPLETE, OTHER):
        assert not list(left_out(Inquiry.model_validate(told).model_dump(mode="json")))
    assert not dict(leaves(COMPLETE)).items() & dict(leaves(OTHER)).items()


def submissions(vendor: str) -> list[dict[str, Any]]:
    cases = [read_case(vendor, name) for of, name in case_names() if of == vendor]
    return [case for case in cases if case.get("flow") == "submit"]


def completed(inquiry: dict[str, Any], with_subscriber: bool) -> dict[str, Any]:
    """The complete inquiry about the patient and the payer of a case."""
    told = {**COMPLETE, "patient": dict(COMPLETE["patient"]), "payer": dict(COMPLETE["payer"])}
    for part, name in KEPT_FROM_THE_CASE:
        told[part][name] = inquiry[part].get(name)
    if not with_subscriber:
        told["subscriber"] = None
    return told


def leaves(value: Any, pointer: str = "") -> Iterator[tuple[str, Any]]:
    """JSON pointer and value of everything that is neither an object nor a list, null excepted."""
    if isinstance(value, dict | list):
        for name, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(member, f"{pointer}/{name}")
    elif value is not None:
        yield pointer, value


def left_out(value: Any, pointer: str = "") -> Iterator[str]:
    """Pointers to what is null or empty."""
    if value in (None, [], {}):
        yield pointer
    for name, member in value.items() if isinstance(value, dict) else ():
        yield from left_out(member, f"{pointer}/{name}")


def with_other(inquiry: dict[str, Any], pointer: str) -> dict[str, Any]:
    """The inquiry with the leaf of `OTHER`."""
    changed: dict[str, Any] = put(
        inquiry, OTHER, [int(step) if step.isdigit() else step for step in pointer.split("/")[1:]]
    )
    return changed


def put(value: Any, other: Any, path: list[Any]) -> Any:
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], other[path[0]], path[1:])
    return copy


def calls_of(vendor: Vendor, told: Question, case: dict[str, Any]) -> list[Call]:
    """The calls of `submit` until it ends, or until the recorded replies do: they may not fit a changed inquiry."""
    calls: list[Call] = []
    flow = vendor.submit(told)
    try:
        calls.append(next(flow))
        for index, exchange in enumerate(case["exchanges"]):
            calls.append(flow.send(reply(exchange["reply"], index, told.now)))
    except (StopIteration, errors.VendorError):
        pass
    return calls


def is_below(pointer: str, prefix: str) -> bool:
    return pointer == prefix or pointer.startswith(f"{prefix}/")
