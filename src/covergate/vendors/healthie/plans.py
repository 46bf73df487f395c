"""Healthie's insurance plans: the one that the inquiry's payer is, and the list of them, page by page.

Several plans may share one payer id; they lead to the same payer, and one that the organization accepts is preferred.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.document import Node
from covergate.vendors.flow import Call, Question, Reply
from covergate.vendors.healthie.documents import INSURANCE_PLANS
from covergate.vendors.healthie.graphql import operation, payload

_PAGE = 10
"""Healthie's page size; an offset past the end gives an empty list."""
_LONGEST_SEARCH = 20
"""Pages."""


@dataclass(frozen=True, slots=True)
class InsurancePlan:
    """A plan, as far as it is known."""

    id: str | None = None
    payer_id: str | None = None
    payer_name: str | None = None

    def is_of(self, policy: Node) -> bool:
        """Whether the policy is with this plan's payer."""
        plan = policy.at("insurance_plan")
        if self.id is not None and plan.text("id").value == self.id:
            return True
        if self.payer_id is not None:
            return _same(plan.text("payer_id").value, self.payer_id)
        return self.id is None and self.payer_name is not None and _same(plan.text("payer_name").value, self.payer_name)


def asked_plan(question: Question) -> InsurancePlan:
    """The plan as the inquiry, the options and the payer directory name it."""
    codes, payer = question.payer_codes, question.inquiry.payer
    return InsurancePlan(
        id=question.options.insurance_plan_id or codes.get("insurance_plan_id"),
        payer_id=codes.get("payer_id") or payer.id,
        payer_name=payer.name,
    )


def resolved_plan(question: Question) -> Generator[Call, Reply, InsurancePlan | Failure]:
    """The plan with its id: an exact match on the payer id, or on the name if there is no id.

    With `accepted_only` a plan whose id is known is searched for by the payer's id or name, for only the list tells.
    """
    asked, accepted_only = asked_plan(question), _accepted_only(question)
    if asked.id is not None and not accepted_only:
        return asked
    keywords = asked.payer_id or asked.payer_name
    matching: list[Node] = []
    for page in range(_LONGEST_SEARCH):
        rows = plans_of((yield page_of_plans(page, keywords=keywords)))
        if isinstance(rows, Failure):
            return rows
        matching += [row for row in rows if _is_asked(row, asked)]
        if not rows or any(_is_accepted(row) for row in matching):
            break
    if asked.id is not None:
        return asked if any(_is_accepted(row) for row in matching) else _not_accepted()
    if not matching:
        return failure(FailureCode.PAYER_NOT_RECOGNIZED)
    if len({row.text("payer_id").value for row in matching}) > 1:
        return failure(FailureCode.PAYER_NOT_RECOGNIZED, vendor_code="several_payers")
    best = min(matching, key=lambda row: _preference(row, asked))
    if accepted_only and not _is_accepted(best):
        return _not_accepted()
    return InsurancePlan(best.text("id").value, best.text("payer_id").value, best.text("payer_name").value)


def page_of_plans(page: int, **filters: str | bool | None) -> Call:
    return operation(INSURANCE_PLANS, {**filters, "offset": page * _PAGE})


def plans_of(reply: Reply) -> list[Node] | Failure:
    plans = payload(reply, "insurancePlans")
    return plans if isinstance(plans, Failure) else plans.objects()


def _accepted_only(question: Question) -> bool:
    told: bool | None = question.options.accepted_only
    return bool(question.connection.accepted_only) if told is None else told


def _is_accepted(row: Node) -> bool:
    return row.at("is_accepted").value is True


def _not_accepted() -> Failure:
    """Told before the check that costs: the claim would be out of the organization's contracts."""
    return failure(FailureCode.PAYER_NOT_SUPPORTED, vendor_code="plan_not_accepted")


def _is_asked(row: Node, asked: InsurancePlan) -> bool:
    if asked.id is not None:
        return row.text("id").value == asked.id
    if row.text("id").value is None:
        return False
    if asked.payer_id is not None:
        return _same(row.text("payer_id").value, asked.payer_id)
    return asked.payer_name is not None and _same(row.text("payer_name").value, asked.payer_name)


def _preference(row: Node, asked: InsurancePlan) -> tuple[bool, bool, str]:
    named = asked.payer_name is not None and _same(row.text("payer_name").value, asked.payer_name)
    return not _is_accepted(row), not named, str(row.at("id").value)


def _same(one: str | None, other: str) -> bool:
    return one is not None and one.strip().casefold() == other.strip().casefold()
