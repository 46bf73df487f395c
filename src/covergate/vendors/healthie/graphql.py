"""One GraphQL operation: the call, and its reply, read through Healthie's three error layers.

The layers are HTTP statuses, `errors` (with HTTP 200 too) and the `messages` of a mutation. An error that may pass by itself,
such as the rate limit, is raised as the transport would raise it; one that the caller has to mend is a `Failure`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorAuthFailed, VendorBroken, VendorRateLimited, VendorUnavailable
from covergate.vendors.flow import Call, Reply

GRAPHQL_PATH = "/graphql"

# `extensions.code`. The first is documented by Healthie's rate limit; the others are the customary names.
_RATE_LIMITED = "TOO_MANY_REQUESTS"
_UNAUTHORIZED = frozenset({"UNAUTHENTICATED", "UNAUTHORIZED", "FORBIDDEN", "NOT_AUTHORIZED"})
_SERVER_FAULTS = frozenset({"INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"})


def operation(
    document: str,
    variables: dict[str, Any],
    *,
    about: Callable[[Reply], bool] | None = None,
    commits: bool = False,
    timeout: float = 30.0,
) -> Call:
    """`about` tells whether a reply is about the asked patient; every operation on a patient's record has it."""
    name = document.split("(", 1)[0].split()[-1]
    body = {"query": document, "operationName": name, "variables": variables}
    return Call("POST", GRAPHQL_PATH, json=body, commits=commits, timeout=timeout, is_about_patient=about)


def payload(reply: Reply, field: str, *, changes: bool = False) -> Node | Failure:
    """The value of the operation's one field. Data beside `errors` counts: the field was answered.

    `changes`: the operation is a mutation. An error without a code may be anything: a query is asked again, what changes
    something is not. Raises VendorError.
    """
    if not isinstance(reply.body, dict):
        raise VendorBroken("not a GraphQL reply", sent=reply.ok, reply=reply)
    body = Node(reply.body, reply.body_pointer)
    value = body.at("data").at(field)
    errors = body.rows("errors")
    if value.value is None and (errors or not reply.ok):
        return _refused(errors, reply, changes=changes)
    if messages := value.rows("messages"):
        fields = [message.text("field").value for message in messages]
        words = [message.text("message").value for message in messages]
        return failure(
            FailureCode.REQUEST_REJECTED,
            vendor_code=", ".join(dict.fromkeys(field for field in fields if field)) or None,
            vendor_message="; ".join(word for word in words if word) or None,
        )
    return value


def _refused(errors: list[Node], reply: Reply, *, changes: bool) -> Failure:
    codes = [code for error in errors if (code := error.at("extensions").text("code").value)]
    words = [word for error in errors if (word := error.text("message").value)]
    if _RATE_LIMITED in codes or (not codes and any(_is_rate_limit(word) for word in words)):
        raise VendorRateLimited("too_many_requests", reply=reply)
    if not _UNAUTHORIZED.isdisjoint(codes):
        raise VendorAuthFailed("graphql_unauthorized", reply=reply)
    if not _SERVER_FAULTS.isdisjoint(codes):
        raise VendorUnavailable("graphql_server_error", sent=reply.ok, reply=reply)
    if reply.ok and not codes and not changes:
        raise VendorUnavailable("graphql_error_without_code", sent=False, reply=reply)
    return failure(
        FailureCode.REQUEST_REJECTED,
        vendor_code=", ".join(dict.fromkeys(codes)) or str(reply.status),
        vendor_message="; ".join(words) or None,
    )


def _is_rate_limit(words: str) -> bool:
    """For an error without a code."""
    return any(sign in words.casefold() for sign in ("too many requests", "rate limit"))
