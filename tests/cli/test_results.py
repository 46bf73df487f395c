"""`covergate results renormalize`, also when it is killed."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from covergate.db.sealing import Sealer
from tests.support.commands import bare_environment
from tests.support.engine import running_engine
from tests.support.gateways import SANDBOX_SECRET, make_gateway
from tests.support.postgres import opened_database
from tests.support.sealers import OLD, ring
from tests.support.sql import run_sql
from tests.support.wire import ACTIVE, POLL, SUBMIT, Wire

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, database_url: str) -> Run:
    """Runs the command in a process that imports everything itself: where to die is read at the import."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {
            "COVERGATE_DATABASE_URL": database_url,
            "COVERGATE_ENCRYPTION_KEYS": f"k1:{base64.b64encode(OLD).decode()}",
            "COVERGATE_SANDBOX_URL": "http://sandbox.invalid",
            "COVERGATE_SANDBOX_SECRET": SANDBOX_SECRET,
        }
        code = "from covergate.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "results", "renormalize", *arguments],
            cwd=tmp_path,
            env=bare_environment() | given | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


async def test_a_run_that_was_killed_is_gone_on_with(run: Run, database_url: str) -> None:
    async with opened_database(database_url, Sealer(ring(k1=OLD))) as database:
        gateway = await make_gateway(database)
        wire = Wire().on(SUBMIT, (200, {"id": "9"})).on(POLL, (200, ACTIVE))
        async with running_engine(gateway, wire) as engine:
            ids = [await engine.create() for _ in range(3)]
            await engine.run_all()
        previewed = run("--dry-run", "--json")
        assert previewed.returncode == 0, previewed.stderr
        told = orjson.loads(previewed.stdout)
        assert (told["dry_run"], told["read"], told["changed"], told["verifications"]) == (True, 3, 0, {})
        assert run(COVERGATE_TEST_KILL_AT="after_reading:2").returncode == -signal.SIGKILL
        assert len(await run_sql(gateway, "SELECT 1 FROM readings")) == 2
        ended = run()
        assert ended.returncode == 0 and "0 of 1" in ended.stderr
        rows = await run_sql(gateway, "SELECT verification_id FROM readings ORDER BY 1")
        assert [row.verification_id for row in rows] == sorted(ids)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--since", "yesterday"), "--since"),
        (("--since", "2026-11-01T10:00:00+05:00"), "--since"),
        (("--vendor", "nobody"), "vendor"),
        (("--dry-run", "--announce"), "--announce"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(run: Run, arguments: tuple[str, ...], names: str) -> None:
    refused = run(*arguments)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert (names in refused.stderr, refused.stdout) == (True, "")
