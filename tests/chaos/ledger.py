"""The ledger: what was accepted against what became of it, by id, read from the database, the sandbox, the proxy and the
partner's log.

accepted = completed + failed + canceled, each with exactly one terminal event; each delivery delivered (the partner wrote its
webhook-id down) or visibly exhausted; one submission per verification at most, but for an operator's word; every end by its
deadline, give or take five seconds; a person asked only about a submission whose reply was really lost.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.chaos import books
from tests.chaos.cluster import Cluster
from tests.chaos.load import Clients
from tests.chaos.losses import Evidence, unexplained

TERMINAL = {
    "completed": "verification.completed",
    "failed": "verification.failed",
    "canceled": "verification.canceled",
}
NEEDS_ATTENTION = "verification.needs_attention"
LATE_SECONDS = 5.0
PATIENTS_MISTAKES = frozenset({"member_id_invalid", "member_name_mismatch", "member_dob_mismatch"})
"""Failures that only a vendor's answer can bring."""


@dataclass
class Account:
    """The ledger's findings. `lost`, `doubled`, `wrong` and `avoidable` are ids with what is wrong with each; the run failed if
    there are any.
    """

    verifications: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    lost: dict[str, str] = field(default_factory=dict)
    doubled: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    """Neither lost nor doubled, and yet not as promised: a wrong answer, a late end, a forged webhook."""
    exhausted: int = 0
    needs_attention: int = 0
    replies_lost: int = 0
    """Submissions whose reply never reached a living worker: what an operator may be asked about at most."""
    avoidable: dict[str, str] = field(default_factory=dict)
    """Verifications about which a person was asked although nothing was lost on the way."""
    resolutions: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.avoidable)


@dataclass(frozen=True)
class Period:
    """What is known of an experiment besides the books. `blackout_until`: until then nobody could have closed anything, and
    lateness counts from there.
    """

    began: float
    blackout_until: datetime | None
    endpoints: int
    resubmitted: Sequence[str]
    given_up: Sequence[str]
    intents: Sequence[Mapping[str, Any]]
    """As they were before any clock was moved."""


async def settle_accounts(cluster: Cluster, tenant_id: str, clients: Clients, period: Period) -> Account:
    account = Account(verifications=len(clients.accepted))
    account.resolutions = len(period.resubmitted) + len(period.given_up)
    rows = await books.verifications(cluster, tenant_id, period.blackout_until)
    submissions: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for submission in await cluster.submissions():
        submissions[submission["member_id"]].append(submission)
    _ends(account, clients, rows)
    await _announcements(account, cluster, tenant_id, clients, rows, period.endpoints)
    _submissions(account, clients, rows, submissions, Counter(period.resubmitted))
    await _attention(account, cluster, tenant_id, clients, submissions, period)
    return account


def _ends(account: Account, clients: Clients, rows: dict[str, Any]) -> None:
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for id_, row in rows.items():
        by_key[row["external_id"]].append(id_)
    for key, ids in by_key.items():
        if len(ids) > 1:
            account.doubled[key] = f"one idempotency key, several verifications: {ids}"
    for key in clients.other_ids:
        account.doubled[key] = "one idempotency key was given two ids"
    for number, text in enumerate(clients.refused):
        account.wrong[f"refused {number}"] = text
    for id_, asked in clients.accepted.items():
        row = rows.get(id_)
        if row is None:
            account.lost[id_] = "accepted and not there"
            continue
        account.statuses[row["status"]] += 1
        if row["status"] not in TERMINAL:
            account.lost[id_] = f"still {row['status']} at {asked.vendor}"
            continue
        if row["late"] > LATE_SECONDS:
            account.wrong[id_] = f"ended {row['late']:.1f} s after its deadline"
        if id_ in clients.canceled and row["status"] != "canceled":
            account.wrong[id_] = f"canceled, and yet {row['status']}"
        if row["status"] == "completed" and row["outcome"] != asked.expected:
            account.wrong[id_] = f"{asked.member_id}: {row['outcome']} instead of {asked.expected}"
        if row["status"] == "failed":
            account.failures[row["failure_code"]] += 1
            if row["failure_code"] in PATIENTS_MISTAKES and row["failure_code"] != asked.expected:
                account.wrong[id_] = f"{asked.member_id}: {row['failure_code']} instead of {asked.expected}"


async def _announcements(
    account: Account, cluster: Cluster, tenant_id: str, clients: Clients, rows: dict[str, Any], endpoints: int
) -> None:
    events: defaultdict[str, list[Any]] = defaultdict(list)
    for event in await books.events(cluster, tenant_id, list(TERMINAL.values())):
        events[event["verification_id"]].append(event)
    deliveries: defaultdict[str, list[Any]] = defaultdict(list)
    for delivery in await books.deliveries(cluster, tenant_id):
        deliveries[delivery["event_id"]].append(delivery)
        account.exhausted += delivery["status"] == "exhausted"
    told = {(line["path"], line["id"]) for line in partner_lines(cluster) if 200 <= line["status"] < 300}
    for line in partner_lines(cluster):
        if line["status"] == 401 and line["path"].startswith(f"/{clients.name}/"):
            account.wrong[str(line["id"])] = "the partner could not verify this webhook"
    for id_ in clients.accepted:
        ended = rows[id_]["status"] if id_ in rows else None
        if ended not in TERMINAL:
            continue
        announced = [event["type"] for event in events[id_]]
        if announced != [TERMINAL[ended]]:
            (account.doubled if len(announced) > 1 else account.lost)[id_] = f"{ended}, announced as {announced}"
        for event in events[id_]:
            made = deliveries[event["id"]]
            if len(made) < endpoints or len({delivery["endpoint"] for delivery in made}) != len(made):
                account.lost[id_] = f"{len(made)} deliveries of its end for {endpoints} endpoints"
            for delivery in made:
                path = "/" + delivery["url"].split("/", 3)[3]
                if delivery["status"] == "pending":
                    account.lost[id_] = f"its end is not delivered: {delivery['id']}"
                elif delivery["status"] == "delivered" and (path, event["id"]) not in told:
                    account.lost[id_] = f"delivered, says {delivery['id']}, and the partner knows nothing of it"


def _submissions(
    account: Account,
    clients: Clients,
    rows: dict[str, Any],
    submissions: Mapping[str, list[dict[str, Any]]],
    resubmitted: Counter[str],
) -> None:
    for id_, asked in clients.accepted.items():
        made = submissions.get(asked.member_id, [])
        if len(made) > 1 + resubmitted[id_]:
            account.doubled[id_] = f"submitted {len(made)} times: {[(row['vendor'], row['echo']) for row in made]}"
        if not made and id_ in rows and rows[id_]["status"] == "completed":
            account.wrong[id_] = "completed, and no vendor was asked"


async def _attention(
    account: Account,
    cluster: Cluster,
    tenant_id: str,
    clients: Clients,
    submissions: Mapping[str, list[dict[str, Any]]],
    period: Period,
) -> None:
    """Each question to a person is held against a reply that was lost."""
    ids = {asked.member_id: id_ for id_, asked in clients.accepted.items()}
    evidence = Evidence(
        calls=await cluster.committing_calls(period.began),
        verifications=ids,
        references={
            (made["vendor"], made["ref"]): ids[member] for member in ids for made in submissions.get(member, [])
        },
        intents=period.intents,
        deaths=cluster.deaths,
    )
    intents = await books.intents(cluster, tenant_id)
    vendors = {intent["verification_id"]: intent["vendor"] for intent in intents}
    events = await books.events(cluster, tenant_id, [NEEDS_ATTENTION])
    questions = [(event["verification_id"], vendors.get(event["verification_id"], "")) for event in events]
    lost = evidence.lost()
    account.needs_attention, account.replies_lost = len(questions), lost.total()
    account.avoidable = unexplained(questions, lost)


def partner_lines(cluster: Cluster) -> list[dict[str, Any]]:
    if not cluster.partner_log.exists():
        return []
    # Killed in the middle of a line, it had not answered yet.
    return [json.loads(line) for line in cluster.partner_log.read_text().splitlines() if line.endswith("}")]
