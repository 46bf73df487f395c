"""Examples for the OpenAPI document: one synthetic patient, asked and answered on one day.

Each fits its schema and each request is accepted, whatever the day: `on_day` moves them to the day on which they are shown.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

from covergate.eligibility.answers.given import answers_of
from covergate.eligibility.failure import FailureCode, failure
from covergate.eligibility.inquiry import Inquiry
from covergate.eligibility.next_steps import shown_steps, steps_by_end, steps_by_result
from covergate.eligibility.stored import with_every_key
from covergate.errors import PROBLEMS
from covergate.states import AttemptState, EventType
from covergate.webhooks.samples import SAMPLE_ENDPOINT_ID, SAMPLE_VERIFICATION_ID, sample

EXAMPLE_DAY = date(2026, 11, 21)
"""The day of everything here except a birth; the service is a week later."""

_DATE = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}(?=T|$)")

_VER = SAMPLE_VERIFICATION_ID
_ATT = "att_01jd7k3v0te0r9m2zn4x8b6wqb"
_EVT = "evt_01jd7k46mne0r9m2zn4x8b6wqc"
_ACC = "acc_01jd7jzz4pe0r9m2zn4x8b6wqe"
_WHE = SAMPLE_ENDPOINT_ID
_DLV = "dlv_01jd7k46mqe0r9m2zn4x8b6wqe"
_REQ = "req_01jd7k46mqe0r9m2zn4x8b6wqf"
_CREATED, _SUBMITTED, _ENDED = "2026-11-21T15:00:00.000Z", "2026-11-21T15:00:00.412Z", "2026-11-21T15:00:06.120Z"
_DEADLINE = "2026-11-22T15:00:00.000Z"

_ASKED: dict[str, Any] = {
    "payer": {"id": "60054", "name": "Aetna"},
    "patient": {
        "first_name": "Jane",
        "last_name": "Sample",
        "date_of_birth": "1990-09-20",
        "member_id": "ELIGIBLE-0001",
        "address": {"state": "CA"},
    },
    "provider": {"npi": "1234567893"},
    "service": {"date": "2026-11-28", "procedure_codes": ["90837"], "place_of_service_code": "10", "specialty": "PSY"},
}
CREATE_VERIFICATION: dict[str, Any] = {
    "external_id": "intake-8841",
    "vendor": "sohar",
    **_ASKED,
    "metadata": {"clinic": "north"},
}
RESUBMIT_VERIFICATION: dict[str, Any] = {"corrections": {"/patient/member_id": "ELIGIBLE-0001"}}
RESOLVE_VERIFICATION: dict[str, Any] = {"action": "resubmit"}
SEARCH_VERIFICATIONS: dict[str, Any] = {
    "member_id": "ELIGIBLE-0001",
    "date_of_birth": "1990-09-20",
    "status": ["completed"],
    "limit": 20,
}

_ATTEMPT: dict[str, Any] = {
    "id": _ATT,
    "vendor": "sohar",
    "vendor_ref": None,
    "state": AttemptState.PREPARING.value,
    "submitted_at": None,
    "expires_at": None,
    "ended_at": None,
    "failure_code": None,
}
_QUEUED: dict[str, Any] = {
    "id": _VER,
    "object": "verification",
    "mode": "test",
    "external_id": "intake-8841",
    "retry_of": None,
    "reused_from": None,
    "status": "queued",
    "outcome": None,
    "outcome_reason": None,
    "vendor": "sohar",
    "waiting_for": None,
    "next_check_at": _CREATED,
    "created_at": _CREATED,
    "completed_at": None,
    "deadline": _DEADLINE,
    "erased_at": None,
    "attempts": [_ATTEMPT],
    "next_steps": [],
    "not_asked": ["/provider", "/service/date", "/service/procedure_codes"],
    "late_result": None,
    "late_failure": None,
    "failure": None,
    "unreadable": [],
    "metadata": {"clinic": "north"},
}
ACCEPTED_VERIFICATION: dict[str, Any] = {
    **_QUEUED,
    "inquiry": Inquiry.model_validate(_ASKED).without_ssn(),
    "result": None,
    "renormalized": None,
}
ASKED_AGAIN: dict[str, Any] = {
    **ACCEPTED_VERIFICATION,
    "id": "ver_01jd7m1x7be0r9m2zn4x8b6wqc",
    "retry_of": _VER,
}

_MONEY = {"total": "1000.00", "used": None, "remaining": "250.00"}
_NO_LEVEL: dict[str, Any] = {"individual": None, "family": None, "unknown_level": None}
_BODY = "/exchanges/1/body/benefits/0"
_PERSON: dict[str, Any] = dict.fromkeys(
    ("first_name", "middle_name", "last_name", "date_of_birth", "gender", "member_id", "address")
)
_STATED: dict[str, Any] = {
    "coverage": "active",
    "service_covered": True,
    "provider_in_network": None,
    "as_of": "2026-11-21",
    "answered_at": _ENDED,
    "services": [],
    "plan": {
        **dict.fromkeys(
            (
                "name",
                "number",
                "description",
                "group_number",
                "group_name",
                "network_id",
                "coverage_level",
                "is_calendar_year",
                "is_primary",
                "starts_on",
                "ends_on",
            )
        ),
        "type": "HM",
        "type_name": "Health Maintenance Organization (HMO)",
        "sources": {"type": ["/exchanges/1/body/insurance/type"]},
    },
    "payer": {
        **dict.fromkeys(("alternate", "is_tpa", "phone", "fax", "website", "address")),
        "id": "60054",
        "name": "Aetna",
        "sources": {},
    },
    "patient": {**_PERSON, "relationship": "self", "sources": {}},
    "subscriber": None,
    "summary": {
        "in": {
            "copay": "30.00",
            "coinsurance_percent": None,
            "deductible": {**_NO_LEVEL, "individual": _MONEY},
            "out_of_pocket_max": _NO_LEVEL,
            "authorization_required": None,
        },
        "out": None,
        "unknown": None,
    },
    "benefits": [
        {
            **dict.fromkeys(
                (
                    "code",
                    "description",
                    "tier",
                    "insurance_type",
                    "plan_name",
                    "place_of_service",
                    "starts_on",
                    "ends_on",
                    "amount",
                    "percent",
                    "quantity",
                    "authorization_required",
                    "deductible_waived",
                )
            ),
            "kind": "deductible",
            "applies_to": "asked_service",
            "service_type_codes": [],
            "procedure_codes": [],
            "network": "in",
            "level": "individual",
            "period": "unknown",
            **_MONEY,
            "accuracy": 0.84,
            "notes": [],
            "sources": {"total": [f"{_BODY}/deductible/total"], "remaining": [f"{_BODY}/deductible/remaining"]},
        }
    ],
    "other_coverage": [],
    "related_entities": [],
    "authorizations": [],
    "referral_required": None,
    "references": {"vendor_id": None, "trace_number": None, "call_reference": None, "representative": None},
    "payer_status": {"code": None, "text": None},
    "notes": [],
    "warnings": [],
}
RESULT = with_every_key(
    {
        **_STATED,
        "bill_to": {
            "payer": {"id": "60054", "name": "Aetna", "phone": None, "address": None, "directory_id": None},
            "because": "this_payer",
            "service_type_codes": [],
            "sources": {},
        },
        "summary": {
            **_STATED["summary"],
            "service": {
                "network": "in",
                "copay": "30.00",
                "coinsurance_percent": None,
                "deductible_applies": False,
                "visits": None,
                "authorization": "unknown",
                "matched_by": "code",
                "why": "stated of the asked service",
                "sources": {"copay": [f"{_BODY}/copay"]},
            },
        },
    }
)
_ANSWERED = {**_ATTEMPT, "vendor_ref": "990cdad8", "state": "answered", "submitted_at": _SUBMITTED, "ended_at": _ENDED}
_ENDED_ROW = {**_QUEUED, "next_check_at": None, "completed_at": _ENDED}
_COMPLETED_ROW = {**_ENDED_ROW, "status": "completed", "outcome": "eligible", "attempts": [_ANSWERED]}
_FAILED_ROW = {
    **_ENDED_ROW,
    "status": "failed",
    "attempts": [{**_ANSWERED, "state": "refused", "failure_code": "member_id_invalid"}],
    "failure": failure(FailureCode.MEMBER_ID_INVALID, vendor_code="error.member.id").model_dump(mode="json"),
    "next_steps": shown_steps(steps_by_end(None, None, FailureCode.MEMBER_ID_INVALID)),
}
_INQUIRY = ACCEPTED_VERIFICATION["inquiry"]
_GIVEN_ANSWERS = answers_of(RESULT, "eligible", None)
_NEXT_STEPS = shown_steps(steps_by_result("eligible", None, RESULT, _GIVEN_ANSWERS))
COMPLETED_VERIFICATION: dict[str, Any] = {
    **_COMPLETED_ROW,
    "inquiry": _INQUIRY,
    "result": RESULT,
    "renormalized": None,
    "next_steps": _NEXT_STEPS,
}
NAMED_ANSWERS: dict[str, Any] = {
    "object": "answers",
    "verification_id": _VER,
    "status": "completed",
    "outcome": "eligible",
    "outcome_reason": None,
    **{name: RESULT[name] for name in ("as_of", "answered_at", "mapping_version")},
    "answers": [answer.shown() for answer in _GIVEN_ANSWERS],
    "next_steps": _NEXT_STEPS,
}
ANSWERS_PAGE = (
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Coverage</title></head>\n…\n</html>\n'
)
RESUBMITTED_VERIFICATION: dict[str, Any] = {
    **_QUEUED,
    "status": "in_progress",
    "waiting_for": {"kind": "vendor", "since": _ENDED},
    "attempts": [
        {**_ATTEMPT, "state": "failed", "ended_at": _ENDED, "failure_code": "submission_unknown"},
        {**_ATTEMPT, "id": "att_01jd7k46mqe0r9m2zn4x8b6wqh"},
    ],
    "inquiry": _INQUIRY,
    "result": None,
    "renormalized": None,
}
CANCELED_VERIFICATION: dict[str, Any] = {
    **_ENDED_ROW,
    "status": "canceled",
    "attempts": [{**_ANSWERED, "state": "abandoned"}],
    "inquiry": _INQUIRY,
    "result": None,
    "renormalized": None,
}
_FAILED_VERIFICATION: dict[str, Any] = {**_FAILED_ROW, "inquiry": _INQUIRY, "result": None, "renormalized": None}
_DEADLINE_EXCEEDED = failure(FailureCode.DEADLINE_EXCEEDED).model_dump(mode="json")


def _listed(*rows: dict[str, Any], next_cursor: str | None = None) -> dict[str, Any]:
    return {"object": "list", "data": list(rows), "has_more": next_cursor is not None, "next_cursor": next_cursor}


VERIFICATION_PAGE = _listed(_FAILED_ROW, _COMPLETED_ROW, next_cursor="dmVyXzAxamQ3azN2MHRlMHI5bTJ6bjR4OGI2d3Fh")
TIMELINE_PAGE = _listed(
    {
        "at": _CREATED,
        "type": "created",
        "attempt_id": _ATT,
        "vendor": "sohar",
        "message": "accepted",
        "waiting_for": None,
        "next_check_at": None,
    },
    {
        "at": _SUBMITTED,
        "type": "submitted",
        "attempt_id": _ATT,
        "vendor": "sohar",
        "message": "the vendor works on it",
        "waiting_for": "vendor",
        "next_check_at": "2026-11-21T15:00:02.412Z",
    },
    {
        "at": _ENDED,
        "type": "completed",
        "attempt_id": _ATT,
        "vendor": "sohar",
        "message": "the vendor answered: eligible",
        "waiting_for": None,
        "next_check_at": None,
    },
)
BULK_VERIFICATIONS: dict[str, Any] = {
    "action": "resubmit",
    "filter": {"status": ["failed"], "failure_code": "vendor_unavailable", "created_after": "2026-11-21T06:00:00Z"},
    "dry_run": True,
}
_JOB: dict[str, Any] = {
    "id": "job_01jd7m5w2fe0r9m2zn4x8b6wqd",
    "object": "bulk_job",
    "action": "resubmit",
    "filter": {
        "status": ["failed"],
        "failure_code": "vendor_unavailable",
        "created_after": "2026-11-21T06:00:00+00:00",
    },
    "resolution": None,
    "again": False,
    "dry_run": False,
    "status": "queued",
    "tenant_id": "ten_01jd7k2b4ee0r9m2zn4x8b6wqe",
    "mode": "test",
    "ordered_by": {"kind": "key", "id": "key_01jd7k2b4ee0r9m2zn4x8b6wqf"},
    "matched": 300,
    "created_at": _ENDED,
    "started_at": None,
    "ended_at": None,
}
_NOTHING: dict[str, Any] = {"count": 0, "reasons": []}
QUEUED_JOB: dict[str, Any] = {
    **_JOB,
    "sample": [
        {
            "id": _VER,
            "tenant_id": "ten_01jd7k2b4ee0r9m2zn4x8b6wqe",
            "tenant": "Clinic North",
            "mode": "test",
            "external_id": "intake-8841",
            "status": "failed",
            "outcome": None,
            "failure_code": "vendor_unavailable",
            "vendor": "sohar",
            "waiting_for": None,
            "created_at": _ENDED,
        }
    ],
    "left": 300,
    "done": 0,
    "skipped": _NOTHING,
    "failed": _NOTHING,
}
COUNTED_JOB: dict[str, Any] = {**QUEUED_JOB, "dry_run": True, "status": "counted", "left": 0, "ended_at": _ENDED}
ENDED_JOB: dict[str, Any] = {
    **QUEUED_JOB,
    "status": "completed",
    "started_at": _ENDED,
    "ended_at": _ENDED,
    "left": 0,
    "done": 298,
    "skipped": {
        "count": 1,
        "reasons": [{"reason": "already_retried", "count": 1, "sample": ["ver_01jd7m1x7be0r9m2zn4x8b6wqc"]}],
    },
    "failed": {"count": 1, "reasons": [{"reason": "unsupported_by_vendor", "count": 1, "sample": [_VER]}]},
}
STOPPED_JOB: dict[str, Any] = {
    **QUEUED_JOB,
    "status": "canceled",
    "started_at": _ENDED,
    "ended_at": _ENDED,
    "left": 120,
    "done": 180,
}
BULK_JOB_PAGE = _listed({**_JOB, "status": "running", "started_at": _ENDED})
ERASE_PATIENT: dict[str, Any] = {"member_id": "00000000", "date_of_birth": "1990-09-20", "dry_run": True}
ERASURE: dict[str, Any] = {
    "object": "erasure",
    "dry_run": True,
    "complete": True,
    "until": "2026-03-02T15:04:05.120Z",
    "counts": {
        "verifications": 3,
        "canceled": 1,
        "inquiries": 3,
        "results": 2,
        "readings": 0,
        "late_results": 0,
        "failures": 0,
        "raw_replies": 4,
        "event_bodies": 1,
        "full_payloads": 0,
        "partner_answers": 2,
        "idempotency_keys": 1,
    },
}
RAW: dict[str, Any] = {
    "object": "raw",
    "erased_at": None,
    "exchanges": [
        {
            "id": "exc_01jd7k46mqe0r9m2zn4x8b6wqg",
            "attempt_id": _ATT,
            "at": _ENDED,
            "call": "GET /v2/verifications/990cdad8",
            "status": 200,
            "content_type": "application/json",
            "body": {"status": "complete.eligible"},
            "text": None,
            "unreadable": False,
        }
    ],
}
_NUMBERS: dict[str, Any] = {
    "attempts": 412,
    "success_rate": 0.9903,
    "wait_seconds": {"p50": 5.8, "p95": 21.4},
}
RUNNING_VENDOR: dict[str, Any] = {
    "name": "sohar",
    "title": "Sohar",
    "enabled": True,
    "account": "shared",
    "capabilities": {
        "answers_by": ["event", "poll"],
        "typical_wait_seconds": {"median": 6, "slow": 30},
        "required_fields": [
            "/payer/id",
            "/patient/address/state",
            "/service/place_of_service_code",
            "/service/specialty",
        ],
        "service_dates": "today",
        "dependents": True,
        "secondary_coverage": False,
        "benefits_detail": "Copay, coinsurance, deductible, out-of-pocket maximum of the asked service",
        "batch": False,
        "recovery": "event",
        "events": True,
        "not_asked": ["/provider", "/service/date"],
    },
    "circuit": {"state": "closed", "since": _CREATED, "rests_until": None},
    "held": False,
    "held_since": None,
    "held_by": None,
    "held_reason": None,
    "held_until": None,
    "credentials_refused_since": None,
    "verdict": "none",
    "verdict_reason": "attempts are answered",
    "verdict_payer_id": None,
    "last_hour": _NUMBERS,
    "last_day": {**_NUMBERS, "attempts": 7310},
    "payers": [{"payer_id": "60054", "last_hour": None, "last_day": {**_NUMBERS, "attempts": 96}, "verdict": "none"}],
    "docs_url": "https://docs.soharhealth.com",
}
VENDOR_PAGE = _listed(RUNNING_VENDOR)
HELD_VENDOR: dict[str, Any] = {
    **RUNNING_VENDOR,
    "held": True,
    "held_since": _ENDED,
    "held_by": {"id": "opr_01m80aq8c7epyshsw0x172jhr7", "name": "Night shift"},
    "held_reason": "their maintenance window",
    "held_until": "2999-01-01T06:00:00.000Z",
}
HOLD_VENDOR: dict[str, Any] = {"reason": "their maintenance window", "until": None}
NEW_VENDOR_ACCOUNT: dict[str, Any] = {
    "id": _ACC,
    "object": "vendor_account",
    "vendor": "sohar",
    "mode": "live",
    "environment": "production",
    "hint": "8c1f",
    "fingerprint": "5f0c93f2a1b7d844",
    "state": "untested",
    "tested_at": None,
    "created_at": _CREATED,
    "changed_at": _CREATED,
    "events_url": f"https://gateway.example.com/v1/vendor-events/sohar/{_ACC}",
}
VENDOR_ACCOUNT: dict[str, Any] = {**NEW_VENDOR_ACCOUNT, "state": "ok", "tested_at": _ENDED}
TESTED_VENDOR_ACCOUNT = {**VENDOR_ACCOUNT, "message": "the vendor took the credentials"}
VENDOR_ACCOUNT_PAGE = _listed(VENDOR_ACCOUNT)
PUT_VENDOR_ACCOUNT: dict[str, Any] = {
    "environment": "sandbox",
    "credentials": {
        "client_id": "clinic-north",
        "client_secret": "a-secret-of-sohars",
        "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    },
}
PAYER_PAGE = _listed(
    {
        "id": "pyr_01m80aq8c7epyshsw0x172jhr7",
        "object": "payer",
        "name": "Aetna",
        "electronic_id": "60054",
        "aliases": ["Aetna Health Plans"],
        "vendors": {"sohar": {"payer_id": "60054"}, "vsee": {"carrier_code": "car7551"}},
    }
)
CREATE_WEBHOOK_ENDPOINT: dict[str, Any] = {
    "url": "https://intake.example.com/covergate",
    "event_types": ["*"],
    "payload": "thin",
    "description": None,
}
UPDATE_WEBHOOK_ENDPOINT: dict[str, Any] = {
    "event_types": ["verification.completed", "verification.failed"],
    "status": "enabled",
}
WEBHOOK_ENDPOINT: dict[str, Any] = {
    "id": _WHE,
    "object": "webhook_endpoint",
    **CREATE_WEBHOOK_ENDPOINT,
    "status": "enabled",
    "disabled_reason": None,
    "previous_secret_until": None,
    "failing_since": None,
    "failures_in_row": 0,
    "last_delivered_at": _ENDED,
    "created_at": _CREATED,
    "updated_at": _CREATED,
}
NEW_WEBHOOK_ENDPOINT: dict[str, Any] = {
    **WEBHOOK_ENDPOINT,
    "secret": "whsec_RXhhbXBsZUV4YW1wbGVFeGFtcGxlRXhhbXBsZTEyMw==",
}
WEBHOOK_ENDPOINT_PAGE = _listed(WEBHOOK_ENDPOINT)
MADE_PORTAL_LINK: dict[str, Any] = {
    "object": "portal_link",
    "url": "https://gateway.example.com/console/enter#kV2vR0m1Yb6cJ8tq4xW3eZ7uN5sP9aDfGhLoQiErTyU",
    "expires_at": _ENDED,
}
RECOVER_WEBHOOK_ENDPOINT: dict[str, Any] = {"since": _CREATED, "status": "exhausted"}
RECOVERY: dict[str, Any] = {
    "object": "recovery",
    "endpoint_id": _WHE,
    **RECOVER_WEBHOOK_ENDPOINT,
    "count": 311,
}
PENDING_DELIVERY: dict[str, Any] = {
    "id": _DLV,
    "object": "delivery",
    "event_id": _EVT,
    "event_type": "verification.completed",
    "endpoint_id": _WHE,
    "status": "pending",
    "attempts": [],
    "next_attempt_at": _ENDED,
    "created_at": _ENDED,
}
DELIVERY_PAGE = _listed(
    {
        **PENDING_DELIVERY,
        "status": "delivered",
        "next_attempt_at": None,
        "attempts": [
            {"at": _ENDED, "status": 500, "duration_ms": 41, "error": "http_500"},
            {"at": "2026-11-21T15:00:11.300Z", "status": 204, "duration_ms": 38, "error": None},
        ],
    }
)
AUDIT_EVENT_PAGE = _listed(
    {
        "id": "aud_01jd7k46mte0r9m2zn4x8b6wqg",
        "object": "audit_event",
        "at": _ENDED,
        "action": "verification.read",
        "actor": {"kind": "key", "id": "key_01jd7jzz4pe0r9m2zn4x8b6wqh"},
        "acting_user": "staff-4711",
        "address": "203.0.113.7",
        "request_id": _REQ,
        "subject": {"kind": "verification", "id": _VER},
        "outcome": "allowed",
        "count": 1,
        "reason": None,
    }
)
EVENT_PAGE = _listed(
    {
        "id": _EVT,
        "type": "verification.completed",
        "timestamp": _ENDED,
        "data": sample(EventType.VERIFICATION_COMPLETED),
    }
)
SEND_TEST_EVENT: dict[str, Any] = {"event_type": "verification.completed"}
INBOUND_EVENT: dict[str, Any] = {"event": "verification.updated", "verificationId": "990cdad8", "id": _ATT}
RECEIVED: dict[str, Any] = {"received": True}
HEALTH: dict[str, Any] = {"status": "ok"}
READINESS = {"status": "ok", "workers": 2}
METRICS = 'covergate_verifications_accepted_total{mode="test",vendor="sohar"} 12.0\n'


def on_day(example: Any, day: date) -> Any:
    """The example as if it had all happened on `day`."""
    if isinstance(example, dict):
        return {name: on_day(value, day) for name, value in example.items()}
    if isinstance(example, list):
        return [on_day(value, day) for value in example]
    return _DATE.sub(lambda found: _moved(found[0], day), example) if isinstance(example, str) else example


def _moved(text: str, day: date) -> str:
    shown = date.fromisoformat(text)
    return text if shown < EXAMPLE_DAY else (shown + (day - EXAMPLE_DAY)).isoformat()


def webhook(type_: str, day: date) -> tuple[dict[str, str], dict[str, Any]]:
    """The headers and the body of a webhook of this type, sent on `day`."""
    data = sample(EventType(type_))
    headers = {
        "webhook-id": _EVT,
        "webhook-timestamp": str(int(datetime.fromisoformat(on_day(_ENDED, day)).timestamp())),
        "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    }
    return headers, on_day({"type": type_, "timestamp": _ENDED, "data": data}, day)


def full_sample(type_: EventType, day: date) -> dict[str, Any] | None:
    """A full test event's `data`; None: events of this type are never full."""
    late = {**_FAILED_VERIFICATION, "failure": _DEADLINE_EXCEEDED, "late_result": RESULT}
    reading = {"outcome": "eligible", "outcome_reason": None, "result": RESULT, "mapping_version": "1", "at": _ENDED}
    full = {
        EventType.VERIFICATION_COMPLETED: COMPLETED_VERIFICATION,
        EventType.VERIFICATION_FAILED: _FAILED_VERIFICATION,
        EventType.VERIFICATION_CANCELED: CANCELED_VERIFICATION,
        EventType.VERIFICATION_ANSWERED_LATE: late,
        EventType.VERIFICATION_RENORMALIZED: {**COMPLETED_VERIFICATION, "renormalized": reading},
        EventType.VERIFICATION_NEEDS_ATTENTION: {
            **RESUBMITTED_VERIFICATION,
            "waiting_for": {"kind": "operator", "since": _ENDED},
        },
    }.get(type_)
    return None if full is None else {**on_day(full, day), "test": True}


def _problem(code: str, detail: str, *errors: dict[str, str]) -> dict[str, Any]:
    status, title = PROBLEMS[code]
    return {
        "type": f"urn:covergate:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": _REQ,
        "errors": list(errors),
    }


PROBLEM_OF_STATUS: dict[int, dict[str, Any]] = {
    400: _problem(
        "invalid_cursor",
        "take next_cursor as it was given",
        {"parameter": "after", "code": "invalid_cursor", "message": "must be the next_cursor of the page before"},
    ),
    401: _problem("unauthorized", "send a valid API key as Authorization: Bearer cg_test_… or cg_live_…"),
    403: _problem("insufficient_scope", "this needs the scope verifications:read"),
    404: _problem("not_found", "there is no such verification"),
    409: _problem("already_ended", "the verification is completed; an end never changes"),
    413: _problem("body_too_large", "a body has at most 256 KB"),
    415: _problem("unsupported_media_type", "send JSON with Content-Type: application/json"),
    422: _problem(
        "missing_for_vendor",
        "Sohar needs more than was given",
        {
            "pointer": "/patient/address/state",
            "code": "required",
            "vendor": "sohar",
            "message": "must be given: Sohar needs it",
        },
    ),
    429: _problem("rate_limited", "too many requests with this API key; Retry-After says when"),
    500: _problem("internal_error", "this was logged under the request_id"),
    503: _problem("unavailable", "try again in a moment"),
}
