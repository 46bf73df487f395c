"""`covergate payers` as it is typed."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from covergate.db.database import Database
from covergate.payers import store
from covergate.payers.seed import seed_directory
from covergate.payers.store import Candidate
from covergate.vendors.flow import ListedPayer
from tests.support.commands import Commands, bare_environment
from tests.support.gateways import SANDBOX_SECRET
from tests.support.postgres import KEYS

AETNA = "pyr_01m80aq8c7epyshsw0x172jhr7"
CANDIDATE = Candidate("pyc_1", "vsee", "live", ListedPayer("AETNA SENIOR", {"carrier_code": "c3"}), (AETNA,))


class Payers:
    """`covergate payers` with arguments, and settings beside the database's."""

    def __init__(self, covergate: Commands, directory: Path, database_url: str) -> None:
        self.covergate = covergate
        self.directory = directory
        self.environment = {
            **bare_environment(),
            "COVERGATE_DATABASE_URL": database_url,
            "COVERGATE_ENCRYPTION_KEYS": KEYS,
            "COVERGATE_SANDBOX_SECRET": SANDBOX_SECRET,
        }

    async def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {f"COVERGATE_{name}": value for name, value in variables.items()}
        return await asyncio.to_thread(
            self.covergate,
            *("payers", *arguments),
            directory=self.directory,
            environment=self.environment | given,
        )


@pytest.fixture
def payers(covergate: Commands, tmp_path: Path, database_url: str) -> Payers:
    return Payers(covergate, tmp_path, database_url)


async def test_a_candidate_is_listed_and_linked(payers: Payers, database: Database) -> None:
    await seed_directory(database)
    async with database.transaction() as db:
        await store.replace_candidates(db, "vsee", "live", [CANDIDATE])

    listed = await payers("list-candidates")
    assert listed.returncode == 0, listed.stderr
    row = listed.stdout.strip().split("\t")
    assert row == ["pyc_1", "vsee", "live", "AETNA SENIOR", "carrier_code=c3", f"Aetna ({AETNA})"]

    assert (await payers("link", "pyc_1", "pyr_nobody")).returncode == 1
    assert (await payers("link", "pyc_1", AETNA)).returncode == 0
    again = await payers("link", "pyc_1", AETNA)
    assert again.returncode == 1
    assert "no such candidate" in again.stderr
    assert (await payers("list-candidates")).stdout == ""


async def test_sync_says_what_each_list_brought(payers: Payers) -> None:
    none = await payers("sync")
    assert (none.returncode, none.stdout) == (2, "")
    assert "no enabled vendor lists its payers" in none.stderr
    unreachable = await payers("sync", "--mode", "test", SANDBOX_URL="http://127.0.0.1:9")
    assert unreachable.returncode == 1
    rows = [line.split("\t") for line in unreachable.stdout.strip().splitlines()]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        (vendor, "test", "no_connection") for vendor in ("sohar", "vsee", "healthie")
    ]
