"""Everything that can go wrong in the gateway's own words.

    CoverGateError
    ├── Problem             the caller can be told: an HTTP status, a code (docs/api.md#1-routes), constant texts
    ├── ConfigurationError  the process cannot start like this: one line that says what would be right
    ├── PartFailed          a part of this process ended that should not have; the log has the reason
    └── VendorError         a vendor call that should not have ended like this (vendors/errors.py)

Expected answers, a payer's refusal included, are values (`vendors.flow.Progress`), not exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class CoverGateError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a request. `pointer` is a JSON pointer into the body, `parameter` a query parameter or header."""

    code: str
    message: str
    pointer: str | None = None
    parameter: str | None = None
    vendor: str | None = None

    def shown(self) -> dict[str, str]:
        where = {"pointer": self.pointer, "parameter": self.parameter}
        shown = {name: value for name, value in where.items() if value is not None}
        shown["code"] = self.code
        if self.vendor is not None:
            shown["vendor"] = self.vendor
        shown["message"] = self.message
        return shown


PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_json": (422, "The body is not valid JSON"),
    "invalid_request": (422, "The request is not valid"),
    "missing_for_vendor": (422, "The vendor needs more than was given"),
    "unsupported_by_vendor": (422, "The vendor cannot answer this"),
    "vendor_not_enabled": (422, "The vendor is not enabled"),
    "no_vendor_available": (422, "No vendor can answer this"),
    "payer_ambiguous": (422, "The payer is ambiguous"),
    "too_many_matched": (422, "Too many verifications match"),
    "filter_too_wide": (422, "The filter takes too long"),
    "idempotency_key_reused": (422, "The idempotency key was used with another body"),
    "invalid_cursor": (400, "The cursor is not valid"),
    "invalid_http": (400, "The request is not valid HTTP"),
    "unauthorized": (401, "The request is not authorized"),
    "insufficient_scope": (403, "The API key lacks a scope"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "request_timeout": (408, "The request took too long to arrive"),
    "already_ended": (409, "The verification has ended"),
    "not_ended": (409, "The verification has not ended"),
    "already_retried": (409, "The verification was asked again already"),
    "inquiry_erased": (409, "The inquiry is not kept any more"),
    "endpoint_disabled": (409, "The webhook endpoint is disabled"),
    "too_many_endpoints": (409, "There are too many webhook endpoints"),
    "not_waiting_for_operator": (409, "The verification does not wait for an operator"),
    "vendor_ref_taken": (409, "Another attempt has this reference"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The content type is not supported"),
    "rate_limited": (429, "Too many requests"),
    "too_many_connections": (429, "Too many connections"),
    "head_too_large": (431, "The request's head is too large"),
    "internal_error": (500, "Something went wrong in the gateway"),
    "unavailable": (503, "The gateway cannot answer right now"),
}
"""Problem code → HTTP status and title (docs/api.md#1-routes)."""


class Problem(CoverGateError):
    """Rendered as `application/problem+json` by one handler in `api`. Texts never repeat what the caller sent."""

    def __init__(
        self,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.status, self.title = PROBLEMS[code]
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.headers = dict(headers or {})


class ConfigurationError(CoverGateError):
    pass


class PartFailed(CoverGateError):
    pass
