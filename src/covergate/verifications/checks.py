"""Everything that can be wrong with a request, in one place: one 422 lists it all.

Types and formats are the model's (`request.py`), the calendar is the inquiry's. Here are the rules that look at the whole:
the deadline, the route, the payer, an earlier verification, and what the named vendor would miss.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from covergate.access.caller import Caller
from covergate.eligibility.inquiry import Inquiry, is_past
from covergate.eligibility.sourced import pointer
from covergate.eligibility.terms import WarningCode
from covergate.eligibility.x12.names import EB03_NAMES
from covergate.errors import FieldError
from covergate.payers.directory import Named
from covergate.payers.store import DirectoryPayer
from covergate.vendors import VENDORS
from covergate.vendors.vendor import ServiceDates, Vendor
from covergate.verifications.request import CreateVerification

SHORTEST_DEADLINE = timedelta(seconds=5)
LONGEST_DEADLINE = timedelta(days=14)
REQUIRED, NOT_FOUND, CANDIDATE = "required", "not_found", "candidate"
MISSING = frozenset({REQUIRED, NOT_FOUND})
"""The codes of what a vendor needs and the request does not say."""


@dataclass(frozen=True, slots=True)
class Intake:
    """A request on its way in. `request` has the payer as the directory completed it; `sent` is the body as it came.

    `inquiry` is resolved at `now`. `body` and `stated`: `sent` and `inquiry` as JSON. `payer` is what the directory made of the
    stated payer.
    """

    caller: Caller
    sent: CreateVerification
    request: CreateVerification
    inquiry: Inquiry
    body: Mapping[str, Any]
    stated: Mapping[str, Any]
    payer: Named
    now: datetime

    @classmethod
    def of(cls, caller: Caller, sent: CreateVerification, payer: Named | None, now: datetime) -> Intake:
        """`payer` None: the directory was not asked."""
        payer = payer or Named(sent.payer)
        request = sent if payer.payer is sent.payer else sent.model_copy(update={"payer": payer.payer})
        inquiry, body = request.inquiry.resolved(now), sent.model_dump(mode="json")
        stated = {name: body[name] for name in Inquiry.model_fields}
        if request is not sent:
            stated["payer"] = inquiry.payer.model_dump(mode="json")
        if sent.service.date is None:
            stated["service"] = {**stated["service"], "date": inquiry.service_date.isoformat()}
        return cls(caller, sent, request, inquiry, body, stated, payer, now)


def errors_of(intake: Intake, *, shared: Collection[str], retry_of_exists: bool = True) -> list[FieldError]:
    """Everything wrong with the request, whichever vendor is asked, and what the named vendor would miss.

    `shared`: the vendors whose account is the caller's together with other tenants.
    """
    errors = [
        *_general_errors(intake.request, intake.now),
        *_record_errors(intake.request, shared),
        *intake.payer.wrong,
    ]
    if not retry_of_exists:
        errors.append(FieldError(NOT_FOUND, "must be the id of an earlier verification", pointer="/retry_of"))
    if errors:
        settled = {error.pointer for error in errors} | ({"/payer/id", "/payer/name"} if intake.payer.wrong else set())
        errors += _errors_for_named_vendor(intake, settled)
    return errors


def errors_beyond_fields(
    broken: Sequence[Sequence[str | int]], document: Any, *, shared: Collection[str]
) -> list[FieldError]:
    """What else is wrong with a body whose fields at the `broken` paths do not validate.

    Each broken part is taken out and replaced by a sample if it is required; then the rules that look at the whole run on
    the rest. What they say about a replaced part is dropped.
    """
    if not isinstance(document, dict):
        return []
    mended = copy.deepcopy(document)
    touched = {_take_out(mended, path) for path in broken} | _fill_in(mended)
    try:
        request = CreateVerification.model_validate_json(orjson.dumps(mended), strict=True)
    except (ValidationError, orjson.JSONEncodeError):
        return []
    nobody = Caller("", "", "", frozenset())
    intake = Intake.of(nobody, request, None, datetime.now(UTC))
    errors = _general_errors(request, intake.now)
    errors += _errors_for_named_vendor(intake, {error.pointer for error in errors})
    errors = [error for error in errors if not _needs_directory(error)] + _record_errors(request, shared)
    return [error for error in errors if not _concerns(error, touched)]


def warnings_of(intake: Intake) -> list[tuple[WarningCode, str | None]]:
    """What may make the answer one to another question, with a detail; told in the result."""
    warnings: list[tuple[WarningCode, str | None]] = []
    if intake.payer.is_unknown:
        warnings.append((WarningCode.PAYER_NOT_IN_DIRECTORY, None))
    if intake.payer.by_name is not None:
        warnings.append((WarningCode.PAYER_MATCHED_BY_NAME, intake.payer.by_name.name))
    if intake.payer.contradicted_by is not None:
        warnings.append((WarningCode.PAYER_ID_AND_NAME_DIFFER, intake.payer.contradicted_by.name))
    unknown = [code for code in intake.inquiry.service.service_type_codes if code not in EB03_NAMES]
    return warnings + [(WarningCode.UNKNOWN_CODE, code) for code in dict.fromkeys(unknown)]


def is_unlisted(vendor: Vendor, payer_codes: Mapping[str, object]) -> bool:
    """Whether the directory has the payer from others, and this vendor, whose list it reads, does not name it."""
    return vendor.list_payers is not None and bool(payer_codes) and vendor.name not in payer_codes


def candidate(payer: DirectoryPayer, vendor: str | None = None) -> FieldError:
    """A payer that the request's name may mean."""
    return FieldError(CANDIDATE, f"may be {payer.name} ({payer.id})", pointer="/payer/name", vendor=vendor)


def errors_for_vendor(vendor: Vendor, intake: Intake) -> list[FieldError]:
    """Why this vendor cannot be asked; empty if it can."""
    request, inquiry = intake.request, intake.inquiry
    missing = vendor.missing_fields(inquiry, request.options_of(vendor.name), intake.payer.codes.get(vendor.name) or {})
    errors = [FieldError(row.code, row.message, pointer=row.pointer, vendor=vendor.name) for row in missing]
    if intake.payer.is_unknown and inquiry.payer.id is None:
        message = "no payer goes by this name: give payer.id, or the directory_id of one that GET /v1/payers lists"
        unknown = FieldError(NOT_FOUND, message, pointer="/payer/name", vendor=vendor.name)
        errors = [unknown if error.pointer == "/payer/id" else error for error in errors]
        if unknown in errors:
            errors += [candidate(payer, vendor.name) for payer in intake.payer.resembling]
    if vendor.capabilities.service_dates is ServiceDates.TODAY and is_past(inquiry.service_date, intake.now):
        message = f"must not be past: {vendor.title} answers for today"
        errors.append(FieldError("unsupported", message, pointer="/service/date", vendor=vendor.name))
    if inquiry.subscriber is not None and not vendor.capabilities.dependents:
        message = f"must be left out: {vendor.title} does not answer for dependents"
        errors.append(FieldError("unsupported", message, pointer="/subscriber", vendor=vendor.name))
    return errors


def _general_errors(request: CreateVerification, now: datetime) -> list[FieldError]:
    errors = [FieldError(code, message, pointer=where) for where, code, message in request.problems(now)]
    latest = now + LONGEST_DEADLINE + timedelta(seconds=1)
    if request.deadline is not None and not now + SHORTEST_DEADLINE <= request.deadline <= latest:
        errors.append(FieldError("out_of_range", "must be between 5 seconds and 14 days from now", pointer="/deadline"))
    named = [("/vendor", request.vendor)] if request.vendor is not None else []
    named += [(f"/routing/vendors/{index}", name) for index, name in enumerate(request.routing.vendors or ())]
    known = ", ".join(sorted(VENDORS))
    errors += [
        FieldError("unknown_vendor", f"must be one of: {known}", pointer=where)
        for where, name in named
        if name not in VENDORS
    ]
    return errors + _routing_errors(request)


def _record_errors(request: CreateVerification, shared: Collection[str]) -> list[FieldError]:
    """Options that name a record, also of a vendor that is not asked: in a shared account it may be another tenant's."""
    if not shared:
        return []
    return [
        FieldError(
            "not_allowed",
            f"must be left out: the account at {VENDORS[name].title} is shared with other tenants",
            pointer=pointer("/vendor_options", name, option),
            vendor=name,
        )
        for name, options in naming_records(request).items()
        if name in shared
        for option in options
    ]


def naming_records(request: CreateVerification) -> dict[str, tuple[str, ...]]:
    """Vendor → the options for it that name a record of its account."""
    if not request.vendor_options.model_fields_set:
        return {}
    blocks = {name: getattr(request.vendor_options, name) for name in VENDORS}
    return {name: block.named_records for name, block in blocks.items() if block is not None and block.named_records}


def _routing_errors(request: CreateVerification) -> list[FieldError]:
    vendors, errors = request.routing.vendors, []
    if vendors is not None and request.vendor is not None:
        errors.append(FieldError("conflict", "must not be given together with vendor", pointer="/routing/vendors"))
    errors += [
        FieldError("repeated_vendor", "must name each vendor once", pointer=f"/routing/vendors/{index}")
        for index, name in enumerate(vendors or ())
        if name in (vendors or ())[:index]
    ]
    one = request.vendor is not None or (vendors is not None and len(vendors) < 2) or request.routing.max_attempts == 1
    if request.routing.allow_second_submission and one:
        errors.append(
            FieldError(
                "needs_second_vendor",
                "must go with a route of two vendors and max_attempts of two or more",
                pointer="/routing/allow_second_submission",
            )
        )
    return errors


def _errors_for_named_vendor(intake: Intake, settled: Collection[str | None]) -> list[FieldError]:
    vendor = VENDORS.get(intake.request.vendor or "")
    if vendor is None:
        return []
    return [error for error in errors_for_vendor(vendor, intake) if error.pointer not in settled]


# --- bodies whose fields do not validate -----------------------------------------------------------------------------

_PERSON = {"first_name": "x", "last_name": "x", "date_of_birth": "2000-01-01"}
_SAMPLES: dict[str, dict[str, str]] = {
    "payer": {"name": "x"},
    "patient": {**_PERSON, "member_id": "x"},
    "subscriber": {**_PERSON, "patient_relationship": "other"},
}


def _take_out(document: dict[str, Any], path: Sequence[str | int]) -> str:
    """Removes what the path names, the whole list if it leads into one; the pointer to the removed part."""
    names: list[str] = []
    for part in path:
        if isinstance(part, int):
            break
        names.append(part)
    node: Any = document
    for name in names[:-1]:
        node = node.get(name) if isinstance(node, dict) else None
    if names and isinstance(node, dict):
        node.pop(names[-1], None)
    return pointer("", *names)


def _fill_in(document: dict[str, Any]) -> set[str]:
    """Puts samples where something required is missing; the pointers to them."""
    filled: set[str] = set()
    for part, sample in _SAMPLES.items():
        given = document.get(part)
        if part == "subscriber" and given is None:
            continue
        if part == "payer" and isinstance(given, dict) and any(value is not None for value in given.values()):
            continue
        given = given if isinstance(given, dict) else {}
        filled |= {pointer("", part, name) for name in sample if name not in given}
        document[part] = {**sample, **given}
    return filled


def _concerns(error: FieldError, touched: set[str]) -> bool:
    where = error.pointer or ""
    return any(
        where == path or where.startswith(f"{path}/") or path.startswith(f"{where}/") for path in touched if path
    )


def _needs_directory(error: FieldError) -> bool:
    """A payer's codes are not looked up for a request that is wrong anyway."""
    return (error.pointer or "").startswith(("/payer", "/vendor_options"))
