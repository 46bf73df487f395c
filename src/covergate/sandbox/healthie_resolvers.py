"""Resolvers of Healthie's schema: find and store clients, run checks, read policies.

Source: Healthie's developer guide and reference. Fields that a document does not ask for are not computed.

Invariant: a check is recorded when the mutation accepts it, whether or not its reply will arrive.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from covergate.sandbox import healthie_claim_md as claim_md
from covergate.sandbox.healthie_records import PLANS, Account, Client, EligibilityCheck, Messages, Policy
from covergate.sandbox.sample_plan import plan_dates
from covergate.sandbox.scenarios import Scenario, scenario_of
from covergate.sandbox.world import World

_Json = dict[str, Any]

_NAME = "healthie"
_PROVIDER_ID = "1001"
"""The user to whom the API key belongs."""
_PAGE_SIZE = 10
_LONGEST_HANG_SECONDS = 30.0
_HANG_FACTOR = 100
"""How long a check that never ends keeps its connection before it is cut: many of the vendor's delays, but not for ever."""

_RATE_LIMIT_IN_WORDS = "RATELIMITINWORDS"
"""Start of a member id whose rate limit is told by a message alone: no document says that it always has a code."""

_Announce = Callable[[str, Policy, list[str]], Coroutine[object, object, None]]
"""Sends the webhook of (event type, policy, changed fields)."""


class RateLimited(Exception):
    """The whole request is answered with the rate-limit error."""


class RateLimitedInWords(Exception):
    """The same, but the error has no code."""


class ServerFailed(Exception):
    """The whole request is answered 500."""


class ConnectionCut(Exception):
    """The whole request is answered with nothing."""


@dataclass
class Resolvers:
    """One account and what the fields of the schema's root do with it."""

    world: World
    announce: _Announce
    account: Account = field(default_factory=Account)
    check_ids: itertools.count[int] = field(default_factory=lambda: itertools.count(90001))
    refused_for_rate: set[str] = field(default_factory=set)
    """Ids of policies whose last check was refused; the next one is let through."""

    def root(self) -> dict[str, Callable[..., object]]:
        """GraphQL's root value: the fields of Query and Mutation by their names."""
        return {
            "user": self.user,
            "users": self.users,
            "usersCount": self.users_count,
            "insurancePlans": self.insurance_plans,
            "policy": self.policy,
            "createClient": self.create_client,
            "updateClient": self.update_client,
            "runEligibilityCheck": self.run_eligibility_check,
        }

    def user(self, info: object, id: str | None = None, or_current_user: bool = False) -> _Json | None:
        client = self.account.clients.get(id or "")
        if client is None:
            provider = {"id": _PROVIDER_ID, "first_name": "Sandbox", "last_name": "Provider", "active": True}
            return provider if or_current_user or id == _PROVIDER_ID else None
        return self._client(client)

    def users(
        self,
        info: object,
        keywords: str | None = None,
        offset: int = 0,
        should_paginate: bool = True,
        show_all_by_default: bool = True,
        active_status: str | None = None,
        provider_id: str | None = None,
        **unused: object,
    ) -> list[_Json]:
        """Those of one provider, by default the key's own user."""
        if not keywords and not show_all_by_default:
            return []
        clients = [
            client
            for client in self.account.search(keywords or "")
            if active_status in (None, "active" if client.active else "archived")
            and client.fields.get("dietitian_id") in (None, provider_id or _PROVIDER_ID)
        ]
        return [
            self._client(client) for client in (clients[offset : offset + _PAGE_SIZE] if should_paginate else clients)
        ]

    def users_count(self, info: object, keywords: str | None = None, **unused: object) -> int:
        return len(self.account.search(keywords or ""))

    def insurance_plans(
        self,
        info: object,
        keywords: str | None = None,
        is_accepted: bool | None = None,
        is_custom: bool | None = None,
        ids: str | None = None,
        offset: int = 0,
        after: str | None = None,
        should_paginate: bool = True,
        order_by: str | None = None,
        **unused: object,
    ) -> list[_Json]:
        word = (keywords or "").lower()
        plans = [
            plan
            for plan in PLANS
            if (word in plan.payer_name.lower() or word in plan.payer_id.lower())
            and is_accepted in (None, plan.is_accepted)
            and is_custom is not True
            and (ids is None or plan.id in ids.replace("[", "").replace("]", "").replace('"', "").split(","))
        ]
        if order_by == "PAYER_NAME_ASC":
            plans.sort(key=lambda plan: plan.payer_name)
        elif order_by == "ACCEPTED":
            plans.sort(key=lambda plan: not plan.is_accepted)
        rows = [plan.as_json() for plan in plans]
        if after is not None:
            offset = next((number + 1 for number, row in enumerate(rows) if row["cursor"] == after), len(rows))
        return rows[offset : offset + _PAGE_SIZE] if should_paginate else rows

    def policy(self, info: object, id: str | None = None) -> _Json | None:
        policy = self.account.policies.get(id or "")
        return None if policy is None else self._policy(policy)

    def create_client(self, info: object, input: _Json | None = None) -> _Json:
        created = self.account.create({"dietitian_id": _PROVIDER_ID, **(input or {})})
        return _payload(messages=created) if isinstance(created, list) else _payload(user=self._client(created))

    def update_client(self, info: object, input: _Json | None = None) -> _Json:
        given = input or {}
        for policy in given.get("policies") or []:
            self._fail_once(policy.get("num") or "")
        updated = self.account.update(given, self._now())
        if isinstance(updated, list):
            return _payload(messages=updated)
        client, changed = updated
        for event_type, policy in changed:
            self.world.spawn(self.announce(event_type, policy, ["num", "insurance_plan_id"]))
        return _payload(user=self._client(client))

    async def run_eligibility_check(self, info: object, input: _Json | None = None) -> _Json:
        given = input or {}
        policy = self.account.policies.get(given.get("id") or "")
        messages = _check_messages(policy, given)
        if policy is None or messages:
            return {"eligibility_check": None, "messages": messages}
        scenario = scenario_of(policy.member_id)
        if scenario is Scenario.RATELIMIT and policy.id not in self.refused_for_rate:
            self.refused_for_rate.add(policy.id)
            raise RateLimitedInWords if policy.member_id.startswith(_RATE_LIMIT_IN_WORDS) else RateLimited
        self.refused_for_rate.discard(policy.id)
        check_id = str(next(self.check_ids))
        client = self.account.clients[policy.user_id]
        self.world.record_submission(_NAME, client.fields.get("record_identifier"), policy.member_id, check_id)
        if scenario is Scenario.NEVER:
            await asyncio.sleep(min(_LONGEST_HANG_SECONDS, _HANG_FACTOR * self.world.delay(scenario)))
            raise ConnectionCut
        await asyncio.sleep(self.world.delay(scenario))
        check = self._run(check_id, policy, client, given.get("service_codes") or ["30"], scenario)
        policy.checks.append(check)
        policy.updated_at = check.created_at
        self.world.spawn(self.announce("policy.updated", policy, ["updated_at"]))
        if scenario is Scenario.DROPREPLY:
            raise ConnectionCut
        return {"eligibility_check": self._check(check), "messages": None}

    def _run(
        self, check_id: str, policy: Policy, client: Client, service_codes: list[str], scenario: Scenario
    ) -> EligibilityCheck:
        plan = policy.plan
        assert plan is not None  # _check_messages saw to it
        begins, ends = plan_dates(self.world, ended=scenario is Scenario.INACTIVE)
        is_dependent = (policy.fields.get("holder_relationship") or "Self").lower() != "self"
        request = claim_md.CheckRequest(
            check_id=check_id,
            payer_id=plan.payer_id,
            insured=_insured(policy.fields, "holder_first", "holder_last", "holder_dob", "holder_gender")
            if is_dependent
            else _insured(client.fields, "first_name", "last_name", "dob", "gender"),
            is_dependent=is_dependent,
            member_id=policy.member_id,
            group_number=policy.fields.get("group_num") or "",
            service_codes=service_codes,
            scenario=scenario,
            at=datetime.fromtimestamp(self.world.now(), UTC),
            plan_begins=begins,
            plan_ends=ends,
        )
        error = claim_md.error_of(request)
        is_readable = error is None and scenario is not Scenario.BROKENJSON
        return EligibilityCheck(
            id=check_id,
            policy_id=policy.id,
            created_at=self._now(),
            response=claim_md.response(request),
            response_as_html="<table></table>" if is_readable else None,
            error=error,
        )

    def _client(self, client: Client) -> _Json:
        for policy in client.policies:
            self._fail_once(policy.member_id)
        return {
            **client.fields,
            "id": client.id,
            "active": client.active,
            "can_check_eligibility": True,
            "default_eligibility_check_service": "claim_md",
            "eligibility_checking_connected": True,
            "policies": [self._policy(policy) for policy in client.policies],
        }

    def _policy(self, policy: Policy) -> _Json:
        self._fail_once(policy.member_id)
        latest = policy.checks[-1] if policy.checks else None
        plan = policy.plan
        client = self.account.clients[policy.user_id]
        return {
            **policy.fields,
            "id": policy.id,
            "user_id": policy.user_id,
            "updated_at": policy.updated_at,
            "insurance_plan": plan.as_json() if plan else None,
            "insurance_plan_id": plan.id if plan else None,
            "dob_to_use": policy.fields.get("holder_dob") or client.fields.get("dob"),
            "benefits": [],
            "latest_eligibility_check": lambda info: self._check(latest) if latest else None,
            "last_eligibility_check": lambda info: self._check(latest) if latest else None,
            "claim_eligibility_check_errors": [
                {"code": code, "description": text}
                for code, text in ([latest.error] if latest and latest.error else [])
            ],
        }

    def _check(self, check: EligibilityCheck) -> _Json:
        return {
            "id": check.id,
            "created_at": check.created_at,
            "policy_id": check.policy_id,
            "policy": lambda info: self._policy(self.account.policies[check.policy_id]),
            "response": check.response,
            "response_as_html": check.response_as_html,
        }

    def _fail_once(self, member_id: str) -> None:
        if scenario_of(member_id) is Scenario.HTTP500ONCE and self.world.once((_NAME, "500", member_id)):
            raise ServerFailed

    def _now(self) -> str:
        return datetime.fromtimestamp(self.world.now(), UTC).isoformat(timespec="milliseconds")


def _check_messages(policy: Policy | None, given: _Json) -> Messages:
    if policy is None:
        return [{"field": "id", "message": "Policy not found"}]
    messages: Messages = []
    if given.get("eligibility_check_service") != "claim_md":
        text = "ChangeHealth integration has been discontinued. Use claim_md instead."
        messages.append({"field": "eligibility_check_service", "message": text})
    if not policy.member_id:
        messages.append({"field": "num", "message": "can't be blank"})
    if policy.plan is None:
        messages.append({"field": "insurance_plan_id", "message": "can't be blank"})
    return messages


def _payload(user: _Json | None = None, messages: Messages | None = None) -> _Json:
    return {"user": user, "messages": messages}


def _insured(fields: _Json, first_name: str, last_name: str, born: str, gender: str) -> claim_md.Insured:
    initial = (fields.get(gender) or "")[:1].upper()
    return claim_md.Insured(
        fields.get(first_name) or "",
        fields.get(last_name) or "",
        fields.get(born) or "",
        initial if initial in ("M", "F") else "",
    )
