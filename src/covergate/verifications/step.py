"""Everything that one step of a verification works with, made from the state that was read."""

from __future__ import annotations

from dataclasses import dataclass, field

from covergate.db.sealing import Sealer
from covergate.eligibility.inquiry import Inquiry, today_eastern
from covergate.gateway import Gateway
from covergate.vendors import VENDORS
from covergate.vendors.flow import Question
from covergate.vendors.vendor import Connection, Vendor
from covergate.verifications.state import State


@dataclass(frozen=True, slots=True)
class Step:
    """`may_go_on`: whoever makes it also makes the next one where that is due already."""

    seen: State
    vendor: Vendor
    connection: Connection
    question: Question
    not_asked: frozenset[str]
    may_go_on: bool
    sealer: Sealer = field(repr=False)


def step_of(gateway: Gateway, seen: State, *, may_go_on: bool) -> Step | None:
    """None where the vendor is not enabled (any more)."""
    vendor = VENDORS.get(seen.attempt.vendor)
    connection = gateway.account(seen.mode, seen.attempt.vendor)
    if vendor is None or connection is None:
        return None
    asked = gateway.sealer.open_json("verifications", "inquiry", seen.id, seen.inquiry_sealed)
    inquiry = Inquiry.model_validate(asked["inquiry"])
    question = Question(
        inquiry=inquiry,
        options=vendor.options.model_validate(asked["vendor_options"].get(vendor.name) or {}),
        connection=connection,
        attempt_id=seen.attempt.id,
        patient_key=asked["patient_key"],
        now=seen.now,
        submitted_at=seen.attempt.submitted_at or seen.attempt.intent_at,
        checks=seen.attempt.checks,
        payer_codes=asked["payer_codes"].get(vendor.name) or {},
    )
    not_asked = vendor.asked_nothing_of(inquiry, today_eastern(seen.now))
    return Step(seen, vendor, connection, question, not_asked, may_go_on, gateway.sealer)
