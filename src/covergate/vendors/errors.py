"""How a vendor call can end that should not have; `sent` says whether it may have had an effect.

    VendorError
    ├── VendorUnavailable   no connection, a timeout, a cut connection, a 5xx
    ├── VendorRateLimited   429, or the vendor's own way to say it
    ├── VendorAuthFailed    the credentials were refused, a renewed token too
    └── VendorBroken        a reply that cannot be read

Expected answers, a payer's refusal included, are values (`flow.Progress`), not exceptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covergate.vendors.flow import Reply
from covergate.errors import CoverGateError

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError)
"""Raised by a translator if a reply breaks its document's promise."""


class VendorError(CoverGateError):
    """`sent` is false only when it is certain that nothing reached the vendor. `reply` is what came, if anything came."""

    def __init__(self, reason: str, *, sent: bool, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.reply = reply


class VendorUnavailable(VendorError):
    pass


class VendorRateLimited(VendorError):
    """The vendor did nothing; `retry_after` seconds where it said so."""

    def __init__(self, reason: str, *, retry_after: float | None = None, reply: Reply | None = None) -> None:
        super().__init__(reason, sent=False, reply=reply)
        self.retry_after = retry_after


class VendorAuthFailed(VendorError):
    """The vendor did nothing."""

    def __init__(self, reason: str, *, reply: Reply | None = None) -> None:
        super().__init__(reason, sent=False, reply=reply)


class VendorBroken(VendorError):
    pass
