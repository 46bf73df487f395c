"""What is asked: one patient, one payer, one provider, one service, normalized (api.md section 2).

An `Inquiry` is frozen and complete: defaults are resolved when it is made, so what is stored is what was asked.
Validation errors never echo a value, and a string never holds a control character (PostgreSQL could not store NUL).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

EASTERN = ZoneInfo("America/New_York")
HONOLULU = ZoneInfo("Pacific/Honolulu")
"""The last US zone where a day ends: a date is in the past only when it is over there too."""

OLDEST_BIRTH = date(1880, 1, 1)
FARTHEST_SERVICE_YEARS = 2


def today_eastern(now: datetime) -> date:
    return now.astimezone(EASTERN).date()


def is_past(day: date, now: datetime) -> bool:
    return day < now.astimezone(HONOLULU).date()


def invalid(code: str, message: str) -> PydanticCustomError:
    """A validation error with a stable code and a constant message that says what would be right: "must be …"."""
    # LiteralString is asked for so that messages are never formatted from input; ours are all constants.
    return PydanticCustomError(code, message)


CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]")


def _no_control_characters(value: str) -> str:
    if CONTROL.search(value):
        raise invalid("invalid_text", "must not contain control characters")
    return value


def _npi(value: str) -> str:
    """Ten digits whose Luhn sum, with the prefix 80840, ends in 0 (45 CFR 162.406)."""
    if not re.fullmatch(r"[0-9]{10}", value):
        raise invalid("invalid_npi", "must be ten digits")
    total = 24  # what the prefix 80840 adds
    for position, digit in enumerate(int(character) for character in value):
        doubled = digit * 2 if position % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    if total % 10:
        raise invalid("invalid_npi", "must be an NPI whose check digit is right")
    return value


def _iso_date_only(value: object) -> object:
    """Dates are `YYYY-MM-DD` and nothing else: pydantic alone would also take numbers and instants."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        # Parsed here: what a validator hands on is no longer JSON to pydantic, which in strict mode takes no string for a date.
        with suppress(ValueError):
            return date.fromisoformat(value)
    raise invalid("invalid_date", "must be a date as YYYY-MM-DD")


@dataclass(frozen=True, slots=True)
class Text(GroupedMetadata):
    """A trimmed, non-empty string without control characters."""

    max_length: int

    def __iter__(self) -> Iterator[object]:
        yield StringConstraints(strip_whitespace=True, min_length=1, max_length=self.max_length)
        yield AfterValidator(_no_control_characters)


@dataclass(frozen=True, slots=True)
class Pattern(GroupedMetadata):
    """A string of one form; `message` says which, for a regular expression tells a caller little."""

    regex: str
    message: str

    def __iter__(self) -> Iterator[object]:
        yield AfterValidator(self._matching)
        yield Field(json_schema_extra={"pattern": self.regex})

    def _matching(self, value: str) -> str:
        if not re.fullmatch(self.regex, value):
            raise invalid("invalid_value", self.message)
        return value


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


Name = Annotated[str, Text(60)]
Line = Annotated[str, Text(100)]
Identifier = Annotated[str, Text(80)]
Trimmed = Annotated[str, StringConstraints(strip_whitespace=True)]
State = Annotated[str, BeforeValidator(_upper), Pattern(r"^[A-Za-z]{2}$", "must be the two letters of a state")]
Zip = Annotated[Trimmed, Pattern(r"^[0-9]{5}(-?[0-9]{4})?$", "must be a ZIP code of five or nine digits")]
Ssn = Annotated[Trimmed, Pattern(r"^[0-9]{9}$", "must be nine digits")]
TaxId = Annotated[Trimmed, Pattern(r"^[0-9]{9}$", "must be nine digits")]
Npi = Annotated[str, AfterValidator(_npi)]
Day = Annotated[date, BeforeValidator(_iso_date_only)]
ServiceTypeCode = Annotated[
    str, BeforeValidator(_upper), Pattern(r"^[0-9A-Za-z]{1,3}$", "must be an X12 service type code, e.g. 30 or MH")
]
ProcedureCode = Annotated[
    str, BeforeValidator(_upper), Pattern(r"^[0-9A-Za-z]{5}$", "must be a CPT or HCPCS code of five characters")
]
DiagnosisCode = Annotated[
    str,
    BeforeValidator(_upper),
    Pattern(r"^[A-Za-z][0-9][0-9A-Za-z](\.?[0-9A-Za-z]{1,4})?$", "must be an ICD-10 code, e.g. F41.1"),
]
PlaceOfServiceCode = Annotated[Trimmed, Pattern(r"^[0-9]{2}$", "must be a CMS place of service code of two digits")]
Email = Annotated[str, Text(254), Pattern(r"^[^@\s]+@[^@\s]+$", "must be an email address")]
Phone = Annotated[
    str, Text(30), Pattern(r"^[0-9+(). x-]{7,30}$", "must be a phone number of 7 to 30 digits, blanks and + ( ) . - x")
]


class Gender(StrEnum):
    MALE = "M"
    FEMALE = "F"
    UNKNOWN = "U"


class Relationship(StrEnum):
    """What the patient is to the subscriber."""

    SPOUSE = "spouse"
    CHILD = "child"
    OTHER_ADULT = "other_adult"
    LIFE_PARTNER = "life_partner"
    EMPLOYEE = "employee"
    OTHER = "other"


class CoverageOrder(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


class Specialty(StrEnum):
    """Sohar's specialty codes, taken over as the gateway's vocabulary (vendors.md 5.3)."""

    ABA = "ABA"
    IOP = "IOP"
    OCT = "OCT"
    PHT = "PHT"
    PRC = "PRC"
    PCH = "PCH"
    PSY = "PSY"
    SLP = "SLP"
    SUD = "SUD"
    UGC = "UGC"
    WMT = "WMT"


class Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )


class Payer(Part):
    """Named by electronic payer id (`60054`), by name, or by the directory's own id (`pyr_…`)."""

    id: Annotated[str, Text(40)] | None = None
    name: Annotated[str, Text(120)] | None = None
    directory_id: Annotated[str, Text(60)] | None = None

    @model_validator(mode="after")
    def _named(self) -> Payer:
        if self.id is None and self.name is None and self.directory_id is None:
            raise invalid("payer_required", "must have id, name or directory_id")
        return self


class Address(Part):
    line1: Line | None = None
    line2: Line | None = None
    city: Annotated[str, Text(60)] | None = None
    state: State | None = None
    zip: Zip | None = None


class Patient(Part):
    """`member_id` is the number on the card. `ssn` is nine digits and write-only."""

    first_name: Name
    middle_name: Name | None = None
    last_name: Name
    suffix: Annotated[str, Text(10)] | None = None
    date_of_birth: Day
    gender: Gender | None = None
    member_id: Identifier
    group_number: Identifier | None = None
    ssn: Ssn | None = None
    employer_name: Annotated[str, Text(120)] | None = None
    address: Address | None = None
    email: Email | None = None
    phone: Phone | None = None


class Subscriber(Part):
    """The insured person, when that is not the patient."""

    patient_relationship: Relationship
    member_id: Identifier | None = None
    first_name: Name
    middle_name: Name | None = None
    last_name: Name
    suffix: Annotated[str, Text(10)] | None = None
    date_of_birth: Day
    gender: Gender | None = None
    ssn: Ssn | None = None
    employer_name: Annotated[str, Text(120)] | None = None
    address: Address | None = None
    phone: Phone | None = None


class Provider(Part):
    """`in_network` is what the asker believes of this provider, null when it is to be found out."""

    npi: Npi | None = None
    rendering_npi: Npi | None = None
    tax_id: TaxId | None = None
    name: Annotated[str, Text(120)] | None = None
    in_network: bool | None = None
    address: Address | None = None


class Service(Part):
    """`date` null means today in America/New_York and is resolved by `Inquiry.resolved`."""

    date: Day | None = None
    end_date: Day | None = None
    service_type_codes: Annotated[tuple[ServiceTypeCode, ...], Field(min_length=1, max_length=20)] = ("30",)
    procedure_codes: Annotated[tuple[ProcedureCode, ...], Field(max_length=20)] = ()
    diagnosis_codes: Annotated[tuple[DiagnosisCode, ...], Field(max_length=20)] = ()
    place_of_service_code: PlaceOfServiceCode | None = None
    specialty: Specialty | None = None


class Inquiry(Part):
    payer: Payer
    patient: Patient
    subscriber: Subscriber | None = None
    coverage_order: CoverageOrder = CoverageOrder.PRIMARY
    provider: Provider = Provider()
    service: Service = Service()

    def resolved(self, now: datetime) -> Inquiry:
        """The same inquiry with today's date where none was given."""
        if self.service.date is not None:
            return self
        return self.model_copy(update={"service": self.service.model_copy(update={"date": today_eastern(now)})})

    @property
    def service_date(self) -> date:
        """The date asked for; only a resolved inquiry has one."""
        if self.service.date is None:
            raise ValueError("the inquiry is not resolved")
        return self.service.date

    @property
    def insured(self) -> Patient | Subscriber:
        """Whose name the insurance is in."""
        return self.subscriber or self.patient

    def problems(self, now: datetime) -> list[tuple[str, str, str]]:
        """What the calendar forbids, as (JSON pointer, code, message). Types and formats are checked before."""
        found: list[tuple[str, str, str]] = []
        today = today_eastern(now)
        births = [("/patient", self.patient.date_of_birth)]
        if self.subscriber is not None:
            births.append(("/subscriber", self.subscriber.date_of_birth))
        for pointer, born in births:
            if born > today:
                found.append((f"{pointer}/date_of_birth", "date_in_future", "must not be in the future"))
            elif born < OLDEST_BIRTH:
                found.append((f"{pointer}/date_of_birth", "date_out_of_range", "must be 1880-01-01 or later"))
            elif self.service.date is not None and born > self.service.date:
                found.append((f"{pointer}/date_of_birth", "date_after_service", "must not be after the service date"))
        start, end = self.service.date, self.service.end_date
        for pointer, day in (("/service/date", start), ("/service/end_date", end)):
            if day is not None and abs(day.year - today.year) > FARTHEST_SERVICE_YEARS:
                found.append((pointer, "date_out_of_range", "must be within two years of today"))
        if end is not None and end < (start or today):
            found.append(("/service/end_date", "end_before_start", "must not be before the service date"))
        return found

    def without_ssn(self) -> dict[str, Any]:
        """The inquiry as the API shows it: SSNs are write-only."""
        shown = self.model_dump(mode="json")
        shown["patient"].pop("ssn")
        if shown["subscriber"] is not None:
            shown["subscriber"].pop("ssn")
        return shown
