"""The program behind a plan, and programs that pay only a part of what a medical plan pays (docs/x12.md#limited-programs).

Invariant: the tables are closed. A type or name that is not in them makes a plan neither limited nor of another line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from covergate.eligibility.terms import Program
from covergate.eligibility.x12.codes import WHOLE_PLAN

# EB03 codes of the lines beside the medical one (docs/x12.md#plans).
LINES: dict[Program, frozenset[str]] = {
    Program.DENTAL: frozenset({"23", "24", "25", "26", "27", "28", "35", "36", "37", "38", "39", "40", "41"}),
    Program.VISION: frozenset({"AL", "AM", "AO", "CP"}),
    Program.PHARMACY: frozenset({"88", "89", "90", "91", "92", "B2", "B3", "BW", "BX", "GF", "GN"}),
}

MEDICAL_LINE = frozenset(Program) - {*LINES, Program.PART_D, Program.OTHER}

OTHER_LINES = frozenset({*LINES, Program.PART_D})
"""Of plans that have nothing but dental care, vision or drugs."""

_NAMED_SERVICES: dict[Program, frozenset[str]] = {
    **LINES,
    Program.PART_D: LINES[Program.PHARMACY],
    Program.OTHER: frozenset({"56", "57", "58", "59", "60"}),
}
"""What a plan that is named after its line can name beside the plan itself; 56 to 59 are transportation, 60 is no service."""

COMMERCIAL_TYPES = frozenset({"C1", "CO", "EP", "GP", "HM", "IN", "IP", "PR", "PS"})
"""EB04 of insurance by a private insurer or an employer."""

SUPPLEMENTS = frozenset({"MH", "MI", "SP"})
"""EB04 of insurance that pays beside another."""

# EB04 (docs/x12.md#plans); a type without an entry does not say the program.
_BY_TYPE: dict[str, Program] = {
    "MA": Program.MEDICARE_A,
    "MB": Program.MEDICARE_B,
    "HN": Program.MEDICARE_ADVANTAGE,
    **dict.fromkeys(("MC", "QM", "HS"), Program.MEDICAID),
    **dict.fromkeys(COMMERCIAL_TYPES, Program.MEDICAL),
    **dict.fromkeys(("AP", "D", "DB", "LC", "LD", "LI", "LT", "PE", "RP", "WC", "WU"), Program.OTHER),
    # What supplements Medicare or another plan is a limited program of the medical line.
    **dict.fromkeys(SUPPLEMENTS, Program.MEDICAL),
}

_LINE_NAMES: tuple[tuple[Program, re.Pattern[str]], ...] = (
    (Program.PART_D, re.compile(r"\bpart d\b|\bpdp\b")),
    (Program.DENTAL, re.compile(r"\bdental|\bdentist|\bdhmo\b|\bdppo\b|\borthodont")),
    (Program.VISION, re.compile(r"\bvision\b|\boptical\b|\beyemed\b|\bspectera\b|\beye ?(care|wear)|\bvsp\b")),
    (Program.OTHER, re.compile(r"\btransport")),
    (Program.PHARMACY, re.compile(r"\bpharmac|\bprescription|\brx\b|\bdrug")),
)
_MEDICAL_NAME = re.compile(r"\bmedical\b|\bhealth ?(plan|care)|\bmajor med")
_MEDICARE_ADVANTAGE = re.compile(r"\bmedicare advantage\b|\bmapd\b|\bmedicare (hmo|ppo|complete)\b|\bd-?snp\b")
_MEDICAID = re.compile(
    r"\bmedicaid\b|\bmedi-cal\b|\bqmb\b|\bslmb\b|\bqualified medicare benefi|\bmedicare savings program"
)
_MANAGED = re.compile(r"\bmanaged care\b|\bmco\b|\bhmo\b")
_CAPITATED = frozenset({"2", "3", "4"})


def program_of(
    insurance_type: str | None,
    name: str | None,
    service_types: Collection[str],
    coverage_codes: Collection[str] = (),
    payer_name: str | None = None,
) -> Program:
    """The program by EB04, EB05, the service types that the plan's coverage rows name, and their EB01.

    A name says "dental", "vision" or "pharmacy" only of a plan that names no service of another line. The payer's name tells
    Medicaid if EB04 tells nothing, or if the payer has handed services over to an HMO.
    """
    words, line = folded(name), line_of(service_types)
    named = [program for program, pattern in _LINE_NAMES if pattern.search(words)]
    if named and not _MEDICAL_NAME.search(words) and not _speaks_of_another(named[0], service_types):
        return named[0]
    if line is not None:
        return line
    by_type = _BY_TYPE.get(insurance_type or "")
    if by_type in (None, Program.MEDICAL) and _MEDICARE_ADVANTAGE.search(words):
        return Program.MEDICARE_ADVANTAGE
    is_capitated = insurance_type == "HM" and not _CAPITATED.isdisjoint(coverage_codes)
    words_of_payer = folded(payer_name) if by_type is None or is_capitated else ""
    says_medicaid = _MEDICAID.search(words) or _MEDICAID.search(words_of_payer)
    if by_type is Program.MEDICAID or (by_type in (None, Program.MEDICAL) and says_medicaid):
        is_managed = insurance_type == "HM" or _MANAGED.search(words) or not _CAPITATED.isdisjoint(coverage_codes)
        return Program.MEDICAID_MCO if is_managed else Program.MEDICAID
    return by_type or (Program.MEDICAL if service_types else Program.UNKNOWN)


def line_of(service_types: Collection[str]) -> Program | None:
    """Dental, vision or pharmacy if all these service types are of that line."""
    codes = set(service_types) - {WHOLE_PLAN} if service_types else set()
    if not codes or WHOLE_PLAN in service_types:
        return None
    return next((line for line, of_line in LINES.items() if codes <= of_line), None)


def _speaks_of_another(program: Program, service_types: Collection[str]) -> bool:
    own = _NAMED_SERVICES[program]
    return bool(set(service_types) - {WHOLE_PLAN} - own)


def folded(name: str | None) -> str:
    return " ".join((name or "").casefold().split())


@dataclass(frozen=True, slots=True)
class LimitedProgram:
    """`pays` are the service types (EB03) that it does pay; `inpatient`: it pays stays alone, or all but stays."""

    name: str
    pattern: re.Pattern[str]
    insurance_types: frozenset[str] = frozenset()
    pays: frozenset[str] = frozenset()
    inpatient: bool | None = None


# docs/x12.md#limited-programs
LIMITED_PROGRAMS: tuple[LimitedProgram, ...] = (
    LimitedProgram(
        "qualified Medicare beneficiary",
        re.compile(
            r"\bqmb\b(?! ?(\+|plus))|\bqualified medicare benefi"
            r"|\bmedicare co-?insurance (and|&|/) ?(co-?pays? and )?deductibles? only\b"
        ),
        insurance_types=frozenset({"QM"}),
    ),
    LimitedProgram(
        "specified low-income Medicare beneficiary",
        re.compile(r"\bslmb\b(?! ?(\+|plus))|\b(special|specified) low[ -]income medicare"),
        insurance_types=frozenset({"HS"}),
    ),
    LimitedProgram(
        "Medicare savings program",
        re.compile(r"\bqdwi\b|\bqi-?1\b|\bqualif(ied|ying) (disabled|individual)|\bmedicare savings program"),
    ),
    LimitedProgram("family planning", re.compile(r"\bfamily planning\b"), pays=frozenset({"82"})),
    LimitedProgram(
        "emergency services only",
        re.compile(r"\bemergency (services? |medical |care )?only\b|\bemergency (medicaid|medical assistance)\b"),
        pays=frozenset({"51", "52", "86"}),
    ),
    LimitedProgram(
        "pregnancy-related services",
        re.compile(
            r"\b(pregnancy|prenatal|perinatal)([ -]related)? ((services?|care) )?only\b"
            r"|\bperinatal family\b|\bpresumptive eligib\w+ prenatal\b"
        ),
    ),
    LimitedProgram(
        "inpatient care",
        re.compile(r"\bonly inpatient\b|\binpatient (hospital )?((services?|care|coverage) )?only\b"),
        inpatient=True,
    ),
    LimitedProgram(
        "outpatient care",
        re.compile(r"\bonly outpatient\b|\boutpatient ((services?|care|coverage) )?only\b"),
        inpatient=False,
    ),
    LimitedProgram(
        "supplemental policy",
        re.compile(r"\bmedigap\b|\bmedicare supplement"),
        insurance_types=SUPPLEMENTS,
    ),
    LimitedProgram(
        "limited benefit policy",
        re.compile(r"\blimited (benefit|scope)|\bhospital indemnity\b|\baccident only\b|\bcritical illness\b"),
    ),
)


_LIMITED_TO = re.compile(r"\b(?:limited|restricted) to (.+)")
_LONGEST_MESSAGE = 80
"""Characters of a message that names a limited program; a longer one tells more than that."""


def limited_program_of(
    insurance_type: str | None, name: str | None, messages: Iterable[str] = ()
) -> LimitedProgram | None:
    """The limited program that a plan's name or type tells, or else a message: "limited to emergency services".

    A "plus" in the name makes it full Medicaid beside Medicare's.
    """
    return _by_name_or_type(insurance_type, name) or next(filter(None, map(_said_in, messages)), None)


def _said_in(message: str) -> LimitedProgram | None:
    words = _LIMITED_TO.sub(r"\1 only", folded(message))
    if len(words) > _LONGEST_MESSAGE or " only" not in words or "network" in words:
        return None
    return next((program for program in LIMITED_PROGRAMS if program.pattern.search(words)), None)


def _by_name_or_type(insurance_type: str | None, name: str | None) -> LimitedProgram | None:
    words = folded(name)
    by_name = next((program for program in LIMITED_PROGRAMS if program.pattern.search(words)), None)
    if by_name is not None or re.search(r"\b(qmb|slmb) ?(\+|plus)", words):
        return by_name
    return next((program for program in LIMITED_PROGRAMS if insurance_type in program.insurance_types), None)
