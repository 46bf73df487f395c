"""The console's pages as an operator opens them, one after the other: milliseconds from the request to the whole page."""

from __future__ import annotations

import time

from benchmarks import load
from benchmarks.gateway import Gateway
from covergate.access.caller import NOWHERE
from covergate.access.console_sessions import open_session
from covergate.access.console_users import SignedIn
from covergate.db.sql import Query
from covergate.startup import opened

PAGES: dict[str, str] = {
    "now": "/console/",
    "verifications": "/console/verifications",
    "verifications, filtered": "/console/verifications?status=failed&waiting_for=vendor",
    "a verification": "/console/verifications/{verification}",
    "bulk jobs": "/console/jobs",
    "vendors": "/console/vendors",
    "a vendor": "/console/vendors/integrex",
    "payers": "/console/payers?q=Aetna",
    "webhooks": "/console/webhooks",
    "an endpoint": "/console/webhooks/{endpoint}",
    "access": "/console/access",
    "audit": "/console/audit",
}
WARM_UP = 3

_VERIFICATION = Query("SELECT id FROM verifications WHERE completed_at IS NOT NULL ORDER BY id DESC LIMIT 1")
_ENDPOINT = Query("SELECT id FROM webhook_endpoints WHERE deleted_at IS NULL ORDER BY id LIMIT 1")


async def times(gateway: Gateway, number: int) -> dict[str, list[float]]:
    """Page → milliseconds of that many looks at it."""
    async with opened(gateway.settings, 1, "benchmark", migrate=False) as own:
        token = await open_session(own, SignedIn("benchmark", "Benchmark", None, ("operations",)), NOWHERE, "live")
        async with own.connection() as db:
            ids = {"verification": await _VERIFICATION.scalar(db), "endpoint": await _ENDPOINT.scalar(db)}
    connection = await load.Connection.open(gateway.api_port)
    taken: dict[str, list[float]] = {}
    try:
        for name, path in PAGES.items():
            headers = {"cookie": f"covergate={token}"}
            prepared = load.request("GET", path.format_map(ids), gateway.api_port, headers=headers)
            for look in range(WARM_UP + number):
                begun = time.perf_counter()
                await connection.send(prepared)
                if look >= WARM_UP:
                    taken.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
    finally:
        await connection.aclose()
    return taken
