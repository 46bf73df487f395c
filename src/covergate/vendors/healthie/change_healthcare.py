"""Change Healthcare's eligibility JSON as EB rows: Healthie's checks before it moved to Claim.MD.

Only old checks hold it; Healthie says that the integration is discontinued. The field names are those of that product's
public schema, the codes X12's (docs/vendors/healthie.md#readings). Where it writes X12's words in place of a code, they are
turned back into the code; words that are no code's stay words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from covergate.eligibility.failure import Aaa
from covergate.eligibility.result import Member
from covergate.eligibility.sourced import NOT_STATED, Sourced, pointer, row
from covergate.eligibility.terms import PatientRelationship
from covergate.eligibility.x12.codes import ACTIVE, INACTIVE, RELATIONSHIPS
from covergate.eligibility.x12.names import EB01_NAMES, EB03_NAMES, EB04_NAMES, EB06_NAMES, EB09_NAMES
from covergate.eligibility.x12.rows import Days, DeliveryPattern, EbRow, Entity, Reference, dtp, element
from covergate.vendors.document import Node, text
from covergate.vendors.healthie.check_response import (
    CheckResponse,
    compact_day,
    postal_address,
    sort_errors,
    split_codes,
)

_MARKS = frozenset({"benefitsInformation", "planStatus", "errors", "controlNumber"})
"""A document with none of these is not one of Change Healthcare's."""

# Field of `planDateInformation` and `benefitsDateInformation` → DTP qualifier.
_DATES = {
    "periodStart": "193",
    "periodEnd": "194",
    "coordinationOfBenefits": "290",
    "plan": "291",
    "benefit": "292",
    "eligibility": "307",
    "premiumPaidtoDateBegin": "342",
    "premiumPaidToDateBegin": "342",
    "premiumPaidToDateEnd": "343",
    "planBegin": "346",
    "planEnd": "347",
    "benefitBegin": "348",
    "benefitEnd": "349",
    "eligibilityBegin": "356",
    "eligibilityEnd": "357",
}

# Field of `benefitsAdditionalInformation` → REF qualifier, with the field that has its description (REF03).
_REFERENCES: dict[str, tuple[str, str]] = {
    "planNumber": ("18", "planDescription"),
    "policyNumber": ("1L", ""),
    "memberId": ("1W", ""),
    "caseNumber": ("3H", ""),
    "familyUnitNumber": ("49", ""),
    "groupNumber": ("6P", "groupDescription"),
    "referralNumber": ("9F", ""),
    "alternativeListId": ("ALS", ""),
    "coverageListId": ("CLI", ""),
    "hicNumber": ("F6", ""),
    "drugFormularyNumber": ("FO", ""),
    "priorAuthorizationNumber": ("G1", ""),
    "insurancePolicyNumber": ("IG", ""),
    "medicalAssistanceCategory": ("M7", ""),
    "planNetworkIdNumber": ("N6", "planNetworkDescription"),
    "medicaidRecipientIdNumber": ("NQ", ""),
    # As the vendor's schema spells it.
    "medicaidRecepientIdNumber": ("NQ", ""),
}

# NM101 in words.
_ENTITIES: dict[str, str] = {
    "contracted service provider": "13",
    "preferred provider organization (ppo)": "1I",
    "provider": "1P",
    "third-party administrator": "2B",
    "employer": "36",
    "other physician": "73",
    "facility": "FA",
    "gateway provider": "GP",
    "group": "GW",
    "independent physicians association (ipa)": "I3",
    "insured or subscriber": "IL",
    "legal representative": "LR",
    "origin carrier": "OC",
    "primary care provider": "P3",
    "prior insurance carrier": "P4",
    "plan sponsor": "P5",
    "payer": "PR",
    "primary payer": "PRP",
    "secondary payer": "SEP",
    "tertiary payer": "TTP",
    "party performing verification": "VER",
    "vendor": "VN",
    "organization completing configuration change": "VY",
    "utilization management organization": "X3",
    "managed care organization": "Y2",
}

_NPI = re.compile(r"XX|.*national provider identifier", re.IGNORECASE)
_MEMBER_NUMBER = re.compile(r"MI|member identification number", re.IGNORECASE)

# `communicationMode` in words → PER qualifier.
_MODES: dict[str, str] = {
    "telephone": "TE",
    "work phone number": "WP",
    "facsimile": "FX",
    "fax": "FX",
    "uniform resource locator (url)": "UR",
    "url": "UR",
}

# HSD01, HSD03 and HSD05 in words.
_UNITS = {"days": "DY", "units": "FL", "hours": "HS", "month": "MN", "months": "MN", "visits": "VS"}
_RATES = {"days": "DA", "day": "DA", "months": "MO", "month": "MO", "visit": "VS", "visits": "VS", "week": "WK",
          "weeks": "WK", "year": "YR", "years": "YR"}  # fmt: skip
_PERIODS = {name.lower(): code for code, name in EB06_NAMES.items()}

# Elements of EB in words, by the field that has them.
_KINDS = {name.lower(): code for code, name in EB01_NAMES.items()}
_SERVICES = {name.lower(): code for code, name in EB03_NAMES.items()}
_INSURANCE = {name.lower(): code for code, name in EB04_NAMES.items()}
_QUANTITIES = {name.lower(): code for code, name in EB09_NAMES.items()}
_LEVELS = {
    "children only": "CHD",
    "dependents only": "DEP",
    "employee and children": "ECH",
    "employee only": "EMP",
    "employee and spouse": "ESP",
    "family": "FAM",
    "individual": "IND",
    "spouse and children": "SPC",
    "spouse only": "SPO",
}
_NETWORKS = {"yes": "Y", "no": "N", "not applicable": "W", "unknown": "U"}
_AUTHORIZATION = {"yes": "Y", "no": "N", "unknown": "U"}

_PLACE_OF_SERVICE = "ZZ"


def change_healthcare(document: Node) -> CheckResponse | None:
    if not isinstance(document.value, dict) or _MARKS.isdisjoint(document.value):
        return None
    dependents = document.at("dependents").objects()
    aaas, others, message = _errors(document, dependents)
    subscriber, traces = document.at("subscriber"), document.at("subscriberTraceNumbers").objects()
    return CheckResponse(
        rows=tuple(_rows(document)),
        plan_days=tuple(_days(document.at("planDateInformation"))),
        aaas=aaas,
        errors=others,
        message=message,
        insured=_member(subscriber) if subscriber.value else None,
        dependents=tuple(_member(dependent, is_dependent=True) for dependent in dependents),
        plan=_plan(document, [*dependents, subscriber]),
        payer=_payer(document.at("payer")),
        trace_number=next((number for one in traces if (number := one.text("referenceIdentification").value)), None),
    )


def _errors(
    document: Node, dependents: list[Node]
) -> tuple[tuple[Aaa, ...], tuple[tuple[str | None, str | None], ...], str | None]:
    """Each error once: the ones of a party are repeated in `errors`."""
    parties: list[tuple[list[Node], str | None]] = [
        (document.at("payer").at("aaaErrors").objects(), "2100A"),
        (document.at("provider").at("aaaErrors").objects(), "2100B"),
        (document.at("subscriber").at("aaaErrors").objects(), "2100C"),
        *((dependent.at("aaaErrors").objects(), "2100D") for dependent in dependents),
    ]
    told = {error.text("code").value for errors, _ in parties for error in errors}
    own = [error for error in document.at("errors").objects() if error.text("code").value not in told]
    everything = [(own, None), *parties]
    sorted_ = [sort_errors(errors, "code", "description", loop) for errors, loop in everything]
    words = (error.text("description").value for errors, _ in everything for error in errors)
    return (
        tuple(aaa for aaas, _ in sorted_ for aaa in aaas),
        tuple(other for _, others in sorted_ for other in others),
        next((text_ for text_ in words if text_), None),
    )


def _rows(document: Node) -> list[EbRow]:
    """`planStatus` repeats the rows that state coverage; it counts if there are none."""
    rows = [_row(benefit) for benefit in document.at("benefitsInformation").objects()]
    if any(row_.code in ACTIVE | INACTIVE for row_ in rows):
        return rows
    return [*rows, *(_status(status) for status in document.at("planStatus").objects())]


def _element(node: Node, key: str) -> Sourced[str]:
    return element(node.at(key).value, node.at(key).pointer)


def _row(benefit: Node) -> EbRow:
    of = partial(_element, benefit)
    notes = [
        note
        for part in benefit.at("additionalInformation").objects()
        for note in split_codes(part.at("description"), by=None)
    ]
    industries = _industries(benefit)
    entities = _related(benefit)
    either = partial(_code, benefit)
    return EbRow(
        eb01=either(("code", "name"), _KINDS),
        eb02=either(("coverageLevelCode", "coverageLevel"), _LEVELS),
        eb03=_service_types(benefit),
        eb04=either(("insuranceTypeCode", "insuranceType"), _INSURANCE),
        eb05=of("planCoverage"),
        eb06=either(("timeQualifierCode", "timeQualifier"), _PERIODS),
        eb07=of("benefitAmount"),
        eb08=of("benefitPercent"),
        eb09=either(("quantityQualifierCode", "quantityQualifier"), _QUANTITIES),
        eb10=of("benefitQuantity"),
        eb11=either(("authOrCertIndicator",), _AUTHORIZATION),
        eb12=either(("inPlanNetworkIndicatorCode", "inPlanNetworkIndicator"), _NETWORKS),
        procedures=tuple(
            code
            for procedure in benefit.at("compositeMedicalProcedureIdentifier").objects()
            if (code := _element(procedure, "procedureCode"))
        ),
        msgs=tuple(notes),
        places=tuple(code for code, is_place in industries if is_place),
        limits=tuple(code for code, is_place in industries if not is_place),
        days=tuple(_days(benefit.at("benefitsDateInformation"))),
        deliveries=tuple(_delivery(one) for one in benefit.at("benefitsServiceDelivery").objects()),
        references=tuple(_references(benefit.at("benefitsAdditionalInformation"))),
        entities=tuple(_entity(entity) for entity in entities),
        member_id=next((number for entity in entities if (number := _member_number(entity))), NOT_STATED),
    )


def _service_types(node: Node) -> tuple[Sourced[str], ...]:
    """The codes; without them those of the names, and a name that is no code's stays a name."""
    names = (
        name.then(lambda word: _SERVICES.get(word.lower(), word))
        for name in split_codes(node.at("serviceTypes"), by=None)
    )
    return tuple(split_codes(node.at("serviceTypeCodes"))) or tuple(names)


def _status(status: Node) -> EbRow:
    return EbRow(
        eb01=_code(status, ("statusCode", "status"), _KINDS),
        eb03=_service_types(status),
        eb05=_element(status, "planDetails"),
    )


def _industries(benefit: Node) -> list[tuple[Sourced[str], bool]]:
    """III: the code and whether it is a place of service. The singular field repeats the first of the list."""
    places = benefit.at("eligibilityAdditionalInformationList").objects()
    found: list[tuple[Sourced[str], bool]] = []
    for place in places or benefit.at("eligibilityAdditionalInformation").objects():
        code = _element(place, "industryCode")
        qualifier = place.text("codeListQualifierCode").value
        is_place = qualifier in (_PLACE_OF_SERVICE, None) and re.fullmatch("[0-9]{2}", code.value or "") is not None
        name = _element(place, "industry")
        if stated := (code if is_place else name | code):
            found.append((stated, is_place))
    return found


def _delivery(delivery: Node) -> DeliveryPattern:
    return DeliveryPattern(
        hsd01=_code(delivery, ("quantityQualifierCode", "quantityQualifier"), _UNITS),
        hsd02=_element(delivery, "quantity"),
        hsd03=_code(
            delivery,
            ("unitForMeasurementQualifierCode", "unitForMeasurementCode", "unitForMeasurementQualifier"),
            _RATES,
        ),
        hsd04=_element(delivery, "sampleSelectionModulus"),
        hsd05=_code(delivery, ("timePeriodQualifierCode", "timePeriodQualifier"), _PERIODS),
        hsd06=_element(delivery, "numOfPeriods"),
    )


def _code(node: Node, keys: Iterable[str], words: dict[str, str]) -> Sourced[str]:
    """The first of these fields that is stated, words turned into their code."""
    stated = next((found for key in keys if (found := _element(node, key))), NOT_STATED)
    return stated.then(lambda found: words.get(found.lower(), found))


def _references(numbers: Node) -> list[Reference]:
    return [
        Reference(qualifier, number, _element(numbers, description) if description else NOT_STATED)
        for key, (qualifier, description) in _REFERENCES.items()
        for number in split_codes(numbers.at(key), by=None)
    ]


def _related(benefit: Node) -> list[Node]:
    """The singular field repeats the first of the list."""
    return benefit.at("benefitsRelatedEntities").objects() or benefit.at("benefitsRelatedEntity").objects()


def _entity(entity: Node) -> Entity:
    number = _element(entity, "entityIdentificationValue")
    kind = entity.text("entityIdentification").value or ""
    is_npi, is_member_number = bool(_NPI.fullmatch(kind)), bool(_MEMBER_NUMBER.fullmatch(kind))
    code = _code(entity, ("entityIdentifierCode", "entityIdentifier"), _ENTITIES)
    is_person = code.value == "IL"
    return Entity(
        code=code,
        name=_element(entity, "entityName"),
        first_name=_element(entity, "entityFirstname") | _element(entity, "entityFirstName"),
        npi=number if is_npi else NOT_STATED,
        # The member's number at a payer is no number of the payer.
        id=number if not is_npi and (is_person or not is_member_number) else NOT_STATED,
        phone=_contact(entity, "TE", "WP"),
        fax=_contact(entity, "FX"),
        website=_contact(entity, "UR"),
        address=_address(entity.at("address")),
    )


def _member_number(entity: Node) -> Sourced[str]:
    kind = entity.text("entityIdentification").value or ""
    return _element(entity, "entityIdentificationValue") if _MEMBER_NUMBER.fullmatch(kind) else NOT_STATED


def _contact(party: Node, *modes: str) -> Sourced[str]:
    contacts = [
        (contact.text("communicationMode").value or "", _element(contact, "communicationNumber"))
        for information in party.at("contactInformation").objects()
        for contact in information.at("contacts").objects()
    ]
    return next(
        (
            number
            for mode in modes
            for words, number in contacts
            if number and _MODES.get(words.lower(), words.upper()) == mode
        ),
        NOT_STATED,
    )


def _address(address: Node) -> Any:
    lines = (("line1", "address1"), ("line2", "address2"), ("city", "city"), ("state", "state"), ("zip", "postalCode"))
    return postal_address({name: _element(address, key) for name, key in lines})


def _days(dates: Node) -> list[Days]:
    read = [
        dtp(qualifier, text(node.value), node.pointer)
        for name, qualifier in _DATES.items()
        for node in _split_dates(dates.at(name))
    ]
    return [days for days in read if days is not None and not _repeats_the_inquiry(days)]


def _repeats_the_inquiry(days: Days) -> bool:
    """A whole range of one day is the day that was asked about."""
    return days.is_range and days.first == days.last and days.qualifier in ("291", "307")


def _split_dates(node: Node) -> list[Node]:
    """A date stands there once or in a list."""
    if not isinstance(node.value, list):
        return [node]
    return [Node(value, pointer(node.pointer, index)) for index, value in enumerate(node.value)]


def _member(person: Node, *, is_dependent: bool = False) -> Member:
    otherwise = PatientRelationship.UNKNOWN
    code = _code(person, ("relationToSubscriberCode",), {})
    words = person.text("relationToSubscriber").then(lambda value: _RELATIONS.get(value.lower()))
    relationship = code.then(RELATIONSHIPS.get) | words if is_dependent else NOT_STATED
    stated = row(
        first_name=person.text("firstName"),
        middle_name=person.text("middleName"),
        last_name=person.text("lastName"),
        date_of_birth=person.read("dateOfBirth", compact_day),
        gender=person.text("gender"),
        member_id=person.text("memberId"),
        relationship=relationship,
        address=_address(person.at("address")),
    )
    return Member(**{**stated, "relationship": relationship.value or otherwise})


# INS02 in words.
_RELATIONS: dict[str, PatientRelationship] = {
    "self": PatientRelationship.SELF,
    "spouse": PatientRelationship.SPOUSE,
    "child": PatientRelationship.CHILD,
    "other adult": PatientRelationship.OTHER_ADULT,
    "employee": PatientRelationship.EMPLOYEE,
    "life partner": PatientRelationship.LIFE_PARTNER,
    "organ donor": PatientRelationship.OTHER,
    "cadaver donor": PatientRelationship.OTHER,
    "other relationship": PatientRelationship.OTHER,
}


def _plan(document: Node, persons: list[Node]) -> dict[str, Sourced[Any]]:
    """Of the plan, else of the person that it is the plan of."""
    places = [document.at("planInformation"), *persons]

    def first(*keys: str) -> Sourced[str]:
        return next((found for place in places for key in keys if (found := place.text(key))), NOT_STATED)

    return {
        "number": first("planNumber"),
        "description": first("planDescription"),
        "group_number": first("groupNumber", "policyNumber"),
        "group_name": first("groupDescription"),
        "network_id": first("planNetworkIdNumber"),
    }


def _payer(payer: Node) -> dict[str, Sourced[Any]]:
    return {
        "id": payer.text("payorIdentification"),
        "name": payer.text("name"),
        "phone": _contact(payer, "TE", "WP"),
        "fax": _contact(payer, "FX"),
        "website": _contact(payer, "UR"),
        "address": _address(payer.at("address")),
    }
