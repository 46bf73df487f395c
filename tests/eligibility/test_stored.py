"""A result of any version is shown with every key that is documented today."""

from __future__ import annotations

from typing import Any

import orjson

from covergate.eligibility.result import Result
from covergate.eligibility.stored import FIRST_MAPPING_VERSION, with_every_key

PREVIOUS: dict[str, Any] = {
    "coverage": "active",
    "service_covered": True,
    "provider_in_network": None,
    "as_of": "2026-11-21",
    "answered_at": "2026-11-21T15:00:00Z",
    "services": [
        {
            **dict.fromkeys(("name", "authorization_note", "deductible_waived")),
            "code": "90837",
            "code_type": "procedure",
            "covered": True,
            "authorization_required": True,
            "sources": {},
        }
    ],
    "plan": {"name": "Choice Plus", "starts_on": "2026-01-01", "sources": {}},
    "payer": {"id": "60054", "name": "Aetna", "alternate": {"id": "1"}, "sources": {}},
    "patient": {"first_name": "Jane", "relationship": "self", "address": {"line1": "1 Main St"}, "sources": {}},
    "subscriber": None,
    "summary": {
        "in": {
            "copay": "30.00",
            "coinsurance_percent": None,
            "deductible": {
                "individual": {"total": "1000.00", "used": None, "remaining": "250.00"},
                "family": None,
                "unknown_level": None,
            },
            "out_of_pocket_max": {"individual": None, "family": None, "unknown_level": None},
            "authorization_required": None,
        },
        "out": None,
        "unknown": None,
    },
    "benefits": [
        {"kind": "copay", "network": "in", "amount": "30.00", "sources": {"amount": ["/exchanges/0/body/copay"]}},
        {
            "kind": "limitation",
            "quantity": {"unit": "visits", "total": 20},
            "authorization_required": True,
            "sources": {},
        },
    ],
    "other_coverage": [{"order": "primary", "payer": {"id": None, "name": "Sample Mutual"}, "sources": {}}],
    "related_entities": [{"role": "facility", "name": "Sample Clinic", "sources": {}}],
    "authorizations": [],
    "referral_required": None,
    "references": {"vendor_id": None, "trace_number": "T1", "call_reference": None, "representative": None},
    "payer_status": {"code": None, "text": None},
    "notes": [],
    "warnings": [{"code": "service_not_confirmed", "message": "…", "sources": []}],
}
"""As results were stored before they had plans, cost shares and whom to bill."""


def keys_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: keys_of(below) for name, below in value.items() if name != "sources"}
    return [keys_of(one) for one in value] if isinstance(value, list) else None


def test_an_older_result_gets_every_key_and_keeps_what_it_says() -> None:
    shown = with_every_key(PREVIOUS)
    whole = Result.model_validate_json(orjson.dumps(shown))
    dumped = whole.model_dump(mode="json")
    assert keys_of(shown) == keys_of(dumped)
    assert {**shown, "answered_at": None} == {**dumped, "answered_at": None}
    assert (shown["plans"], shown["bill_to"], shown["cost_shares"]) == ([], None, [])
    assert shown["mapping_version"] == FIRST_MAPPING_VERSION
    assert shown["summary"]["in"]["copay"] == "30.00"
    assert shown["benefits"][0]["sources"] == {"amount": ["/exchanges/0/body/copay"]}


def test_nothing_is_concluded_from_what_an_older_result_says() -> None:
    limitation = with_every_key(PREVIOUS)["benefits"][1]
    assert (limitation["authorization_required"], limitation["authorization"]) == (True, "unknown")


def test_a_result_of_today_is_shown_as_it_was_stored() -> None:
    stored = orjson.loads(orjson.dumps(with_every_key(PREVIOUS)))
    assert with_every_key(stored) == stored


def test_what_is_stored_is_not_changed() -> None:
    before = orjson.dumps(PREVIOUS)
    with_every_key(PREVIOUS)
    assert orjson.dumps(PREVIOUS) == before
