"""Change Healthcare's eligibility JSON as EB rows: Healthie's checks before it moved to Claim.MD.

Only old checks hold it; Healthie says that the integration is discontinued. The field names are those of that product's
public schema, the codes X12's (docs/vendors/healthie.md#readings).
"""

from __future__ import annotations

from covergate.eligibility.sourced import Sourced
from covergate.eligibility.x12.rows import Days, EbRow, dtp, element
from covergate.vendors.document import Node, text
from covergate.vendors.healthie.claim_md import CheckResponse, sort_errors, split_codes

_MARKS = frozenset({"benefitsInformation", "planStatus", "errors", "controlNumber"})
"""A document with none of these is not one of Change Healthcare's."""

# Field of `planDateInformation` → DTP qualifier.
_DATES = {
    "plan": "291",
    "planBegin": "346",
    "planEnd": "347",
    "eligibility": "307",
    "eligibilityBegin": "356",
    "eligibilityEnd": "357",
}


def change_healthcare(document: Node) -> CheckResponse | None:
    if not isinstance(document.value, dict) or _MARKS.isdisjoint(document.value):
        return None
    errors = [*document.at("errors").objects(), *document.at("subscriber").at("aaaErrors").objects()]
    aaas, others = sort_errors(errors, "code", "description")
    benefits = document.at("benefitsInformation").objects()
    rows = [_row(benefit) for benefit in benefits] or [
        _status(status) for status in document.at("planStatus").objects()
    ]
    return CheckResponse(
        rows=tuple(rows),
        plan_days=tuple(_plan_days(document.at("planDateInformation"))),
        aaas=aaas,
        errors=others,
        message=next((words for error in errors if (words := error.text("description").value)), None),
    )


def _row(benefit: Node) -> EbRow:
    def of(key: str) -> Sourced[str]:
        return element(benefit.at(key).value, benefit.at(key).pointer)

    notes = [
        note
        for part in benefit.at("additionalInformation").objects()
        for note in split_codes(part.at("description"), by=None)
    ]
    return EbRow(
        eb01=of("code"),
        eb02=of("coverageLevelCode"),
        eb03=tuple(split_codes(benefit.at("serviceTypeCodes"))),
        eb04=of("insuranceTypeCode"),
        eb05=of("planCoverage"),
        eb06=of("timeQualifierCode"),
        eb07=of("benefitAmount"),
        eb08=of("benefitPercent"),
        eb09=of("quantityQualifierCode"),
        eb10=of("benefitQuantity"),
        eb11=of("authOrCertIndicator"),
        eb12=of("inPlanNetworkIndicatorCode"),
        msgs=tuple(notes),
    )


def _status(status: Node) -> EbRow:
    code = status.at("statusCode")
    return EbRow(eb01=element(code.value, code.pointer), eb03=tuple(split_codes(status.at("serviceTypeCodes"))))


def _plan_days(dates: Node) -> list[Days]:
    read = [
        dtp(qualifier, text(node.value), node.pointer)
        for name, qualifier in _DATES.items()
        for node in _split_dates(dates.at(name))
    ]
    return [days for days in read if days is not None]


def _split_dates(node: Node) -> list[Node]:
    """A date stands there once or in a list."""
    if not isinstance(node.value, list):
        return [node]
    return [Node(value, f"{node.pointer}/{index}") for index, value in enumerate(node.value)]
