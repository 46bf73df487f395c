"""The clients: intake apps that post verifications as the contract tells them to, and remember every id they were given.

Each verification has an idempotency key; whatever comes back but an acceptance (a refused connection, a timeout, a 429, a 5xx)
is answered with the same request again, at the other API, until one accepts. What was accepted is what the gateway owes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.support.requests import named_after

VENDORS = ("sohar", "integrex", "health_harbor", "vsee", "healthie")
RETRY_SECONDS = 0.3
GIVE_UP_SECONDS = 90
CLIENT_TIMEOUT_SECONDS = 15
DEADLINE_SECONDS = 300

REQUEST: dict[str, Any] = {
    "payer": {"id": "60054", "name": "Aetna"},
    "provider": {"npi": "1234567893", "tax_id": "123456789", "name": "Sample Clinic"},
    "service": {
        "service_type_codes": ["MH"],
        "procedure_codes": ["90837"],
        "place_of_service_code": "10",
        "specialty": "PSY",
    },
    "vendor_options": {"vsee": {"carrier_code": "car7551"}, "healthie": {"insurance_plan_id": "102"}},
}
PATIENT: dict[str, Any] = {
    "first_name": "Jane",
    "last_name": "Sample",
    "date_of_birth": "1990-09-20",
    "gender": "F",
    "address": {"line1": "1 Main St", "city": "Oakland", "state": "CA", "zip": "94601"},
}

SCENARIOS: dict[str, str] = {
    # docs/api.md#7-sandbox-scenarios: start of the member id → how it ends if nothing goes wrong
    "ELIGIBLE": "eligible",
    "SLOW": "eligible",
    "DUPLICATEEVENT": "eligible",
    "NOEVENT": "eligible",
    "RATELIMIT": "eligible",
    "HTTP500ONCE": "eligible",
    "INACTIVE": "ineligible",
    "BADMEMBER": "member_id_invalid",
    "NEVER": "deadline_exceeded",
}
NOT_EXPRESSED = frozenset({("health_harbor", "BADMEMBER")})
"""What a vendor has no word for, it answers as ELIGIBLE (docs/vendors.md)."""
MIX = (*reversed(SCENARIOS), *("ELIGIBLE",) * 9)
CANCELED_OF_A_HUNDRED = 4
ROUTED_EVERY = 4
"""Of those with nothing special about them, every so many may fail over to a second vendor, and none may be paid for twice."""
ASKED_TWICE_OF_A_HUNDRED = 10


Payer = Mapping[str, str]
"""As in a request: `id` and `name`."""


@dataclass(frozen=True)
class Asked:
    """One verification as its client knows it."""

    key: str
    vendor: str
    member_id: str
    expected: str
    body: dict[str, Any]
    id: str
    accepted_at: float


@dataclass
class Clients:
    """All clients of one tenant; `accepted` is by verification id."""

    api_urls: Sequence[str]
    api_key: str
    name: str
    vendors: Sequence[str] = VENDORS
    mix: Sequence[str] = MIX
    short_deadline: float = 25.0
    accepted: dict[str, Asked] = field(default_factory=dict)
    canceled: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    """What was answered with a 4xx, which none of these requests deserves."""
    other_ids: list[str] = field(default_factory=list)
    """Where one idempotency key was given two ids."""
    _count: int = 0

    async def post_many(self, at_once: int, count: int, seconds: float) -> None:
        """So many at once, then `count` evenly over so many seconds; returns when each is accepted."""
        async with (
            httpx.AsyncClient(trust_env=False, timeout=CLIENT_TIMEOUT_SECONDS) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for number in range(at_once + count):
                after = max(number - at_once, 0) * seconds / max(count, 1)
                scenario = self.mix[number % len(self.mix)]
                if after and scenario == "NEVER":
                    scenario = "ELIGIBLE"  # its deadline would only make the experiment longer
                tasks.create_task(self._post(http, after, scenario))

    async def post_fresh(self, each: int, payer: Payer | None = None) -> list[Asked]:
        """For every vendor so many that are expected to be `eligible`: how it recovers."""
        async with httpx.AsyncClient(trust_env=False, timeout=CLIENT_TIMEOUT_SECONDS) as http:
            posted = await asyncio.gather(
                *(self._post(http, 0, "ELIGIBLE", vendor, payer) for vendor in self.vendors for _ in range(each))
            )
        return [asked for asked in posted if asked is not None]

    async def _post(
        self,
        http: httpx.AsyncClient,
        after: float,
        scenario: str,
        vendor: str | None = None,
        payer: Payer | None = None,
    ) -> Asked | None:
        await asyncio.sleep(after)
        number = self._count = self._count + 1
        fresh = vendor is not None
        vendor = vendor or self.vendors[number % len(self.vendors)]
        key, member_id = f"{self.name}-{number}", f"{scenario}-{self.name}-{number}"
        seconds = self.short_deadline if scenario == "NEVER" else DEADLINE_SECONDS
        routed = not fresh and scenario == "ELIGIBLE" and number % ROUTED_EVERY == 0
        other = VENDORS[(VENDORS.index(vendor) + 1) % len(VENDORS)]
        chosen = {"routing": {"vendors": [vendor, other], "max_attempts": 2}} if routed else {"vendor": vendor}
        body = (
            REQUEST
            | chosen
            | ({"payer": payer} if payer else {})
            | {
                "external_id": key,
                "patient": PATIENT | named_after(member_id),
                "deadline": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(),
            }
        )
        given = await self._insist(http, "/v1/verifications", key, body)
        if given is None:
            return None
        expected = "eligible" if (vendor, scenario) in NOT_EXPRESSED else SCENARIOS[scenario]
        asked = Asked(key, vendor, member_id, expected, body, given["id"], time.time())
        self.accepted[asked.id] = asked
        if random.uniform(0, 100) < ASKED_TWICE_OF_A_HUNDRED:
            again = await self._insist(http, "/v1/verifications", key, body)
            if again is not None and again["id"] != asked.id:
                self.other_ids.append(key)
        if not fresh and random.uniform(0, 100) < CANCELED_OF_A_HUNDRED and scenario != "NEVER":
            canceled = await self._insist(http, f"/v1/verifications/{asked.id}/cancel", None, None)
            self.canceled |= {asked.id} if canceled is not None else set()
        return asked

    async def _insist(
        self, http: httpx.AsyncClient, path: str, key: str | None, body: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        """The answer with a 2xx; None for a 409 (it had ended) and for what is noted as refused."""
        headers = {"Authorization": f"Bearer {self.api_key}"} | ({"Idempotency-Key": key} if key else {})
        began, turn = time.monotonic(), random.randrange(len(self.api_urls))
        while True:
            turn += 1
            said = "no answer"
            try:
                reply = await http.post(self.api_urls[turn % len(self.api_urls)] + path, json=body, headers=headers)
            except httpx.HTTPError as error:
                said = type(error).__name__
            else:
                if reply.is_success:
                    return dict(reply.json())
                if reply.status_code == 409:
                    return None
                if reply.status_code == 422 and _is_too_late(reply):
                    return None
                said = f"{reply.status_code} {reply.text[:300]}"
                if reply.status_code < 500 and reply.status_code != 429:
                    self.refused.append(f"{path} {said}")
                    return None
            if time.monotonic() - began > GIVE_UP_SECONDS:
                self.refused.append(f"{path}: not accepted within {GIVE_UP_SECONDS} s, lastly {said}")
                return None
            await asyncio.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))


def _is_too_late(reply: httpx.Response) -> bool:
    """Its deadline came near while nobody accepted it: the client gives it up, and nobody owes it anything."""
    return [error["pointer"] for error in reply.json()["errors"]] == ["/deadline"]
