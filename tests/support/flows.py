"""A vendor's flow, driven over the recorded replies of a case (`tests/support/cases.py`)."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from covergate.eligibility.inquiry import Inquiry
from covergate.vendors.flow import Question, Reply
from covergate.vendors.vendor import Connection, Vendor
from tests.support.gateways import Surroundings, surroundings

NOW = "2026-11-21T17:00:00Z"


def question(vendor: Vendor, told: dict[str, Any]) -> Question:
    now = datetime.fromisoformat(told.get("now", NOW))
    return Question(
        inquiry=Inquiry.model_validate(told["inquiry"]).resolved(now),
        options=vendor.options.model_validate(told.get("options", {})),
        connection=_connection(vendor.connection, orjson.dumps(told.get("connection", {})), surroundings()),
        attempt_id=told.get("attempt_id", "att_01kaj0000000000000000000aa"),
        patient_key=told.get("patient_key", "5f0c2c7d9a1e4b68"),
        person_key=told.get("person_key", told.get("patient_key", "5f0c2c7d9a1e4b68")),
        now=now,
        account_is_own=told.get("account_is_own", False),
        submitted_at=datetime.fromisoformat(told["submitted_at"]) if "submitted_at" in told else None,
        checks=told.get("checks", 0),
        look_ups=told.get("look_ups", 0),
        payer_codes=told.get("payer_codes", {}),
    )


@lru_cache(maxsize=64)
def _connection(kind: Any, told: bytes, _: Surroundings) -> Connection:
    made: Connection = kind(_env_file=None, **orjson.loads(told))
    return made


def flow(vendor: Vendor, case: dict[str, Any], told: Question) -> Any:
    match case["flow"]:
        case "submit":
            return vendor.submit(told)
        case "check":
            assert vendor.check is not None
            return vendor.check(told, case["ref"])
        case "find":
            assert vendor.find is not None
            return vendor.find(told)
        case other:
            raise ValueError(other)


def reply(recorded: dict[str, Any], index: int, now: datetime) -> Reply:
    """Each reply is complete a second after the one before, the first at `now`."""
    content = recorded["text"].encode() if "text" in recorded else orjson.dumps(recorded["body"])
    headers = {"content-type": "application/json", **recorded.get("headers", {})}
    return Reply(recorded["status"], headers, content, f"/exchanges/{index}", now + timedelta(seconds=index))
