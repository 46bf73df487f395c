"""The closed vocabularies of the gateway's own rows, a sentence for each value.

CHECK constraints (`db/tables.py`), the OpenAPI document and every statement are made from these;
docs/architecture.md#state-machines draws how a verification and its attempts move between them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Sentenced(StrEnum):
    """An enum whose values carry a sentence each; the OpenAPI document shows them."""

    sentence: str

    def __new__(cls, value: str, sentence: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


class Status(Sentenced):
    """Where a verification stands. An end never changes."""

    QUEUED = "queued", "Accepted; no vendor call was intended yet."
    IN_PROGRESS = "in_progress", "A vendor was or is being asked, or it waits for something."
    COMPLETED = "completed", "Ended with an answer."
    FAILED = "failed", "Ended without an answer; `failure_code` says why."
    CANCELED = "canceled", "Ended on request; vendor work is not recalled."


OPEN_STATUSES = (Status.QUEUED, Status.IN_PROGRESS)
ENDS = tuple(status for status in Status if status not in OPEN_STATUSES)


class AttemptState(Sentenced):
    """Where one vendor's try at a verification stands."""

    PREPARING = "preparing", "Nothing was submitted: the committing call may be made."
    SUBMITTING = "submitting", "The intent to submit is on disk: the call is on the line, or its fate is unknown."
    WAITING = "waiting", "The vendor has the submission and works on it."
    ANSWERED = "answered", "The vendor answered."
    REFUSED = "refused", "The vendor or the payer gave a definite reason why no answer will come."
    FAILED = "failed", "Given up; another attempt may have followed."
    ABANDONED = (
        "abandoned",
        "Its verification ended before it did: canceled, past its deadline, or taken over from another.",
    )


class WaitingFor(Sentenced):
    """The reason why an open verification is not being worked on right now."""

    VENDOR = (
        "vendor",
        "The vendor works on it; the gateway looks again at `next_check_at`, or when the vendor sends an event.",
    )
    VENDOR_RETRY = "vendor_retry", "A vendor call failed; it is tried again at `next_check_at`."
    RATE_LIMIT = "rate_limit", "The vendor, or the gateway's own limit for it, allows no more calls just now."
    CIRCUIT = "circuit", "The vendor's circuit breaker is open."
    HOLD = "hold", "An operator holds the vendor."
    CREDENTIALS = (
        "credentials",
        "The vendor refuses the credentials of the account: nothing is sent until they are mended.",
    )
    OPERATOR = "operator", "The fate of the submission is unknown: a person decides."
    WORKER = "worker", "It has been due for half a minute, and no worker has taken it. Shown, never stored."


STORED_WAITS = tuple(wait for wait in WaitingFor if wait is not WaitingFor.WORKER)


class TimelineType(Sentenced):
    """The kind of a timeline row."""

    CREATED = "created", "Accepted and routed."
    SUBMITTED = "submitted", "The vendor took the submission."
    CHECKED = "checked", "The vendor was asked and still works on it."
    COMPLETED = "completed", "Ended with an answer."
    FAILED = "failed", "Ended without one."
    CANCELED = "canceled", "Ended on request."
    RETRY_SCHEDULED = "retry_scheduled", "A technical error; the call is made again."
    HELD_BACK = (
        "held_back",
        "The vendor may not be called: its circuit is open, it is held, or it refuses the credentials.",
    )
    WAITING_FOR_TURN = "waiting_for_turn", "Another check of the same patient is open at a vendor that bears only one."
    REPLY_LOST = "reply_lost", "The committing call went out and no reply came back."
    SUBMISSION_IN_FLIGHT = "submission_in_flight", "Another worker is submitting, or died while it did."
    LOOKED_UP = "looked_up", "The vendor cannot tell yet whether it has the submission."
    SUBMISSION_FOUND = "submission_found", "The vendor has the submission after all."
    NEXT_ATTEMPT = "next_attempt", "The attempt was given up; another one begins."
    NEEDS_ATTENTION = "needs_attention", "A person has to decide."
    VENDOR_EVENT = "vendor_event", "The vendor sent a webhook."
    FOLLOWING = "following", "Waits for the answer to another verification of the same question."
    NOT_FOLLOWING = "not_following", "Asks the vendor itself: the followed one brings no answer."
    ANSWERED_LATE = "answered_late", "An answer or a refusal came after the end."
    STRAY_REPLY = "stray_reply", "An attempt that was given up brought a reply."
    STRAY_END = "stray_end", "An attempt that was given up ended without a reply."


class EventType(Sentenced):
    """What partners can subscribe to."""

    VERIFICATION_COMPLETED = "verification.completed", "A verification ended with an answer."
    VERIFICATION_FAILED = "verification.failed", "A verification ended without an answer; `failure_code` says why."
    VERIFICATION_CANCELED = "verification.canceled", "A verification was canceled."
    VERIFICATION_ANSWERED_LATE = (
        "verification.answered_late",
        "An answer or a refusal came after the end; it is the verification's `late_result` or `late_failure`.",
    )
    VERIFICATION_RENORMALIZED = (
        "verification.renormalized",
        "Today's rules read an ended verification's answer differently; the other reading is its `renormalized`.",
    )
    VERIFICATION_NEEDS_ATTENTION = (
        "verification.needs_attention",
        "A person should look: nobody can tell whether the vendor has it, or its status is one that no document explains.",
    )
    VENDOR_DEGRADED = (
        "vendor.degraded",
        "A vendor's circuit opened, it refuses the credentials, or an operator holds it: its work waits or goes elsewhere.",
    )
    VENDOR_RECOVERED = (
        "vendor.recovered",
        "A vendor's circuit closed, it takes the credentials, or an operator resumed it: what waited goes on.",
    )
    ENDPOINT_FAILING = (
        "endpoint.failing",
        "Every try at another of the tenant's endpoints has failed for two minutes, three in a row at least.",
    )
    ENDPOINT_DISABLED = "endpoint.disabled", "Another of the tenant's endpoints was switched off, or answered 410 Gone."
    ENDPOINT_RECOVERED = (
        "endpoint.recovered",
        "Another endpoint that failed has taken events for a minute; one that was disabled is enabled.",
    )
    ENDPOINT_TEST = "endpoint.test", "Sent on request only, to one endpoint, whatever it subscribes to."


class DeliveryStatus(Sentenced):
    """Where the delivery of one event to one endpoint stands."""

    PENDING = "pending", "A try is due, now or later."
    DELIVERED = "delivered", "The endpoint took it (2xx)."
    EXHAUSTED = "exhausted", "The schedule is used up, or the endpoint is gone; it can be redelivered by hand."


class EndpointStatus(Sentenced):
    """Whether a webhook endpoint gets events."""

    ENABLED = "enabled", "It gets what it subscribes to."
    DISABLED = "disabled", "It gets nothing: switched off by its owner, deleted, or it answered 410 Gone."


class BulkAction(Sentenced):
    """What a bulk job does to each verification."""

    RESUBMIT = "resubmit", "Asks again: a new verification for each that has ended."
    CANCEL = "cancel", "Cancels each that is open."
    RESOLVE = "resolve", "Decides on each whose submission is of unknown fate. For operators."
    REDELIVER = "redeliver", "Sends the events of each once more, to the endpoints that they went to."


class BulkStatus(Sentenced):
    """Where a bulk job stands."""

    COUNTED = "counted", "A dry run: it says what would match, and does nothing."
    QUEUED = "queued", "No worker has begun it."
    RUNNING = "running", "A worker is at it, or it goes slowly for the sake of a quota."
    COMPLETED = "completed", "Each verification was done, skipped, or failed."
    CANCELED = "canceled", "Stopped on request; what was done stays done."


class BulkOutcome(Sentenced):
    """What became of one verification of a bulk job."""

    DONE = "done", "As the action says."
    SKIPPED = "skipped", "It was not, or no longer, one for this action; nothing was changed."
    FAILED = "failed", "It could not be done."


class Environment(Sentenced):
    """Which of a vendor's two worlds an account is in."""

    PRODUCTION = "production", "Real patients: the accounts of live mode."
    SANDBOX = "sandbox", "The vendor's own sandbox: the accounts of test mode."


class VendorAccountState(Sentenced):
    """What the vendor last said to an account's credentials."""

    UNTESTED = "untested", "Neither tested nor refused since they were put in."
    OK = "ok", "The vendor took them."
    REFUSED = "refused", "The vendor refused them."


class CircuitState(Sentenced):
    """The state of a vendor's circuit breaker."""

    CLOSED = "closed", "Calls go out."
    OPEN = "open", "Too many calls failed: none goes out until the rest is over."
    HALF_OPEN = "half_open", "One trial is being made."


class ActorKind(Sentenced):
    """Who did what the audit tells of."""

    KEY = "key", "A caller with an API key, or with one that is not valid: then it has no id."
    OPERATOR = "operator", "A person of the gateway's operator, with a credential or in the console."
    USER = "user", "A person of a tenant's or a partner's, in the console."
    WORKER = "worker", "The gateway itself, delivering to an endpoint: the endpoint is its id."
    CLI = "cli", "A user of the gateway's machine, at the command line."


class SubjectKind(Sentenced):
    """The kind of thing that something was done to."""

    VERIFICATION = "verification", "A verification: its inquiry, result or raw replies."
    ENDPOINT = "endpoint", "A webhook endpoint."
    DELIVERY = "delivery", "A delivery to one."
    VENDOR = "vendor", "A vendor, by name."
    KEY = "key", "An API key."
    OPERATOR = "operator", "An operator."
    USER = "user", "A person's account in the console."
    SESSION = "session", "A person's session in the console."
    TENANT = "tenant", "A tenant with all that it has."
    JOB = "job", "A bulk job."
    ACCOUNT = "account", "A tenant's account at a vendor, by the vendor's name."
    PAYER = "payer", "A payer of the directory, or a candidate for it."
    PORTAL_LINK = "portal_link", "A one-time link to a tenant's webhook pages."
    AUDIT = "audit", "The audit itself."


class AuditOutcome(Sentenced):
    """What became of it."""

    ALLOWED = "allowed", "It was done or shown."
    REFUSED = "refused", "The key is not valid, or lacks a scope."
    NOT_FOUND = "not_found", "There is no such thing for this caller, or a search had no hits."


IS_OPEN = "completed_at IS NULL"
"""The condition on `verifications` that holds while one is open."""
