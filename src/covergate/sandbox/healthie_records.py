"""Healthie's records: clients, their policies and checks, the insurance plans; rules for storing and finding them.

Source: Healthie's developer guide and the generated types of its schema. A mutation that refuses answers with
`messages` of (field, message) and stores nothing at all.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from covergate.sandbox.healthie_claim_md import UNSUPPORTED_PAYER
from covergate.sandbox.sample_payers import SAMPLE_PAYERS

_Json = dict[str, Any]
Messages = list[dict[str, str]]

_CLIENT_FIELDS = (
    "first_name",
    "last_name",
    "legal_name",
    "email",
    "phone_number",
    "dob",
    "gender",
    "sex",
    "timezone",
    "dietitian_id",
    "record_identifier",
    "additional_record_identifier",
    "metadata",
)
_SEARCHED_FIELDS = ("first_name", "legal_name", "last_name", "record_identifier", "email", "dob")

_PRIORITIES = {"primary": "Primary", "secondary": "Secondary", "inactive": "Inactive"}
_BILLING_METHODS = ("no_billing_method", "copay", "coinsurance", "unmet_deductible")


@dataclass(frozen=True, slots=True)
class _Plan:
    id: str
    payer_id: str
    payer_name: str
    is_accepted: bool

    def as_json(self) -> _Json:
        return {
            "id": self.id,
            "cursor": f"plan-{self.id}",
            "is_accepted": self.is_accepted,
            "name_and_id": f"{self.payer_name} - {self.payer_id}",
            "payer_id": self.payer_id,
            "payer_name": self.payer_name,
        }


PLANS = tuple(
    _Plan(str(number), payer_id, name, is_accepted)
    for number, (payer_id, name, is_accepted) in enumerate(
        [
            ("60054", "Aetna Student Health", False),
            *((payer.id, payer.name, True) for payer in SAMPLE_PAYERS),
            ("47198", "Anthem Blue Cross", False),
            ("94036", "Blue Shield of California", False),
            ("62180", "Health Choice Arizona", True),
            ("13551", "Montgomery Health Insurance", False),
            (UNSUPPORTED_PAYER, "Sample County Health Program", True),
        ],
        start=101,
    )
)
"""Two plans share payer id 60054, one of them accepted, and there is more than one page of plans."""


@dataclass(frozen=True, slots=True)
class EligibilityCheck:
    id: str
    policy_id: str
    created_at: str
    response: str
    response_as_html: str | None
    error: tuple[str, str] | None


@dataclass
class Policy:
    id: str
    user_id: str
    updated_at: str
    fields: _Json = field(default_factory=dict)
    checks: list[EligibilityCheck] = field(default_factory=list)

    @property
    def member_id(self) -> str:
        return self.fields.get("num") or ""

    @property
    def plan(self) -> _Plan | None:
        return _plan_by_id(self.fields.get("insurance_plan_id"))


@dataclass
class Client:
    id: str
    fields: _Json
    active: bool = True
    policies: list[Policy] = field(default_factory=list)


@dataclass
class Account:
    """Everything stored for the key's organization."""

    clients: dict[str, Client] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(2001))

    def create(self, given: _Json) -> Client | Messages:
        messages = _client_messages(given)
        for name in ("first_name", "last_name"):
            if not given.get(name):
                messages.append({"field": name, "message": "can't be blank"})
        if not given.get("email") and given.get("skipped_email") is not True:
            messages.append({"field": "email", "message": "can't be blank"})
        if self._is_taken(given):
            messages.append({"field": "email", "message": "has already been taken"})
        if messages:
            return messages
        client = Client(str(next(self.ids)), {name: given[name] for name in _CLIENT_FIELDS if name in given})
        self.clients[client.id] = client
        return client

    def update(self, given: _Json, now: str) -> tuple[Client, list[tuple[str, Policy]]] | Messages:
        """The client and each changed policy with its event; nothing changes when something is refused."""
        client = self.clients.get(given.get("id") or "")
        if client is None:
            return [{"field": "id", "message": "Client not found"}]
        if given.get("resend_welcome"):
            return client, []
        inputs = given.get("policies") or []
        messages = [*_client_messages(given), *_policy_messages(client, inputs)]
        if messages:
            return messages
        client.fields.update({name: given[name] for name in _CLIENT_FIELDS if name in given})
        client.active = given.get("active", client.active)
        return client, [self._store(client, policy, now) for policy in inputs]

    def search(self, keywords: str) -> list[Client]:
        """Clients that match every word of `keywords`, by last name descending, as the guide says."""
        words = keywords.lower().split()
        clients = [client for client in self.clients.values() if all(_fits(client, word) for word in words)]
        return sorted(clients, key=lambda client: client.fields["last_name"], reverse=True)

    def _is_taken(self, given: _Json) -> bool:
        identity = [(given.get(name) or "").lower() for name in ("email", "first_name", "last_name")]
        return bool(identity[0]) and any(
            identity == [(client.fields.get(name) or "").lower() for name in ("email", "first_name", "last_name")]
            for client in self.clients.values()
        )

    def _store(self, client: Client, given: _Json, now: str) -> tuple[str, Policy]:
        fields = {name: value for name, value in given.items() if name not in ("id", "_destroy", "insurance_plan")}
        if (given.get("insurance_plan") or {}).get("id"):
            fields["insurance_plan_id"] = given["insurance_plan"]["id"]
        if fields.get("priority_type"):
            fields["priority_type"] = _PRIORITIES[fields["priority_type"].lower()]
        if given.get("id") is None:
            policy = Policy(str(next(self.ids)), client.id, now, fields)
            client.policies.append(policy)
            self.policies[policy.id] = policy
            return "policy.created", policy
        policy = self.policies[given["id"]]
        if given.get("_destroy"):
            client.policies.remove(policy)
            del self.policies[policy.id]
            return "policy.deleted", policy
        policy.fields.update(fields)
        policy.updated_at = now
        return "policy.updated", policy


def _plan_by_id(plan_id: str | None) -> _Plan | None:
    return next((plan for plan in PLANS if plan.id == plan_id), None)


def _fits(client: Client, word: str) -> bool:
    return word == client.id or any(word in (client.fields.get(name) or "").lower() for name in _SEARCHED_FIELDS)


def _client_messages(given: Mapping[str, Any]) -> Messages:
    messages: Messages = []
    if given.get("dob") and not _is_date(given["dob"]):
        messages.append({"field": "dob", "message": "is not a date in YYYY-MM-DD format"})
    if given.get("email") and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", given["email"]):
        messages.append({"field": "email", "message": "is invalid"})
    return messages


def _policy_messages(client: Client, inputs: list[_Json]) -> Messages:
    """Errors in the policies as given, and in the client's policies as they would be after the update."""
    problems: list[str] = []
    priorities = {policy.id: policy.fields.get("priority_type") for policy in client.policies}
    for number, given in enumerate(inputs):
        key = given.get("id") or f"new {number}"
        if given.get("id") is not None and given["id"] not in priorities:
            problems.append("policy not found")
            continue
        if given.get("_destroy"):
            priorities.pop(key, None)
            continue
        plan_id = given.get("insurance_plan_id") or (given.get("insurance_plan") or {}).get("id")
        if plan_id and _plan_by_id(plan_id) is None:
            problems.append("insurance plan not found")
        if given.get("holder_dob") and not _is_date(given["holder_dob"]):
            problems.append("holder_dob is not a date in YYYY-MM-DD format")
        if given.get("insurance_billing_method") not in (None, *_BILLING_METHODS):
            problems.append("insurance_billing_method is not included in the list")
        if given.get("priority_type"):
            priorities[key] = _PRIORITIES.get(given["priority_type"].lower(), "?")
    if "?" in priorities.values():
        problems.append("priority_type must be Primary, Secondary or Inactive")
    if list(priorities.values()).count("Primary") > 1:
        problems.append("only one policy can be Primary")
    return [{"field": "policies", "message": problem} for problem in problems]


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
