"""What a tenant may put in as its account at a vendor.

Invariant: it leads to an address that the vendor's documents or the operator name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from covergate.errors import FieldError, Problem
from covergate.gateway import Gateway
from covergate.outbound.address_guard import check_url
from covergate.states import Environment
from covergate.vendors.account import ENVIRONMENT_OF, account_fields, connection_of_account, usual_base_url
from covergate.vendors.vendor import Vendor

_CREDENTIAL = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,998}[\x21-\x7e])?")
"""What fits a header and a form without being escaped."""
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*/?")
"""Nothing that two readers of URLs could read in two ways."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A vendor's connection as a tenant gives it: field → value, those that it leaves out included in none."""

    environment: Environment
    fields: Mapping[str, str] = field(repr=False)


def checked(
    gateway: Gateway, vendor: Vendor, mode: str, environment: str | None, given: Mapping[str, str]
) -> Credentials:
    """Raises Problem with everything that is wrong; no value is repeated."""
    of_mode = ENVIRONMENT_OF[mode]
    errors = []
    if environment not in (None, of_mode):
        errors.append(
            FieldError("wrong_environment", f"must be {of_mode}: keys of {mode} mode use it", pointer="/environment")
        )
    known = account_fields(vendor.connection)
    for name, value in given.items():
        if name not in known:
            message = f"must be one of: {', '.join(known)}"
            errors.append(FieldError("unknown_field", message, pointer=f"/credentials/{name[:40]}"))
        elif value and not _CREDENTIAL.fullmatch(value):
            message = "must be 1 to 1000 printable ASCII characters without blanks around them"
            errors.append(FieldError("invalid_text", message, pointer=f"/credentials/{name}"))
    if not errors:
        errors = _errors_of_connection(gateway, vendor, of_mode, given)
    if errors:
        raise Problem("invalid_request", "errors lists everything that is wrong", errors)
    return Credentials(of_mode, {name: value for name, value in given.items() if value})


def _errors_of_connection(
    gateway: Gateway, vendor: Vendor, environment: Environment, given: Mapping[str, str]
) -> list[FieldError]:
    try:
        connection = connection_of_account(vendor, environment, given, vendor.connection())
    except ValidationError as error:
        names = dict.fromkeys(str(details["loc"][0]) for details in error.errors(include_input=False))
        return [
            FieldError("invalid_value", "is not a possible value", pointer=f"/credentials/{name}") for name in names
        ]
    needed = ("base_url", *vendor.connection.required)
    errors = [
        FieldError("required", f"must be given: {vendor.title} needs it", pointer=f"/credentials/{name}")
        for name in needed
        if not getattr(connection, name) or (name == "base_url" and not _has_base_url(vendor, environment, given))
    ]
    if not errors and (why := _why_not(gateway, vendor, environment, connection.base_url)) is not None:
        errors.append(FieldError("address_not_allowed", why, pointer="/credentials/base_url"))
    return errors


def _has_base_url(vendor: Vendor, environment: Environment, given: Mapping[str, str]) -> bool:
    """The default of the connection is production's: where no address is documented for a sandbox, one must be named."""
    return bool(given.get("base_url")) or usual_base_url(vendor, environment) is not None


def _why_not(gateway: Gateway, vendor: Vendor, environment: Environment, url: str) -> str | None:
    """Why the gateway calls no such address for a tenant; None if it does.

    Else a tenant could have it call any host from the operator's network.
    """
    settings = gateway.settings
    if not _PLAIN_URL.fullmatch(url) or "/.." in url:
        return "must be a plain https:// address"
    if (why := check_url(url, allow_private=settings.allow_private_network)) is not None:
        return why
    allowed = [entry.strip() for entry in (settings.vendor_account_urls or "").split(",") if entry.strip()]
    if any(_is_below(url, entry) for entry in (*vendor.base_urls.get(environment, ()), *allowed)):
        return None
    return f"must be an address of {vendor.title}'s for its {environment}, or one that the operator allows"


def _is_below(url: str, allowed: str) -> bool:
    """The same scheme, host and port, and a path that begins with the allowed one. `*` is one label of the host."""
    given, entry = urlsplit(url), urlsplit(allowed)
    host = re.escape(entry.hostname or "").replace(r"\*", "[a-z0-9-]+")
    same = (given.scheme, _port(given)) == (entry.scheme, _port(entry))
    path = entry.path.rstrip("/")
    is_below = given.path.rstrip("/") == path or given.path.startswith(f"{path}/")
    return same and is_below and re.fullmatch(host, given.hostname or "") is not None


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return -1
