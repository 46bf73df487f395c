"""One GraphQL operation: the call, and what its reply says in any of Healthie's three error layers.

HTTP statuses, `errors` (with HTTP 200 too) and the `messages` of a mutation. What may pass by itself, such as the rate limit,
is raised as the transport would raise it; what the caller has to mend is a `Failure`.
"""

from __future__ import annotations

from typing import Any

from covergate.eligibility.failure import Failure, FailureCode, failure
from covergate.eligibility.sourced import pointer
from covergate.vendors.document import Node
from covergate.vendors.errors import VendorAuthFailed, VendorBroken, VendorRateLimited, VendorUnavailable
from covergate.vendors.flow import Call, Reply

PATH = "/graphql"

# `extensions.code`. The first is documented by Healthie's rate limit; the others are the customary names.
RATE_LIMITED = "TOO_MANY_REQUESTS"
NOT_WHO_WE_SAY = frozenset({"UNAUTHENTICATED", "UNAUTHORIZED", "FORBIDDEN", "NOT_AUTHORIZED"})
THEIR_FAULT = frozenset({"INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT"})


def operation(document: str, variables: dict[str, Any], *, commits: bool = False, timeout: float = 30.0) -> Call:
    name = document.split("(", 1)[0].split()[-1]
    body = {"query": document, "operationName": name, "variables": variables}
    return Call("POST", PATH, json=body, commits=commits, timeout=timeout)


def payload(reply: Reply, field: str) -> Node | Failure:
    """The value of the operation's one field. Data that came beside `errors` counts: the field was answered.

    Raises VendorError.
    """
    if not isinstance(reply.body, dict):
        raise VendorBroken("not a GraphQL reply", sent=reply.ok, reply=reply)
    body = Node(reply.body, reply.body_pointer)
    given = body.at("data").at(field)
    errors = body.rows("errors")
    if given.value is None and (errors or not reply.ok):
        return _refused(errors, reply)
    if messages := given.rows("messages"):
        fields = [message.text("field").value for message in messages]
        words = [message.text("message").value for message in messages]
        return failure(
            FailureCode.REQUEST_REJECTED,
            vendor_code=", ".join(dict.fromkeys(field for field in fields if field)) or None,
            vendor_message="; ".join(word for word in words if word) or None,
        )
    return given


def elements(node: Node) -> list[Node]:
    """The objects of a list, or the one object that stands in its place."""
    rows = node.value if isinstance(node.value, list) else [node.value]
    at = [pointer(node.pointer, index) for index in range(len(rows))] if rows is node.value else [node.pointer]
    return [Node(row, place) for row, place in zip(rows, at, strict=True) if isinstance(row, dict)]


def _refused(errors: list[Node], reply: Reply) -> Failure:
    codes = [code for error in errors if (code := error.at("extensions").text("code").value)]
    if RATE_LIMITED in codes:
        raise VendorRateLimited("too_many_requests", reply=reply)
    if not NOT_WHO_WE_SAY.isdisjoint(codes):
        raise VendorAuthFailed("graphql_unauthorized", reply=reply)
    if not THEIR_FAULT.isdisjoint(codes):
        raise VendorUnavailable("graphql_server_error", sent=reply.ok, reply=reply)
    words = [word for error in errors if (word := error.text("message").value)]
    return failure(
        FailureCode.REQUEST_REJECTED,
        vendor_code=", ".join(dict.fromkeys(codes)) or str(reply.status),
        vendor_message="; ".join(words) or None,
    )
