"""`covergate audit` as it is typed."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import asyncpg
import orjson
import pytest

from covergate.access import audit
from covergate.access.audit_chain import Chain
from covergate.access.caller import Origin
from covergate.gateway import Gateway
from covergate.states import SubjectKind
from tests.support.commands import Commands, bare_environment
from tests.support.gateways import CALLER
from tests.support.postgres import KEYS
from tests.support.sql import run_sql

OTHER_KEYS = "test:" + base64.b64encode(bytes(range(1, 33))).decode()
BY = replace(CALLER, origin=Origin("req_1", "192.0.2.7", "staff-4711"))


class Audit:
    """`covergate audit` with arguments."""

    def __init__(self, covergate: Commands, directory: Path, database_url: str) -> None:
        self.covergate = covergate
        self.directory = directory
        self.database_url = database_url

    async def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {"DATABASE_URL": self.database_url, "ENCRYPTION_KEYS": KEYS, "LOG_LEVEL": "error", **variables}
        return await asyncio.to_thread(
            self.covergate,
            *("audit", *arguments),
            directory=self.directory,
            environment=bare_environment() | {f"COVERGATE_{name}": value for name, value in given.items() if value},
        )


@pytest.fixture
def command(covergate: Commands, tmp_path: Path, database_url: str) -> Audit:
    return Audit(covergate, tmp_path, database_url)


@pytest.fixture
async def filled(gateway: Gateway) -> Gateway:
    """With two batches, and a row that is not closed."""
    chain = Chain(gateway)
    for subject in ("ver_1", "ver_2"):
        async with gateway.connection() as db:
            await audit.record(db, BY, "verification.read", SubjectKind.VERIFICATION, [subject])
        assert await chain.close() == 1
    async with gateway.connection() as db:
        await audit.record(db, BY, "verification.raw", SubjectKind.VERIFICATION, ["ver_3"])
    return gateway


async def own_rows(gateway: Gateway) -> list[str]:
    """What the command left about itself."""
    rows = await run_sql(
        gateway, "SELECT action, actor_id FROM audit_events WHERE actor_kind = 'cli' ORDER BY position"
    )
    assert all(re.fullmatch(r"\S+@\S+", row.actor_id) for row in rows)
    return [row.action for row in rows]


async def test_list(command: Audit, filled: Gateway) -> None:
    told = await command("list")
    assert told.returncode == 0, told.stderr
    found = [line.split("\t")[1:] for line in told.stdout.splitlines()]
    read = ["allowed", "key key_test", "staff-4711", "192.0.2.7"]
    assert found == [
        [action, *read, subject, "ten_test", "req_1", "1"]
        for action, subject in (
            ("verification.raw", "ver_3"),
            ("verification.read", "ver_2"),
            ("verification.read", "ver_1"),
        )
    ]
    for arguments, number in (
        (("--action", "verification.raw"), 1),
        (("--subject", "ver_1"), 1),
        (("--actor", "key_test", "--limit", "2"), 2),
        (("--tenant", "ten_other"), 0),
        (("--until", "2020-01-01"), 0),
        (("--since", "2020-01-01", "--tenant", "ten_test", "--actor", "key_test"), 3),
    ):
        assert len((await command("list", *arguments)).stdout.splitlines()) == number, arguments
    assert await own_rows(filled) == ["audit.list"] * 7


async def test_verify(command: Audit, filled: Gateway) -> None:
    told = await command("verify")
    assert told.returncode == 0, told.stderr
    assert told.stderr == "covergate: 2 batches with 2 rows, 1 rows not closed yet, 0 batches past their six years\n"
    head = told.stdout.strip()
    assert re.fullmatch(r"2:[0-9a-f]{64}", head)
    assert (await command("verify", "--noted", head)).returncode == 0
    assert await own_rows(filled) == ["audit.verify"] * 2

    raw = await asyncpg.connect(command.database_url)
    await raw.execute("SET session_replication_role = replica")
    await raw.execute("DELETE FROM audit_batches WHERE number = 2")
    await raw.close()
    assert (await command("verify")).returncode == 0  # the end alone tells nothing
    cut = await command("verify", "--noted", head)
    assert (cut.returncode, cut.stdout[:2]) == (1, "1:")
    assert "batch 2 was noted and is missing" in cut.stderr


async def test_export_and_its_proof(command: Audit, filled: Gateway) -> None:
    told = await command("export")
    assert told.returncode == 0, told.stderr
    rows = [orjson.loads(line) for line in told.stdout.splitlines()]
    assert [row.get("subject_id", row.get("batch")) for row in rows] == ["ver_1", 1, "ver_2", 2]
    assert await own_rows(filled) == ["audit.export"]
    assert [
        orjson.loads(line)["batch"] for line in (await command("export", "--after", "1")).stdout.splitlines()[1:]
    ] == [2]

    file = command.directory / "audit.ndjson"
    file.write_text(told.stdout)
    nowhere = {"DATABASE_URL": "postgresql://127.0.0.1:1/nowhere"}
    sound = await command("verify", str(file), **nowhere)
    assert sound.returncode == 0, sound.stderr
    assert sound.stdout.startswith("2:")
    without = await command("verify", str(file), ENCRYPTION_KEYS="", **nowhere)
    assert without.returncode == 0 and "only the digests are compared" in without.stderr
    other = await command("verify", str(file), ENCRYPTION_KEYS=OTHER_KEYS, **nowhere)
    assert other.returncode == 1 and "was not signed under key test" in other.stderr
    file.write_text(told.stdout.replace("ver_1", "ver_9"))
    altered = await command("verify", str(file), **nowhere)
    assert altered.returncode == 1 and "batch 1 has rows that were altered or moved" in altered.stderr


async def test_what_cannot_be_tried(command: Audit) -> None:
    for arguments in (("verify", "--noted", "2:x"), ("verify", "/nowhere/at/all")):
        told = await command(*arguments)
        assert (told.returncode, told.stdout) == (2, "")
        assert len(told.stderr.strip().splitlines()) == 1
