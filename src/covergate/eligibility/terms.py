"""The closed vocabularies of a result, as enums (docs/api.md#4-the-result)."""

from __future__ import annotations

from enum import StrEnum


class Coverage(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    ELIGIBLE = "eligible"
    INELIGIBLE = "ineligible"
    UNKNOWN = "unknown"


class OutcomeReason(StrEnum):
    INACTIVE = "inactive"
    NOT_COVERED = "not_covered"
    UNSPECIFIED = "unspecified"


class Kind(StrEnum):
    COVERAGE = "coverage"
    COINSURANCE = "coinsurance"
    COPAY = "copay"
    DEDUCTIBLE = "deductible"
    OUT_OF_POCKET_MAX = "out_of_pocket_max"
    LIMITATION = "limitation"
    NON_COVERED = "non_covered"
    SPEND_DOWN = "spend_down"
    COST_CONTAINMENT = "cost_containment"
    OTHER = "other"


class AppliesTo(StrEnum):
    """The service that a benefit is for: the vendor's notion of the asked one, its own codes, the whole plan, or unknown."""

    ASKED_SERVICE = "asked_service"
    CODES = "codes"
    PLAN = "plan"
    UNKNOWN = "unknown"


class Network(StrEnum):
    IN = "in"
    OUT = "out"
    BOTH = "both"
    UNKNOWN = "unknown"


class Level(StrEnum):
    INDIVIDUAL = "individual"
    FAMILY = "family"
    EMPLOYEE_ONLY = "employee_only"
    EMPLOYEE_AND_SPOUSE = "employee_and_spouse"
    EMPLOYEE_AND_CHILDREN = "employee_and_children"
    SPOUSE_ONLY = "spouse_only"
    SPOUSE_AND_CHILDREN = "spouse_and_children"
    CHILDREN_ONLY = "children_only"
    DEPENDENTS_ONLY = "dependents_only"
    UNKNOWN = "unknown"


class Period(StrEnum):
    VISIT = "visit"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    CALENDAR_YEAR = "calendar_year"
    SERVICE_YEAR = "service_year"
    CONTRACT = "contract"
    YEAR = "year"
    LIFETIME = "lifetime"
    EPISODE = "episode"
    ADMISSION = "admission"
    OTHER = "other"
    UNKNOWN = "unknown"


class Unit(StrEnum):
    VISITS = "visits"
    DAYS = "days"
    HOURS = "hours"
    UNITS = "units"
    YEARS = "years"
    MONTHS = "months"
    OTHER = "other"


class Role(StrEnum):
    PRIMARY_CARE_PROVIDER = "primary_care_provider"
    FACILITY = "facility"
    MANAGED_CARE = "managed_care"
    THIRD_PARTY_ADMINISTRATOR = "third_party_administrator"
    CARVE_OUT = "carve_out"
    OTHER = "other"


class PatientRelationship(StrEnum):
    SELF = "self"
    SPOUSE = "spouse"
    CHILD = "child"
    OTHER_ADULT = "other_adult"
    LIFE_PARTNER = "life_partner"
    EMPLOYEE = "employee"
    OTHER = "other"
    UNKNOWN = "unknown"


class CodeType(StrEnum):
    PROCEDURE = "procedure"
    SERVICE_TYPE = "service_type"


class WarningCode(StrEnum):
    SERVICE_NOT_CONFIRMED = "service_not_confirmed"
    COVERAGE_DATES_CONFLICT = "coverage_dates_conflict"
    COVERAGE_MAY_END = "coverage_may_end"
    CONFLICTING_AMOUNTS = "conflicting_amounts"
    UNKNOWN_CODE = "unknown_code"
    PENDING_INVESTIGATION = "pending_investigation"
    PAYER_CHANGED = "payer_changed"
    MEMBER_DATA_DIFFERS = "member_data_differs"
    CONTACT_OTHER_ENTITY = "contact_other_entity"
    RAW_UNPARSABLE = "raw_unparsable"
