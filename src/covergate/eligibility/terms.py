"""The closed vocabularies of a result, as enums (docs/api.md#4-the-result)."""

from __future__ import annotations

from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING


class Term(StrEnum):
    """A word of a closed vocabulary. Its value is read in one step: a result is written with hundreds of them."""

    if not TYPE_CHECKING:
        value = property(attrgetter("_value_"))


class Coverage(Term):
    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


class Outcome(Term):
    ELIGIBLE = "eligible"
    INELIGIBLE = "ineligible"
    UNKNOWN = "unknown"


class OutcomeReason(Term):
    INACTIVE = "inactive"
    NOT_COVERED = "not_covered"
    UNSPECIFIED = "unspecified"
    CARVED_OUT = "carved_out"


class Kind(Term):
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


class AppliesTo(Term):
    """The service that a benefit is for: the vendor's notion of the asked one, its own codes, the whole plan, or unknown."""

    ASKED_SERVICE = "asked_service"
    CODES = "codes"
    PLAN = "plan"
    UNKNOWN = "unknown"


class Network(Term):
    IN = "in"
    OUT = "out"
    BOTH = "both"
    UNKNOWN = "unknown"


class Level(Term):
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


class Period(Term):
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


class Unit(Term):
    VISITS = "visits"
    DAYS = "days"
    HOURS = "hours"
    UNITS = "units"
    YEARS = "years"
    MONTHS = "months"
    OTHER = "other"


class Role(Term):
    PRIMARY_CARE_PROVIDER = "primary_care_provider"
    FACILITY = "facility"
    MANAGED_CARE = "managed_care"
    THIRD_PARTY_ADMINISTRATOR = "third_party_administrator"
    CARVE_OUT = "carve_out"
    CARVE_OUT_VENDOR = "carve_out_vendor"
    UTILIZATION_MANAGEMENT = "utilization_management"
    PHARMACY_BENEFIT = "pharmacy_benefit"
    HOME_PLAN = "home_plan"
    HOSPICE = "hospice"
    OTHER = "other"


class Program(Term):
    """What a plan is: the line of business, or the public program that stands behind it."""

    MEDICAL = "medical"
    DENTAL = "dental"
    VISION = "vision"
    PHARMACY = "pharmacy"
    MEDICARE_A = "medicare_a"
    MEDICARE_B = "medicare_b"
    MEDICARE_ADVANTAGE = "medicare_advantage"
    PART_D = "part_d"
    MEDICAID = "medicaid"
    MEDICAID_MCO = "medicaid_mco"
    OTHER = "other"
    UNKNOWN = "unknown"


class BenefitPlace(Term):
    """Where a benefit holds, coarser than CMS's place of service codes (docs/x12.md#places)."""

    OFFICE = "office"
    TELEHEALTH = "telehealth"
    HOME = "home"
    INPATIENT = "inpatient"
    OUTPATIENT = "outpatient"
    EMERGENCY = "emergency"
    URGENT_CARE = "urgent_care"
    PHARMACY = "pharmacy"
    OTHER = "other"


class ProviderKind(Term):
    PCP = "pcp"
    SPECIALIST = "specialist"


class AuthorizationNeed(Term):
    """`may_apply`: the payer says that an authorization can be needed, not that it is."""

    REQUIRED = "required"
    NOT_REQUIRED = "not_required"
    MAY_APPLY = "may_apply"
    UNKNOWN = "unknown"


class WhyNull(Term):
    """Why a cell of the summary is null."""

    NOT_STATED = "not_stated"
    SEVERAL_SHARES = "several_shares"
    LIMITED_ROWS_ONLY = "limited_rows_only"
    CONFLICT = "conflict"


class MatchedBy(Term):
    """How a cost share was found to be that of the asked service."""

    CODE = "code"
    FAMILY = "family"
    PLAN = "plan"


class BillToReason(Term):
    THIS_PAYER = "this_payer"
    MEDICARE_ADVANTAGE = "medicare_advantage"
    MANAGED_CARE = "managed_care"
    CARVE_OUT = "carve_out"
    MSP = "msp"
    OTHER_PRIMARY = "other_primary"
    TPA = "tpa"


class OtherCoverageKind(Term):
    MEDICARE_ADVANTAGE = "medicare_advantage"
    PART_D = "part_d"
    MSP = "msp"
    MEDICARE = "medicare"
    MEDICAID = "medicaid"
    MANAGED_CARE = "managed_care"
    SUPPLEMENTAL = "supplemental"
    OTHER = "other"
    UNKNOWN = "unknown"


class PatientRelationship(Term):
    SELF = "self"
    SPOUSE = "spouse"
    CHILD = "child"
    OTHER_ADULT = "other_adult"
    LIFE_PARTNER = "life_partner"
    EMPLOYEE = "employee"
    OTHER = "other"
    UNKNOWN = "unknown"


class CodeType(Term):
    PROCEDURE = "procedure"
    SERVICE_TYPE = "service_type"


class WarningCode(Term):
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
    PAYER_NOT_IN_DIRECTORY = "payer_not_in_directory"
    PAYER_MATCHED_BY_NAME = "payer_matched_by_name"
    PAYER_ID_AND_NAME_DIFFER = "payer_id_and_name_differ"
    OTHER_PAYER_PRIMARY = "other_payer_primary"
    MANAGED_CARE_PLAN_PAYS = "managed_care_plan_pays"
    CARVED_OUT = "carved_out"
    LIMITED_BENEFIT = "limited_benefit"
    SPEND_DOWN_OPEN = "spend_down_open"
    PREMIUM_GRACE_PERIOD = "premium_grace_period"
    HOSPICE_ELECTION = "hospice_election"
    SEVERAL_PLANS_DISAGREE = "several_plans_disagree"


class QuestionName(Term):
    """The fixed questions to a result (docs/answers.md#the-questions), in the order in which a front desk asks them."""

    ACTIVE = "active"
    WHO_TO_BILL = "who_to_bill"
    IN_NETWORK = "in_network"
    COPAY_FOR_THIS_VISIT = "copay_for_this_visit"
    DEDUCTIBLE_LEFT = "deductible_left"
    VISITS_LEFT = "visits_left"
    AUTHORIZATION = "authorization"
    REFERRAL = "referral"
    TELEHEALTH = "telehealth"
    OTHER_INSURANCE = "other_insurance"
    WHAT_TO_COLLECT = "what_to_collect"


class Confidence(Term):
    """How sure an answer is: said by the payer, concluded from what it said, not said, or said in two ways."""

    STATED = "stated"
    DERIVED = "derived"
    NOT_STATED = "not_stated"
    CONFLICT = "conflict"


class NextStepCode(Term):
    """What somebody is to do after a verification (docs/answers.md#the-steps)."""

    READ_LATE_ANSWER = "read_late_answer"
    CORRECT_MEMBER_ID = "correct_member_id"
    CORRECT_MEMBER_DATA = "correct_member_data"
    CORRECT_PAYER = "correct_payer"
    CORRECT_PROVIDER = "correct_provider"
    CORRECT_REQUEST = "correct_request"
    REVIEW_RECORD = "review_record"
    ASK_FOR_OTHER_INSURANCE = "ask_for_other_insurance"
    BILL_OTHER_PAYER = "bill_other_payer"
    VERIFY_WITH_OTHER_PAYER = "verify_with_other_payer"
    GET_AUTHORIZATION = "get_authorization"
    GET_REFERRAL = "get_referral"
    COLLECT_COPAY = "collect_copay"
    SELF_PAY_ESTIMATE = "self_pay_estimate"
    ENROLL_PROVIDER = "enroll_provider"
    ASK_AGAIN_LATER = "ask_again_later"
    CALL_PAYER = "call_payer"
    ASK_OPERATOR = "ask_operator"


class StepBy(Term):
    """Who is to take a step."""

    FRONT_DESK = "front_desk"
    BILLER = "biller"
    PROVIDER = "provider"
    REQUESTER = "requester"
    OPERATOR = "operator"
