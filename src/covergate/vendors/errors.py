"""How a vendor call fails; `sent` says whether it may have had an effect all the same.

    VendorError
    ├── VendorUnavailable   no connection, a timeout, a cut connection, a 5xx, 408 or 425
    ├── VendorRateLimited   429, or the vendor's own way to say it
    ├── VendorAuthFailed    the credentials were refused, a renewed token too
    └── VendorBroken        a reply that cannot be read

Expected answers, a payer's refusal included, are values (`flow.Progress`), not exceptions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Self

from covergate.errors import CoverGateError

if TYPE_CHECKING:
    from covergate.vendors.flow import Reply

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)
"""Raised by a translator if a reply breaks its document's promise."""


class ErrorKind(StrEnum):
    """The kinds that are counted "in a row": three unreadable replies end a verification, three 503s do not."""

    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    AUTH_FAILED = "auth_failed"
    UNREADABLE = "unreadable"


class VendorError(CoverGateError):
    """`sent` is false only if it is certain that nothing reached the vendor, or that it did nothing. `reply` is what came, if
    anything came. `ours`: this process stopped the call or was late itself, which says nothing about the vendor.
    """

    kind: ClassVar[ErrorKind]

    def __init__(self, reason: str, *, sent: bool, reply: Reply | None = None, ours: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.reply = reply
        self.ours = ours

    def copied(self, reply: Reply | None = None) -> Self:
        """The same for another call that ended with this one: an exception belongs to the call that raises it."""
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__, reply=reply)
        return copy


class VendorUnavailable(VendorError):
    kind = ErrorKind.UNAVAILABLE


class VendorRateLimited(VendorError):
    """The vendor did nothing; `retry_after` in seconds, if it said so."""

    kind = ErrorKind.RATE_LIMITED

    def __init__(self, reason: str, *, retry_after: float | None = None, reply: Reply | None = None) -> None:
        super().__init__(reason, sent=False, reply=reply)
        self.retry_after = retry_after


class VendorAuthFailed(VendorError):
    """The vendor did nothing."""

    kind = ErrorKind.AUTH_FAILED

    def __init__(self, reason: str, *, reply: Reply | None = None) -> None:
        super().__init__(reason, sent=False, reply=reply)


class VendorBroken(VendorError):
    kind = ErrorKind.UNREADABLE
