"""AdvancedMD's X12 271 as VSee hands it on: XML turned into JSON, in the `raw_response` of a user's insurance.

Source: the sample in VSee's "Insurance API (Draft)" page. Attribute names are literal, odd spellings included. It shows
no dependent, no address and no dates; they stand here in the 271's own place, named by its pattern.

Invariant: as in any XML turned into JSON, one child is an object and several are a list.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from covergate.sandbox.scenarios import Scenario
from covergate.sandbox.vsee_benefits import benefit_rows, carved_out_rows, one_or_list

_Json = dict[str, Any]

_REJECT_CODES = {
    Scenario.BADMEMBER: "72",
    Scenario.BADNAME: "73",
    Scenario.BADDOB: "71",
    Scenario.PAYERDOWN: "42",
    Scenario.BADNPI: "51",
    Scenario.BADPAYER: "79",
}
"""AAA03 of the refused scenarios."""

_DEPENDENT_REJECT_CODES = {Scenario.BADNAME: "65"}
"""AAA03 if the patient is a dependent and it differs: 73 is about the subscriber's name."""

_SIBLINGS = "SIBLINGS"
"""The start of a member id, here only: the answer tells of a dependent that was not asked about, before the patient."""

_CARVED_OUT = "CARVEDOUT"
"""The same: mental health is another payer's."""

_TWINS = "TWINS"
"""The same: of two dependents born on the patient's day neither has the patient's first name."""

# "Rejection reason and codes", the newer of the page's two lists.
_REJECT_TEXTS = {
    "42": "Unable to respond at current time.",
    "51": "Provider not on file",
    "65": "Invalid/Missing patient name",
    "71": "Patient birth date does not match that for the patient in the database",
    "72": "Invalid/Missing subscriber/insured ID",
    "73": "Invalid/Missing subscriber/insured name",
    "79": "Invalid participant identification",
}
_SUCCESS_TEXT = "Success / Reject reason not found"

_RELATIONSHIP_CODES = {"self": "18", "spouse": "01", "child": "19", "other": "G8"}
"""INS02 of a dependent, by VSee's `respparty`."""


@dataclass(frozen=True, slots=True)
class PersonOnFile:
    first_name: str
    last_name: str
    born: str
    """`YYYY-MM-DD`."""
    street: str
    city: str
    state: str
    zip: str


@dataclass(frozen=True, slots=True)
class CompletedCheck:
    """One check that has run: the data that its 271 repeats."""

    eligibility_id: str
    payer_id: str
    payer_name: str
    patient: PersonOnFile
    gender: str
    """`M` or `F`."""
    subscriber: PersonOnFile
    respparty: str
    member_id: str
    group_number: str
    scenario: Scenario
    at: datetime
    plan_begins: date
    plan_ends: date


def _reject_code(check: CompletedCheck) -> str | None:
    """The AAA03 that refuses this check; None if it is answered."""
    if check.respparty != "self" and check.scenario in _DEPENDENT_REJECT_CODES:
        return _DEPENDENT_REJECT_CODES[check.scenario]
    return _REJECT_CODES.get(check.scenario)


def response_text(check: CompletedCheck) -> str:
    """VSee's one-line reading, `eligibility_response`. Success says only that there was no reject reason."""
    code = _reject_code(check)
    return _SUCCESS_TEXT if code is None else _REJECT_TEXTS[code]


def raw_response(check: CompletedCheck) -> _Json | str:
    """The whole document; garbage for the scenario of a broken answer."""
    if check.scenario is Scenario.BROKENJSON:
        return '<?xml version="1.0" encoding="ISO-8859-1"?><PPMDResults s="PRDAPI1WFEYU1PO"><Results><Edi271><Tran'
    return {
        "?xml": {"@version": "1.0", "@encoding": "ISO-8859-1"},
        "PPMDResults": {
            "@s": "PRDAPI1WFEYU1PO",
            "@lst": f"{check.at.month}/{check.at.day}/{check.at.year} {_clock(check.at, ':%M:%S ')}",
            "Results": _results(check),
        },
    }


def _clock(at: datetime, rest: str) -> str:
    return f"{at.hour % 12 or 12}{at.strftime(rest + '%p')}"


def _results(check: CompletedCheck) -> _Json:
    at = f"{check.at.strftime('%m/%d/%Y')} {_clock(check.at, ':%M')}"
    return {
        "@eligibilityid": check.eligibility_id,
        "@eligibilitystatusid": "1",
        "@eligibilitycreatedat": at,
        "@eligibilitychangedat": at,
        "@eligibilityresponsedate": at,
        "@patientname": f"{check.patient.last_name},{check.patient.first_name}".upper(),
        "@address2": check.patient.street.upper(),
        "@city": check.patient.city.upper(),
        "@state": check.patient.state,
        "@zipcode": check.patient.zip.ljust(9),
        "@dob": f"{check.patient.born}T00:00:00",
        "@subscriberid": check.member_id,
        "@eligibilitystc": "30",
        "Edi271": _edi(check),
    }


def _edi(check: CompletedCheck) -> _Json:
    return {
        "@xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
        "@xmlns:xsd": "http://www.w3.org/2001/XMLSchema",
        "InterchangeControlHeader": {
            "@ISA01_AuthorizationInformationQualifier": "00",
            "@ISA02_AuthorizationInformation": " ",
            "@ISA03_SecurityInformationQualifier": "00",
            "@ISA04_SecurityInformation": " ",
            "@ISA05_SenderInterchangeIdQualifier": "ZZ",
            "@ISA06_SendersInterchangeId": "MCKESSON_TSH ",
            "@ISA07_ReceiverInterchangeIdQualifier": "ZZ",
            "@ISA08_ReceiversInterchangeId": "007454 ",
            "@ISA09_Date": check.at.strftime("%y%m%d"),
            "@ISA10_Time": check.at.strftime("%H%M"),
            "@ISA11_InterchangeStandardsIdentifier": "|",
            "@ISA12_InterchangeVersionId": "00501",
            "@ISA13_InterchangeControlNumber": "000000001",
            "@ISA14_AcknowledgementRequested": "0",
            "@ISA15_TestIndicator": "P",
            "@ISA16_SubElementDelimeter": ":",
        },
        "FunctionalGroupHeader": {
            "@GS01_FunctionalIdentifierCode": "HB",
            "@GS02_ApplicationSendersCode": "ZZDEMO",
            "@GS03_ApplicationReceiversCode": "025924AMD",
            "@GS04_Date": check.at.strftime("%Y%m%d"),
            "@GS05_Time": check.at.strftime("%H%M%S"),
            "@GS06_GroupControlNumber": "314159265",
            "@GS07_ResponsibleAgencyCode": "X",
            "@GS08_VersionIdentificationCode": "005010X279A1",
        },
        "TransactionSets": {"TransactionSet": _transaction_set(check)},
        "FunctionalGroupTrailer": {
            "@GE01_NumberOfTransactionSets": "1",
            "@GE02_GroupControlNumber": "314159265",
        },
        "InterchangeControlTrailer": {
            "@IEA01_NumberOfFunctionalGroups": "1",
            "@IEA02_InterchangeControlReference": "000000001",
        },
    }


def _transaction_set(check: CompletedCheck) -> _Json:
    is_dependent = check.respparty != "self"
    code = _reject_code(check)
    refused_at = {None: "", "42": "payer", "79": "payer", "51": "provider", "72": "subscriber", "73": "subscriber"}.get(
        code, "dependent" if is_dependent else "subscriber"
    )

    def aaa(level: str) -> _Json:
        return {"RequestValidations": {"AAASegment": _aaa(str(code))}} if refused_at == level else {}

    transaction: _Json = {
        "Header": {
            "STSegment": {
                "@ST01_TransactionSetIdentifierCode": "271",
                "@ST02_TransactionSetControlNumber": "000000001",
                "@ST03_ImplementationConventionReference": "005010X279A1",
            },
            "BHTSegment": {
                "@BHT01_HierarchicalStructuralCode": "0022",
                "@BHT02_TransactionSetPurposeCode": "11",
                "@BHT03_ReferenceIdentification": f"Prod991741{check.eligibility_id}",
                "@BHT04_Date": check.at.strftime("%Y%m%d"),
                "@BHT05_Time": check.at.strftime("%H%M%S"),
            },
        },
        "InformationSourceDetail": {
            "InformationSourceLevel": {"InformationSourceLevel": _level("1", None, "20", True)},
            "InformationSourceName": {
                "InformationSourceName": {
                    "@NM101_EntityIdentifierCode": "PR",
                    "@NM102_EntityTypeQualifier": "2",
                    "@NM103_LastOrOrganizationalName": check.payer_name,
                    "@NM108_IdentificationCodeQualifier": "PI",
                    "@NM109_IdentificationCode": check.payer_id,
                },
                **aaa("payer"),
            },
        },
        "InformationReceiverDetail": {
            "InformationReceiverLevel": {"ReceiverLevel": _level("2", "1", "21", True)},
            "InformationReceiverName": {
                "ReceiverName": {
                    "@NM101_EntityIdentifierCode": "1P",
                    "@NM102_EntityTypeQualifier": "1",
                    "@NM103_LastOrOrganizationalName": "JONES",
                    "@NM104_FirstName": "CAMERON",
                    "@NM108_IdentificationCodeQualifier": "XX",
                    "@NM109_IdentificationCode": "2133321234",
                },
                **aaa("provider"),
            },
        },
    }
    if code in ("42", "51", "79"):
        return transaction
    transaction["SubscriberDetail"] = {
        "HierarchicalLevel": _level("3", "2", "22", is_dependent),
        "Name": {
            **_name("IL", check.subscriber, check.member_id),
            **_subscriber_facts(check, is_dependent),
            **aaa("subscriber"),
            **({} if is_dependent or code else _benefits(check)),
        },
    }
    if is_dependent and refused_at != "subscriber":
        dependents = [_dependent(check, "4", {**aaa("dependent"), **({} if code else _benefits(check))})]
        if check.member_id.startswith(_SIBLINGS):
            inactive = _benefits(replace(check, scenario=Scenario.INACTIVE))
            dependents.insert(0, _dependent(replace(check, patient=_sibling_of(check.patient)), "5", inactive))
        if check.member_id.startswith(_TWINS):
            twins = [replace(check, patient=replace(check.patient, first_name=name)) for name in ("Robin", "Alex")]
            dependents = [_dependent(twin, number, _benefits(twin)) for number, twin in zip("45", twins, strict=True)]
        transaction["DependentDetail"] = one_or_list(dependents)
    return transaction


def _dependent(check: CompletedCheck, number: str, states: _Json) -> _Json:
    return {
        "HierarchicalLevel": _level(number, "3", "23", False),
        "Name": {
            **_name("03", check.patient, None),
            "DemographicInformation": {"DMGSegment": _demographics(check.patient, check.gender)},
            "Relationship": {
                "INSSegment": {
                    "@INS01_InsuredIndicator": "N",
                    "@INS02_IndividualRelationshipCode": _RELATIONSHIP_CODES[check.respparty],
                }
            },
            **states,
        },
    }


def _sibling_of(patient: PersonOnFile) -> PersonOnFile:
    """Born four years before, on the same day, which may be in a leap year."""
    return replace(patient, first_name="Robin", born=f"{int(patient.born[:4]) - 4}{patient.born[4:]}")


def _level(number: str, parent: str | None, code: str, has_children: bool) -> _Json:
    return {
        "@HL01_HierarchicalIdNumber": number,
        **({} if parent is None else {"@HL02_HierarchicalParentIdNumber": parent}),
        "@HL03_HierarchicalLevelCode": code,
        "@HL04_HierarchicaChildCode": "1" if has_children else "0",
    }


def _name(entity: str, person: PersonOnFile, member_id: str | None) -> _Json:
    identification = {"@NM108_IdentificationCodeQualifier": "MI", "@NM109_IdentificationCode": member_id}
    return {
        "Name": {
            "@NM101_EntityIdentifierCode": entity,
            "@NM102_EntityTypeQualifier": "1",
            "@NM103_LastOrOrganizationalName": person.last_name.upper(),
            "@NM104_FirstName": person.first_name.upper(),
            **(identification if member_id else {}),
        },
        "Address": {
            "N3Segment": {"@N301_AddressInformation": person.street.upper()},
            "N4Segment": {
                "@N401_CityName": person.city.upper(),
                "@N402_StateOrProvinceCode": person.state,
                "@N403_PostalCode": person.zip,
            },
        },
    }


def _subscriber_facts(check: CompletedCheck, is_dependent: bool) -> _Json:
    return {
        **(
            {
                "AdditionalIdentification": {
                    "REFSegment": {
                        "@REF01_ReferenceIdentificationQualifier": "6P",
                        "@REF02_ReferenceIdentification": check.group_number,
                    }
                }
            }
            if check.group_number
            else {}
        ),
        "DemographicInformation": {
            "DMGSegment": _demographics(check.subscriber, None if is_dependent else check.gender)
        },
    }


def _demographics(person: PersonOnFile, gender: str | None) -> _Json:
    return {
        "@DMG01_DateTimePeriodFormatQualifier": "D8",
        "@DMG02_DateTimePeriod": person.born.replace("-", ""),
        **({"@DMG03_GenderCode": gender} if gender else {}),
    }


def _aaa(code: str) -> _Json:
    return {
        "@AAA01_ConditionOrResponseCode": "N" if code == "42" else "Y",
        "@AAA03_RejectReasonCode": code,
        "@AAA04_FollowUpActionCode": "R" if code == "42" else "C",
    }


def _benefits(check: CompletedCheck) -> _Json:
    if check.member_id.startswith(_CARVED_OUT):
        rows = carved_out_rows(check.plan_begins, check.plan_ends)
    else:
        rows = benefit_rows(check.scenario, check.plan_begins, check.plan_ends)
    return {"EligibilityOrBenefitInformation": {"EligibilityOrBenefitInformation": one_or_list(rows)}}
