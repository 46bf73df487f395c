"""Every option of every vendor either names a record of the account, and is marked, or is listed here as none."""

from __future__ import annotations

import re
from typing import Annotated

import pytest

from covergate.vendors import VENDORS
from covergate.vendors.vendor import NamesRecord, Options, Vendor, record_names

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
