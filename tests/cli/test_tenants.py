"""`covergate tenants` and `covergate patients erase` as they are typed."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from covergate.db.database import Database
from covergate.db.sealing import KeyRing
from covergate.db.sql import Query
from tests.support.commands import Commands, bare_environment
from tests.support.engine import accept
from tests.support.gateways import make_gateway
from tests.support.postgres import KEYS
from tests.support.requests import PATIENT


class Typed:
    """`covergate` with arguments and what is typed when it asks."""

    def __init__(self, covergate: Commands, directory: Path, database_url: str) -> None:
        self.covergate = covergate
        self.directory = directory
        assert KeyRing.parse(KEYS)
        self.environment = {
            **bare_environment(),
            "COVERGATE_DATABASE_URL": database_url,
            "COVERGATE_ENCRYPTION_KEYS": KEYS,
        }

    async def __call__(self, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            self.covergate, *arguments, directory=self.directory, environment=self.environment, input=input
        )


@pytest.fixture
def typed(covergate: Commands, tmp_path: Path, database_url: str) -> Typed:
    return Typed(covergate, tmp_path, database_url)


async def test_retention_is_set_and_listed(typed: Typed, database: Database) -> None:
    await make_gateway(database)
    assert (await typed("tenants", "list")).stdout.splitlines() == [
        "ten_other\tOther clinic\t365 days (default)\tfor ever (default)\tin use",
        "ten_test\tTest clinic\t365 days (default)\tfor ever (default)\tin use",
    ]
    for arguments, days in (
        (("--raw-days", "30", "--content-days", "2190"), "30 days\t2190 days"),
        (("--raw-days", "0"), "for ever\t2190 days"),
        (("--content-days", "default"), "for ever\tfor ever (default)"),
    ):
        answer = await typed("tenants", "set-retention", "--tenant", "Test clinic", *arguments)
        assert answer.returncode == 0, answer.stderr
        assert f"ten_test\tTest clinic\t{days}\tin use" in (await typed("tenants", "list")).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tenant", "Nobody", "--raw-days", "1"), "there is no such tenant"),
        (("--tenant", "Test clinic"), "give --raw-days, --content-days or both"),
        (("--tenant", "Test clinic", "--raw-days", "-1"), "a number of days"),
        (("--tenant", "Test clinic", "--raw-days", "36501"), "a number of days"),
        (("--tenant", "Test clinic", "--content-days", "soon"), "a number of days"),
    ],
)
async def test_what_cannot_be_set(typed: Typed, database: Database, arguments: tuple[str, ...], said: str) -> None:
    await make_gateway(database)
    answer = await typed("tenants", "set-retention", *arguments)
    assert answer.returncode == 2 and said in answer.stderr and answer.stdout == ""


async def test_a_patient_is_erased_after_a_look_and_a_yes(typed: Typed, database: Database) -> None:
    id_ = await accept(await make_gateway(database))
    arguments = ("patients", "erase", "--tenant", "Test clinic", "--mode", "test")
    who = f"{PATIENT['member_id']}\n{PATIENT['date_of_birth']}\n"

    async def erased() -> bool:
        async with database.connection() as db:
            return bool(
                await Query("SELECT erased_at IS NOT NULL FROM verifications WHERE id = :id").scalar(db, {"id": id_})
            )

    dry = await typed(*arguments, "--dry-run", input=who)
    assert dry.returncode == 0 and "would be erased" in dry.stderr and not await erased()
    assert "verifications\t1" in dry.stdout.splitlines()
    no = await typed(*arguments, input=f"{who}n\n")
    assert no.returncode == 1 and not await erased()
    yes = await typed(*arguments, input=f"{who}y\n")
    assert yes.returncode == 0 and await erased(), yes.stderr
    assert yes.stdout.splitlines().count("inquiries\t1") == 2
    assert (await typed(*arguments, input="x\n1.2.1990\n")).returncode == 2
    assert (await typed("patients", "erase", "--tenant", "Nobody", "--mode", "test", input=who)).returncode == 2


async def test_a_tenant_is_erased(typed: Typed, database: Database) -> None:
    await accept(await make_gateway(database))
    arguments = ("tenants", "erase", "--tenant", "Test clinic")
    dry = await typed(*arguments, "--dry-run")
    assert dry.returncode == 0 and "verifications\t1" in dry.stdout
    assert (await typed(*arguments, input="n\n")).returncode == 1
    done = await typed(*arguments, "--yes")
    assert done.returncode == 0 and "inquiries\t1" in done.stdout, done.stderr
    assert "erased" in (await typed("tenants", "list")).stdout.splitlines()[1]
    assert (await typed("tenants", "erase", "--tenant", "Nobody", "--yes")).returncode == 2
