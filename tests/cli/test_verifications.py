"""`covergate verifications`: what it lists and says, what it does, and what the audit has of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from covergate.db.sealing import Sealer
from covergate.eligibility.failure import FailureCode
from covergate.eligibility.failure import failure as failure_of
from covergate.gateway import Gateway
from covergate.states import AttemptState
from covergate.verifications import lifecycle, store
from covergate.verifications.commit import apply
from tests.support.commands import Commands, bare_environment
from tests.support.engine import accept
from tests.support.gateways import SANDBOX_SECRET, make_gateway
from tests.support.postgres import opened_database
from tests.support.sealers import OLD, ring
from tests.support.sql import run_sql
from tests.support.wire import Wire
from tests.support.workers import working

MEMBER = "W123456789"


class Clinic:
    """The command on a gateway with one verification that failed, one that waits for a person, and one that is queued."""

    def __init__(self, gateway: Gateway, covergate: Commands, directory: Path, url: str) -> None:
        self.gateway, self._covergate, self._directory, self._url = gateway, covergate, directory, url
        self.failed = self.stuck = self.queued = ""

    async def run(self, *arguments: str, code: int = 0) -> tuple[list[str], str]:
        """The lines of stdout, and stderr."""
        given = {
            "COVERGATE_DATABASE_URL": self._url,
            "COVERGATE_ENCRYPTION_KEYS": f"k1:{base64.b64encode(OLD).decode()}",
            "COVERGATE_SANDBOX_URL": "http://sandbox.invalid",
            "COVERGATE_SANDBOX_SECRET": SANDBOX_SECRET,
        }
        ended = await asyncio.to_thread(
            self._covergate,
            "verifications",
            *arguments,
            directory=self._directory,
            environment=bare_environment() | given,
        )
        assert ended.returncode == code, (ended.returncode, ended.stdout, ended.stderr)
        # PHI is not among what the command shows.
        assert [phi for phi in (MEMBER, "Jane", "Sample", "1990-02-03") if phi in ended.stdout + ended.stderr] == []
        return ended.stdout.splitlines(), ended.stderr

    async def change(self, verification_id: str, *, fails: bool) -> None:
        async with self.gateway.transaction() as db:
            v = (await store.lock(db, self.gateway.sealer, [verification_id]))[verification_id]
            if fails:
                change = lifecycle.failed(v, failure_of(FailureCode.PAYER_UNAVAILABLE), "for a test")
            else:
                v = replace(v, attempt=replace(v.attempt, state=AttemptState.SUBMITTING))
                change = lifecycle.wait_for_operator(v)
            await apply(db, self.gateway.sealer, [change])

    async def audited(self) -> list[tuple[str, str | None]]:
        rows = await run_sql(
            self.gateway,
            "SELECT action, subject_id FROM audit_events WHERE actor_kind = 'cli' AND action <> 'database.migrate'"
            " AND actor_id LIKE '%@%' AND (tenant_id IS NOT NULL OR subject_kind = 'job') ORDER BY position",
        )
        return [(row.action, row.subject_id) for row in rows]


@pytest.fixture
async def clinic(covergate: Commands, tmp_path: Path, database_url: str) -> AsyncIterator[Clinic]:
    async with opened_database(database_url, Sealer(ring(k1=OLD))) as database:
        gateway = await make_gateway(database)
        clinic = Clinic(gateway, covergate, tmp_path, database_url)
        clinic.failed, clinic.stuck, clinic.queued = [await accept(gateway) for _ in range(3)]
        await clinic.change(clinic.failed, fails=True)
        await clinic.change(clinic.stuck, fails=False)
        yield clinic


async def test_it_lists_by_the_lists_filters(clinic: Clinic) -> None:
    lines, _ = await clinic.run("list")
    assert [line.split("\t")[0] for line in lines] == [clinic.queued, clinic.stuck, clinic.failed]
    assert lines[2].split("\t")[1:6] == ["Test clinic", "test", "failed", "payer_unavailable", "integrex"]
    for filters, found in (
        (["--status", "failed", "--status", "completed"], [clinic.failed]),
        (["--waiting-for", "operator"], [clinic.stuck]),
        (["--failure-code", "payer_unavailable", "--completed-after", "8h"], [clinic.failed]),
        (["--created-before", "2020-01-01"], []),
        (["--tenant", "Other clinic"], []),
        (["--tenant", "Test clinic", "--mode", "live"], []),
        (["--family", clinic.queued], [clinic.queued]),
        (["--limit", "1"], [clinic.queued]),
    ):
        lines, _ = await clinic.run("list", "--json", *filters)
        assert [orjson.loads(line)["id"] for line in lines] == found, filters


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "--status", "lost"], "--status is one of: queued"),
        (["list", "--failure-code", "lost"], "--failure-code is one of:"),
        (["list", "--created-after", "yesterday"], "a time is"),
        (["list", "--tenant", "nobody"], "no such tenant"),
        (["why", "nothing"], "no such verification"),
        (["cancel"], "/filter: must have at least one condition"),
        (["cancel", "ver_1", "--status", "failed"], "ids or filters"),
        (["resolve", "ver_1"], "--decide or --found"),
        (["resolve", "--found", "x"], "for one verification"),
        (["retry", "ver_1", "--correct", "member_id"], "POINTER=VALUE"),
        (["retry", "--status", "failed", "--correct", "/retry_of=x"], "/corrections/~1retry_of"),
        (["job", "job_1"], "no such job"),
    ],
)
async def test_what_cannot_be_tried_is_one_line(clinic: Clinic, arguments: list[str], told: str) -> None:
    lines, stderr = await clinic.run(*arguments, code=2)
    assert lines == [] and told in stderr and stderr.count("\n") == 1


async def test_it_says_in_one_sentence_why_one_waits(clinic: Clinic) -> None:
    [said], _ = await clinic.run("why", clinic.stuck)
    assert said.startswith("Waits for a person since ") and "Integrex" in said
    acts = "submit it again, say that the vendor has it, give it up or cancel it"
    assert f" UTC at the latest; you can {acts}." in said
    [said], _ = await clinic.run("why", clinic.failed)
    assert said.startswith("Failed (payer unavailable) after ")
    assert said.endswith(" UTC; you can ask again.")
    lines, _ = await clinic.run("show", clinic.failed)
    assert any("payer_unavailable" in line for line in lines)
    shown = orjson.loads("\n".join((await clinic.run("show", "--json", clinic.failed))[0]))
    assert shown["inquiry"] is None and [row["type"] for row in shown["timeline"]] == ["created", "failed"]


async def test_one_is_asked_again_resolved_canceled_and_audited_as_the_command_line(clinic: Clinic) -> None:
    [retry], _ = await clinic.run("retry", clinic.failed, "--correct", "/patient/member_id=0042")
    lines, _ = await clinic.run("list", "--json", "--family", retry)
    assert [orjson.loads(line)["id"] for line in lines] == [retry, clinic.failed]
    _, stderr = await clinic.run("retry", clinic.queued, clinic.failed, code=1)
    assert f"{clinic.queued}: it is still open" in stderr
    _, stderr = await clinic.run("retry", clinic.failed, "--correct", "/patient/date_of_birth=1990-01-01", code=1)
    assert "must be left out, or null" in stderr
    await clinic.run("resolve", clinic.stuck, "--found", "9")
    [said], _ = await clinic.run("why", clinic.stuck)
    assert said.startswith("Waits for Integrex since ")
    assert said.endswith("; you can look now or cancel it.")
    assert await clinic.run("look", clinic.stuck) == ([clinic.stuck], "")
    await clinic.run("cancel", clinic.stuck)
    _, stderr = await clinic.run("look", clinic.stuck, code=1)
    assert "it does not wait for its vendor's answer" in stderr
    _, stderr = await clinic.run("resolve", clinic.stuck, "--decide", "give_up", code=1)
    assert "the verification is canceled" in stderr
    told = await clinic.audited()
    assert ("verification.retry", clinic.failed) in told and ("verification.create", retry) in told
    assert ("verification.look_now", clinic.stuck) in told
    assert ("verification.found", clinic.stuck) in told and ("verification.cancel", clinic.stuck) in told


async def test_many_are_counted_and_then_done_by_a_worker(clinic: Clinic) -> None:
    lines, stderr = await clinic.run("cancel", "--status", "queued", "--status", "in_progress")
    assert lines[0].split("\t")[1:] == ["counted", "matched 2", "done 0", "left 0"]
    assert {line.split("\t")[0] for line in lines[1:]} == {clinic.queued, clinic.stuck}
    assert "--yes does it" in stderr
    [line], _ = await clinic.run("cancel", "--waiting-for", "operator", "--yes", "--no-wait")
    job_id, status, *_ = line.split("\t")
    assert (job_id[:4], status) == ("job_", "queued")
    [line], _ = await clinic.run("job", job_id, "--stop", code=1)
    assert "canceled" in line
    async with working(clinic.gateway, Wire()):
        one = ("--waiting-for", "operator", "--family", clinic.stuck)
        lines, _ = await clinic.run("resolve", *one, "--decide", "give_up", "--yes", "--json")
    shown: dict[str, Any] = orjson.loads("\n".join(lines))
    assert (shown["status"], shown["done"], shown["ordered_by"]["kind"]) == ("completed", 1, "cli")
    told = await clinic.audited()
    assert ("bulk_job.resolve", shown["id"]) in told and ("verification.give_up", clinic.stuck) in told
