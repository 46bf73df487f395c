"""Options that name a record of the account are marked, and every reply about a record is told from one about somebody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest

from covergate.vendors import VENDORS
from covergate.vendors.flow import Call, Reply, drive
from covergate.vendors.vendor import NamesRecord, Options, Vendor, record_names
from tests.support.cases import case_names, read_case
from tests.support.flows import flow, question, reply

NO_RECORDS: dict[str, dict[str, str]] = {
    "health_harbor": {
        "call_script_id": "a script of the vendor's own, about no person",
        "benefits_codes": "codes of procedures",
    },
    "healthie": {"insurance_plan_id": "one list of plans for everybody in the account"},
    "integrex": {
        "account_number_1": "our own reference, which comes back with the answer and finds nothing",
        "account_number_2": "as above",
    },
    "vsee": {"carrier_code": "a payer of the vendor's own list"},
}
"""Options that look like references and name no record."""

REFERENCE = re.compile(r"(^|_)(id|ids|ref|key|code|codes|number|token|uuid)($|_)")
"""In the name of an option that may refer to something."""


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS)
def test_an_option_that_may_refer_to_something_is_marked_or_listed(vendor: Vendor) -> None:
    marked = set(record_names(vendor.options))
    referring = {name for name in vendor.options.model_fields if REFERENCE.search(name)}
    listed = NO_RECORDS.get(vendor.name, {}).keys()
    assert not referring - marked - listed, "mark it with NamesRecord, or say here why it names no record"
    assert not marked & listed
    assert listed <= referring


def test_the_marked_ones() -> None:
    marked = {vendor.name: record_names(vendor.options) for vendor in VENDORS.values() if record_names(vendor.options)}
    assert marked == {"healthie": ("user_id", "policy_id", "dietitian_id")}


def test_only_options_that_are_given_name_a_record() -> None:
    class Some(Options):
        chart_id: Annotated[str | None, NamesRecord()] = None
        note: str | None = None

    assert Some(note="x").named_records == ()
    assert Some(chart_id="1", note="x").named_records == ("chart_id",)


OF_NOBODY = "insurancePlans"
"""Healthie's one operation that is about no patient."""


def exchanges_of(case: dict[str, Any]) -> Iterator[tuple[Call, Reply]]:
    told = question(VENDORS["healthie"], case["question"])
    replies = [reply(exchange["reply"], index, told.now) for index, exchange in enumerate(case["exchanges"])]
    calls, _ = drive(flow(VENDORS["healthie"], case, told), replies)
    return zip(calls, replies, strict=True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for vendor, name in case_names()
        if vendor == "healthie"
        for kind in read_case(vendor, name).get("progress", {})
        if kind != "raises"
    ],
)
def test_every_reply_about_a_patient_is_told_from_one_about_somebody_else(name: str, kind: str) -> None:
    """And of an answer the last reply is kept whole: `sources` point into it."""
    *earlier, (last, answer) = exchanges_of(read_case("healthie", name))
    for call in [*(call for call, _ in earlier), last]:
        of_nobody = call.json["operationName"] == OF_NOBODY
        assert (call.is_about_patient is None) == of_nobody, call.json["operationName"]
    if kind == "answered":
        assert last.is_about_patient is not None and last.is_about_patient(answer)
