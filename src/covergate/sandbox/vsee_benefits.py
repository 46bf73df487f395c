"""The benefit rows (EB loops) of a 271 in AdvancedMD's JSON, with their dates and messages.

VSee's page shows only `@EB01_…` and `@MSG01_…`; the other names follow that pattern, and only their prefix can be
relied on. Repeated service types are joined by `^`, the 271's own separator.

Invariant: as in any XML turned into JSON, one child is an object and several are a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from covergate.sandbox.sample_plan import IN_NETWORK, INSURANCE_TYPE, OUT_OF_NETWORK, PLAN_NAME, YearlyLimit
from covergate.sandbox.scenarios import Scenario

_Json = dict[str, Any]

_EB_NAMES = {
    "EB01": "@EB01_EligibilityOrBenefitInformationCode",
    "EB02": "@EB02_CoverageLevelCode",
    "EB03": "@EB03_ServiceTypeCode",
    "EB04": "@EB04_InsuranceTypeCode",
    "EB05": "@EB05_PlanCoverageDescription",
    "EB06": "@EB06_TimePeriodQualifier",
    "EB07": "@EB07_MonetaryAmount",
    "EB08": "@EB08_PercentageAsDecimal",
    "EB09": "@EB09_QuantityQualifier",
    "EB10": "@EB10_Quantity",
    "EB11": "@EB11_AuthorizationOrCertificationIndicator",
    "EB12": "@EB12_InPlanNetworkIndicator",
}


def benefit_rows(scenario: Scenario, plan_begins: date, plan_ends: date) -> list[_Json]:
    """The EB loops of an answer. VSee always asks for service type 30, so the usual types are answered."""
    inside, outside = IN_NETWORK, OUT_OF_NETWORK
    plan = {"EB04": INSURANCE_TYPE[0], "EB05": PLAN_NAME.upper()}
    if scenario is Scenario.INACTIVE:
        dates = [_date("346", plan_begins), _date("347", plan_ends)]
        return [_row({"EB01": "6", "EB03": "30", **plan}, dates=dates)]
    span = f"{plan_begins:%Y%m%d}-{plan_ends:%Y%m%d}"
    rows = [_row({"EB01": "1", "EB02": "IND", "EB03": "30", **plan}, dates=[_date("291", span)])]
    if scenario is Scenario.NOTCOVERED:
        text = "MENTAL HEALTH SERVICES ARE EXCLUDED FROM THIS PLAN"
        return [*rows, _row({"EB01": "I", "EB03": "30^MH"}, [text]), *_limits("C", "IND", inside.deductible, "Y")]
    return [
        *rows,
        _row({"EB01": "1", "EB03": "98^MH^UC^86"}),
        _row(
            {"EB01": "B", "EB02": "IND", "EB03": "98^MH", "EB06": "27", "EB07": str(inside.copay), "EB12": "Y"},
            ["COPAY APPLIES PER VISIT", "TELEHEALTH VISITS COST THE SAME"],
        ),
        _row({"EB01": "A", "EB03": "98^MH", "EB08": str(inside.coinsurance_percent / 100), "EB12": "Y"}),
        _row({"EB01": "A", "EB03": "98^MH", "EB08": str(outside.coinsurance_percent / 100), "EB12": "N"}),
        *_limits("C", "IND", inside.deductible, "Y"),
        *_limits("C", "FAM", inside.family_deductible, "Y"),
        *_limits("C", "IND", outside.deductible, "N"),
        *_limits("C", "FAM", outside.family_deductible, "N"),
        *_limits("G", "IND", inside.out_of_pocket, "Y"),
        *_limits("G", "FAM", inside.family_out_of_pocket, "Y"),
        *_limits("G", "IND", outside.out_of_pocket, "N"),
        _row(
            {"EB01": "F", "EB02": "IND", "EB03": "MH", "EB06": "23", "EB09": "VS", "EB10": "20", "EB12": "Y"},
            ["LIMITED TO 20 OUTPATIENT VISITS"],
        ),
        _row({"EB01": "D", "EB03": "MH", "EB11": "N", "EB12": "W"}, ["NO PRIOR AUTHORIZATION FOR OUTPATIENT VISITS"]),
    ]


def carved_out_rows(plan_begins: date, plan_ends: date) -> list[_Json]:
    """The plan with all but mental health, for which another entity is to be contacted."""
    usual = benefit_rows(Scenario.ELIGIBLE, plan_begins, plan_ends)
    contact = _row({"EB01": "U", "EB03": "MH"})
    contact["BenefitRelatedEntity"] = {
        "Name": {
            "@NM101_EntityIdentifierCode": "VN",
            "@NM102_EntityTypeQualifier": "2",
            "@NM103_LastOrOrganizationalName": "SAMPLE BEHAVIORAL HEALTH",
        },
        "ContactInformation": {
            "PERSegment": {
                "@PER01_ContactFunctionCode": "IC",
                "@PER03_CommunicationNumberQualifier": "TE",
                "@PER04_CommunicationNumber": "8005550102",
            }
        },
    }
    types = _EB_NAMES["EB03"]
    return [*(row for row in usual if "MH" not in row["EligibilityOrBenefitInformation"][types]), contact]


def _limits(kind: str, level: str, limit: YearlyLimit, network: str) -> list[_Json]:
    """A deductible or out-of-pocket maximum: the calendar year's total and what remains of it."""
    common = {"EB01": kind, "EB02": level, "EB03": "30", "EB12": network}
    return [
        _row({**common, "EB06": "23", "EB07": str(limit.total)}),
        _row({**common, "EB06": "29", "EB07": str(limit.remaining)}),
    ]


def _row(elements: dict[str, str], texts: Sequence[str] = (), dates: Sequence[_Json] = ()) -> _Json:
    messages = [{"@MSG01_FreeFormMessageText": text} for text in texts]
    return {
        "EligibilityOrBenefitInformation": {_EB_NAMES[name]: elements[name] for name in sorted(elements)},
        **({"EligibilityOrBenefitDates": {"DTPSegment": one_or_list(dates)}} if dates else {}),
        **({"MessageTexts": {"MSGSegment": one_or_list(messages)}} if messages else {}),
    }


def _date(qualifier: str, value: date | str) -> _Json:
    """A DTP segment: one day (D8), or a range that is given as text (RD8)."""
    return {
        "@DTP01_DateTimeQualifier": qualifier,
        "@DTP02_DateTimePeriodFormatQualifier": "RD8" if isinstance(value, str) else "D8",
        "@DTP03_DateTimePeriod": value if isinstance(value, str) else f"{value:%Y%m%d}",
    }


def one_or_list(children: Sequence[_Json]) -> _Json | list[_Json]:
    """The children of an XML element in its JSON form."""
    return children[0] if len(children) == 1 else list(children)
