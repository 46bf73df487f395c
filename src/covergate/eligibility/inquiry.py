"""The inquiry: one patient, one payer, one provider, one service, normalized (docs/api.md#2-the-request).

An `Inquiry` is frozen and complete: defaults are resolved when it is made, so the stored inquiry is the one that was asked.
Validation errors never echo a value, and a string never holds a control character (PostgreSQL could not store NUL).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeGuard, get_args
from zoneinfo import ZoneInfo

from annotated_types import GroupedMetadata
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

EASTERN = ZoneInfo("America/New_York")
_HONOLULU = ZoneInfo("Pacific/Honolulu")
"""The last US zone where a day ends: a date is in the past only when it is over there too."""

_OLDEST_BIRTH = date(1880, 1, 1)
_FARTHEST_SERVICE_YEARS = 2


def today_eastern(now: datetime) -> date:
    return now.astimezone(EASTERN).date()


def is_past(day: date, now: datetime) -> bool:
    return day < now.astimezone(_HONOLULU).date()


def invalid(code: str, message: str) -> PydanticCustomError:
    """A validation error with a stable code and a constant message that names the right form: "must be …"."""
    # pydantic_core asks for LiteralString so that no message is formatted from input; ours are all constants.
    return PydanticCustomError(code, message)


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls, line separators, halves of surrogates, and what turns the direction of writing: with it a name is read
as another one than it is.
"""


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
        # Parsed here: in strict mode pydantic takes no string for a date from a validator, only from JSON itself.
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


_Name = Annotated[str, Text(60)]
_Line = Annotated[str, Text(100)]
Identifier = Annotated[str, Text(80)]
Trimmed = Annotated[str, StringConstraints(strip_whitespace=True)]
_State = Annotated[str, BeforeValidator(_upper), Pattern(r"^[A-Za-z]{2}$", "must be the two letters of a state")]
_Zip = Annotated[Trimmed, Pattern(r"^[0-9]{5}(-?[0-9]{4})?$", "must be a ZIP code of five or nine digits")]
_Ssn = Annotated[Trimmed, Pattern(r"^[0-9]{9}$", "must be nine digits")]
_TaxId = Annotated[Trimmed, Pattern(r"^[0-9]{9}$", "must be nine digits")]
_Npi = Annotated[str, AfterValidator(_npi)]
Day = Annotated[date, BeforeValidator(_iso_date_only)]
_ServiceTypeCode = Annotated[
    str, BeforeValidator(_upper), Pattern(r"^[0-9A-Za-z]{1,3}$", "must be an X12 service type code, e.g. 30 or MH")
]
ProcedureCode = Annotated[
    str, BeforeValidator(_upper), Pattern(r"^[0-9A-Za-z]{5}$", "must be a CPT or HCPCS code of five characters")
]
_DiagnosisCode = Annotated[
    str,
    BeforeValidator(_upper),
    Pattern(r"^[A-Za-z][0-9][0-9A-Za-z](\.?[0-9A-Za-z]{1,4})?$", "must be an ICD-10 code, e.g. F41.1"),
]
_PlaceOfServiceCode = Annotated[Trimmed, Pattern(r"^[0-9]{2}$", "must be a CMS place of service code of two digits")]
_Email = Annotated[str, Text(254), Pattern(r"^[^@\s]+@[^@\s]+$", "must be an email address")]
_Phone = Annotated[
    str, Text(30), Pattern(r"^[0-9+(). x-]{7,30}$", "must be a phone number of 7 to 30 digits, blanks and + ( ) . - x")
]


class Gender(StrEnum):
    MALE = "M"
    FEMALE = "F"
    UNKNOWN = "U"


class Relationship(StrEnum):
    """The patient's relationship to the subscriber."""

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
    """The specialty of the service: Sohar's codes, taken over as the gateway's vocabulary."""

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


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, json_schema_serialization_defaults_required=True
    )


class Payer(_Part):
    """Named by electronic payer id (`60054`), by name, or by the directory's own id (`pyr_…`)."""

    id: Annotated[str, Text(40)] | None = None
    name: Annotated[str, Text(120)] | None = None
    directory_id: Annotated[str, Text(60)] | None = None

    @model_validator(mode="after")
    def _named(self) -> Payer:
        if self.id is None and self.name is None and self.directory_id is None:
            raise invalid("payer_required", "must have id, name or directory_id")
        return self


class Address(_Part):
    line1: _Line | None = None
    line2: _Line | None = None
    city: Annotated[str, Text(60)] | None = None
    state: _State | None = None
    zip: _Zip | None = None


class Patient(_Part):
    """`member_id` is the number on the card. `ssn` is nine digits and write-only."""

    first_name: _Name
    middle_name: _Name | None = None
    last_name: _Name
    suffix: Annotated[str, Text(10)] | None = None
    date_of_birth: Day
    gender: Gender | None = None
    member_id: Identifier
    group_number: Identifier | None = None
    ssn: _Ssn | None = None
    employer_name: Annotated[str, Text(120)] | None = None
    address: Address | None = None
    email: _Email | None = None
    phone: _Phone | None = None


class Subscriber(_Part):
    """The insured person, when that is not the patient."""

    patient_relationship: Relationship
    member_id: Identifier | None = None
    first_name: _Name
    middle_name: _Name | None = None
    last_name: _Name
    suffix: Annotated[str, Text(10)] | None = None
    date_of_birth: Day
    gender: Gender | None = None
    ssn: _Ssn | None = None
    employer_name: Annotated[str, Text(120)] | None = None
    address: Address | None = None
    phone: _Phone | None = None


class Provider(_Part):
    """`in_network` is the requester's belief about this provider, null if it is to be found out."""

    npi: _Npi | None = None
    rendering_npi: _Npi | None = None
    tax_id: _TaxId | None = None
    name: Annotated[str, Text(120)] | None = None
    in_network: bool | None = None
    address: Address | None = None


class Service(_Part):
    """`date` null means today in America/New_York; `Inquiry.resolved` fills it in."""

    date: Day | None = None
    end_date: Day | None = None
    service_type_codes: Annotated[tuple[_ServiceTypeCode, ...], Field(min_length=1, max_length=20)] = ("30",)
    procedure_codes: Annotated[tuple[ProcedureCode, ...], Field(max_length=20)] = ()
    diagnosis_codes: Annotated[tuple[_DiagnosisCode, ...], Field(max_length=20)] = ()
    place_of_service_code: _PlaceOfServiceCode | None = None
    specialty: Specialty | None = None


class Inquiry(_Part):
    payer: Payer
    patient: Patient
    subscriber: Subscriber | None = None
    coverage_order: CoverageOrder = CoverageOrder.PRIMARY
    provider: Provider = Provider()
    service: Service = Service()

    def resolved(self, now: datetime) -> Inquiry:
        """The same inquiry with today's date if none was given."""
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
        """The person in whose name the insurance is."""
        return self.subscriber or self.patient

    @property
    def has_ssn(self) -> bool:
        return any(one is not None and one.ssn is not None for one in (self.patient, self.subscriber))

    def problems(self, now: datetime) -> list[tuple[str, str, str]]:
        """Errors in dates, as (JSON pointer, code, message). Types and formats are checked before."""
        errors: list[tuple[str, str, str]] = []
        today = today_eastern(now)
        births = [("/patient", self.patient.date_of_birth)]
        if self.subscriber is not None:
            births.append(("/subscriber", self.subscriber.date_of_birth))
        for pointer, born in births:
            if born > today:
                errors.append((f"{pointer}/date_of_birth", "date_in_future", "must not be in the future"))
            elif born < _OLDEST_BIRTH:
                errors.append((f"{pointer}/date_of_birth", "date_out_of_range", "must be 1880-01-01 or later"))
            elif self.service.date is not None and born > self.service.date:
                errors.append((f"{pointer}/date_of_birth", "date_after_service", "must not be after the service date"))
        start, end = self.service.date, self.service.end_date
        for pointer, day in (("/service/date", start), ("/service/end_date", end)):
            if day is not None and day.year - today.year > _FARTHEST_SERVICE_YEARS:
                errors.append((pointer, "date_out_of_range", "must be at most two years ahead"))
        if end is not None and end < (start or today):
            errors.append(("/service/end_date", "end_before_start", "must not be before the service date"))
        return errors

    def without_ssn(self) -> dict[str, Any]:
        """As the API shows it."""
        return inquiry_without_ssn(self.model_dump(mode="json"))


def inquiry_without_ssn(stated: Mapping[str, Any]) -> dict[str, Any]:
    """An inquiry's JSON as the API shows it: SSNs are write-only."""
    shown = dict(stated)
    for person in ("patient", "subscriber"):
        if shown[person] is not None:
            shown[person] = {name: value for name, value in shown[person].items() if name != "ssn"}
    return shown


RESOLVED = frozenset({"/payer/directory_id"})
"""What becomes something else before any vendor is asked."""


def pointers_beside(asked: Collection[str]) -> frozenset[str]:
    """What an inquiry can hold beside these fields, as JSON pointers; an object's own stands for all of it.

    A pointer in `asked` stands for all of an object, too. A new field of the inquiry is beside them all.
    """
    return frozenset(_beside(Inquiry, "", {*asked, *RESOLVED}))


def _beside(part: type[BaseModel], at: str, asked: Collection[str]) -> Iterator[str]:
    for name, field in part.model_fields.items():
        pointer = f"{at}/{name}"
        if pointer in asked:
            continue
        below = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_part(kind)), None)
        if below is None or not any(one.startswith(f"{pointer}/") for one in asked):
            yield pointer
        else:
            yield from _beside(below, pointer, asked)


def _is_part(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
