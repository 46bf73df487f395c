"""`Prefer: wait=N` (RFC 7240): answering when the verification has ended, or after N seconds.

The waiter is registered first, then the row is read, so no end slips between; nothing of the pool is held while waiting.
"""

from __future__ import annotations

import asyncio
import re

from fastapi import Request

from covergate.access.caller import Caller
from covergate.api.deps import gateway_of, waiters_of
from covergate.verifications.read import has_ended

LONGEST_WAIT = 60

_QUOTED_OR_SEPARATOR = re.compile(r'("(?:[^"\\]|\\.)*")|([,;])')
_WAIT = re.compile(r'wait\s*=\s*("?)0*([0-9]+)\1', re.IGNORECASE)


def wait_seconds(request: Request) -> int | None:
    """The first `wait` that makes sense, 60 at most; None where there is none."""
    for header in request.headers.getlist("prefer"):
        for preference in _preferences(header):
            found = _WAIT.fullmatch(preference.strip())
            if found is not None:
                digits = found[2]
                return LONGEST_WAIT if len(digits) > 3 else min(int(digits), LONGEST_WAIT)
    return None


def _preferences(header: str) -> list[str]:
    """Split at commas outside quotes; what follows a semicolon are parameters of a preference, which ours has none of."""
    preferences, start, parameters = [], 0, None
    for separator in _QUOTED_OR_SEPARATOR.finditer(header):
        if separator[2] == ";" and parameters is None:
            parameters = separator.start()
        elif separator[2] == ",":
            preferences.append(header[start : separator.start() if parameters is None else parameters])
            start, parameters = separator.end(), None
    preferences.append(header[start : len(header) if parameters is None else parameters])
    return preferences


async def ended_within(request: Request, caller: Caller, verification_id: str, seconds: int) -> bool:
    """Whether the verification has ended, waiting for it as long as `seconds`. Raises Problem `not_found`."""
    gateway, waiters = gateway_of(request), waiters_of(request)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    async with waiters.registered(verification_id) as woken:
        while True:
            woken.clear()
            if await has_ended(gateway, caller, verification_id):
                return True
            left = until - loop.time()
            if left <= 0 or waiters.closing:
                return False
            try:
                await asyncio.wait_for(woken.wait(), left)
            except TimeoutError:
                return False
