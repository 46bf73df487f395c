"""Which of Healthie's insurance plans the asked payer is, and their list of plans for the payer directory.

Several plans may share one payer id; they lead to the same payer, and one that the organization accepts is preferred.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorBroken
from covergate.vendors.flow import Call, ListedPayer, PayersFlow, Question, Reply
from covergate.vendors.healthie.documents import INSURANCE_PLANS
from covergate.vendors.healthie.operation import elements, operation, payload

PAGE = 10
"""Their page size; an offset past the end gives an empty list."""
LONGEST_SEARCH = 20
LONGEST_LIST = 1000
"""Pages."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan, as far as it is known."""

    id: str | None = None
    payer_id: str | None = None
    payer_name: str | None = None

    def is_of(self, policy: Node) -> bool:
        """Whether the policy is with this plan's payer."""
        theirs = policy.at("insurance_plan")
        if self.id is not None and theirs.text("id").value == self.id:
            return True
        if self.payer_id is not None:
            return _same(theirs.text("payer_id").value, self.payer_id)
        return (
            self.id is None and self.payer_name is not None and _same(theirs.text("payer_name").value, self.payer_name)
        )


def asked_plan(question: Question) -> Plan:
    """The plan as the inquiry, the options and the payer directory name it."""
    codes, payer = question.payer_codes, question.inquiry.payer
    return Plan(
        id=question.options.insurance_plan_id or codes.get("insurance_plan_id"),
        payer_id=codes.get("payer_id") or payer.id,
        payer_name=payer.name,
    )


def resolved_plan(question: Question) -> Generator[Call, Reply, Plan | Failure]:
    """The plan with its id: an exact match on the payer id, or on the name where there is no id."""
    asked = asked_plan(question)
    if asked.id is not None:
        return asked
    keywords = asked.payer_id or asked.payer_name
    found: list[Node] = []
    for page in range(LONGEST_SEARCH):
        reply = yield operation(INSURANCE_PLANS, {"keywords": keywords, "offset": page * PAGE})
        rows = _rows(reply)
        if isinstance(rows, Failure):
            return rows
        found += [row for row in rows if _is_asked(row, asked)]
        if not rows or any(row.at("is_accepted").value is True for row in found):
            break
    if not found:
        return failure(FailureCode.PAYER_NOT_RECOGNIZED)
    if len({row.text("payer_id").value for row in found}) > 1:
        return failure(FailureCode.PAYER_NOT_RECOGNIZED, vendor_code="several_payers")
    best = min(found, key=lambda row: _preference(row, asked))
    return Plan(best.text("id").value, best.text("payer_id").value, best.text("payer_name").value)


def list_payers(connection: Any) -> PayersFlow:
    """The plans that the organization accepts; any other is found by its payer id when it is asked for."""
    listed: list[ListedPayer] = []
    for page in range(LONGEST_LIST):
        reply = yield operation(INSURANCE_PLANS, {"is_accepted": True, "offset": page * PAGE})
        rows = _rows(reply)
        if isinstance(rows, Failure):
            raise VendorBroken("the list of plans was refused", sent=True, reply=reply)
        for row in rows:
            plan_id, payer_id = row.text("id").value, row.text("payer_id").value
            name = row.text("payer_name").value
            if plan_id and payer_id and name:
                codes = {"insurance_plan_id": plan_id, "payer_id": payer_id}
                listed.append(ListedPayer(name=name, codes=codes, electronic_id=payer_id))
        if not rows:
            break
    return listed


def _rows(reply: Reply) -> list[Node] | Failure:
    plans = payload(reply, "insurancePlans")
    return plans if isinstance(plans, Failure) else elements(plans)


def _is_asked(row: Node, asked: Plan) -> bool:
    if row.text("id").value is None:
        return False
    if asked.payer_id is not None:
        return _same(row.text("payer_id").value, asked.payer_id)
    return asked.payer_name is not None and _same(row.text("payer_name").value, asked.payer_name)


def _preference(row: Node, asked: Plan) -> tuple[bool, bool, str]:
    named = asked.payer_name is not None and _same(row.text("payer_name").value, asked.payer_name)
    return row.at("is_accepted").value is not True, not named, str(row.at("id").value)


def _same(one: str | None, other: str) -> bool:
    return one is not None and one.strip().casefold() == other.strip().casefold()
