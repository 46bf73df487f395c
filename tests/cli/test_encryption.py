"""Encryption keys by the command, and the procedures of docs/security.md#keys as they are typed."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from covergate.api.app import create_app
from covergate.db.sealing import Sealer
from covergate.settings import Settings
from covergate.startup import opened
from tests.support.commands import Commands, bare_environment
from tests.support.engine import running_engine
from tests.support.gateways import make_gateway
from tests.support.postgres import opened_database
from tests.support.sealers import NEW, OLD, ring
from tests.support.wire import ACTIVE, POLL, SUBMIT, Wire

K1, K2 = (f"{key_id}:{base64.b64encode(key).decode()}" for key_id, key in (("k1", OLD), ("k2", NEW)))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(covergate: Commands, tmp_path: Path, database_url: str) -> Run:
    """Runs `covergate keys …` on the test's database, with these variables beside."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {f"COVERGATE_{name}": value for name, value in ({"DATABASE_URL": database_url} | variables).items()}
        return covergate("keys", *arguments, directory=tmp_path, environment=bare_environment() | given)

    return run


async def answered(database_url: str) -> dict[str, Any]:
    """A verification that was asked and answered under k1, as GET shows it."""
    async with opened_database(database_url, Sealer(ring(k1=OLD))) as database:
        gateway = await make_gateway(database)
        wire = Wire().on(SUBMIT, (200, {"id": "9"})).on(POLL, (200, ACTIVE))
        async with running_engine(gateway, wire) as engine:
            id_ = await engine.create()
            await engine.step(id_)
            await engine.step(id_)
            return await engine.view(id_)


async def test_a_ring_is_rotated(run: Run, database_url: str) -> None:
    shown = await answered(database_url)
    both = f"{K2},{K1}"
    early = run("list", ENCRYPTION_KEYS=K2)
    assert (early.returncode, early.stdout) == (2, "")
    assert early.stderr.count("\n") == 1 and "sealed under k1: keep that key" in early.stderr
    rewrapped = run("rewrap", ENCRYPTION_KEYS=both)
    assert (rewrapped.returncode, rewrapped.stderr) == (0, "2 data keys were wrapped anew.\n")
    told = run("status", "--values", ENCRYPTION_KEYS=both).stdout.splitlines()
    assert told[:2] == [
        "k1\tin the ring\twraps 0 data keys\tseals nothing",
        "k2\tfirst in the ring\twraps 3 data keys\tseals nothing",
    ]
    [of_tenant] = [line for line in told if "\tten_test\t" in line]
    assert (
        "under k2" in of_tenant
        and "1 of results.sealed" in of_tenant
        and "1 of verifications.inquiry_sealed" in of_tenant
    )
    assert run("list", ENCRYPTION_KEYS=K2).returncode == 0  # k1 may go
    async with opened_database(database_url, Sealer(ring(k2=NEW))) as database:
        async with database.connection() as db:
            await database.sealer.meet(db, ["ten_test"])
        assert database.sealer.current_key("ten_test").encryption_key_id == "k2"
    assert shown["unreadable"] == []


async def test_the_ring_may_come_from_a_file_or_a_command(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ring"
    file.write_text(f"{K1}\n")
    file.chmod(0o600)
    assert run("status", ENCRYPTION_KEYS_FILE=str(file)).returncode == 0
    assert run("status", ENCRYPTION_KEYS_COMMAND=f"cat '{file}'").returncode == 0
    file.chmod(0o640)
    refused = run("status", ENCRYPTION_KEYS_FILE=str(file))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "can be read by others than its owner" in refused.stderr


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, b"secret! " * 4])
def test_a_weak_key_is_refused(run: Run, key: bytes) -> None:
    refused = run("status", ENCRYPTION_KEYS=f"k1:{base64.b64encode(key).decode()}")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "is not random" in refused.stderr


async def test_emergency_access(run: Run, tmp_path: Path, database_url: str, postgres_url: str) -> None:
    """The gateway and its machine are gone. A restored copy, the ring from its escrow, and a person reads an answer."""
    shown = await answered(database_url)
    source, name = make_url(database_url).database, "restored"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {source}")
    restored = make_url(database_url).set(database=name).render_as_string(hide_password=False)
    try:
        escrow = tmp_path / "ring"
        escrow.write_text(K1)
        escrow.chmod(0o400)
        made = run(
            *("create", "--tenant", "Test clinic", "--mode", "test", "--scope", "verifications:read"),
            DATABASE_URL=restored,
            ENCRYPTION_KEYS_FILE=str(escrow),
        )
        assert made.returncode == 0, made.stderr
        settings = Settings(_env_file=None, database_url=restored, encryption_keys_file=escrow)
        async with opened(settings, 2, "tests") as gateway:
            app = create_app(gateway)
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://x") as client,
            ):
                headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
                read = (await client.get(f"/v1/verifications/{shown['id']}", headers=headers)).json()
        assert read["result"] == shown["result"]
        assert read["inquiry"]["patient"]["last_name"] == "Sample"
    finally:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()


async def test_the_loss_of_a_key(run: Run, database_url: str) -> None:
    """It is told at the start, given up by a person's word, and the gateway goes on with a new one."""
    shown = await answered(database_url)
    assert "sealed under k1" in run("list", ENCRYPTION_KEYS=K2).stderr
    unsure = run("lost", "k1", ENCRYPTION_KEYS=K2)
    assert (unsure.returncode, unsure.stderr.count("\n")) == (2, 1)
    lost = run("lost", "k1", "--yes", ENCRYPTION_KEYS=K2)
    assert (lost.returncode, lost.stderr) == (0, "2 data keys are lost.\n")
    made = run("create", "--tenant", "Test clinic", "--mode", "test", ENCRYPTION_KEYS=K2)
    assert made.returncode == 0, made.stderr
    settings = Settings(_env_file=None, database_url=database_url, encryption_keys=SecretStr(K2))
    async with opened(settings, 2, "tests") as gateway:
        async with running_engine(gateway, Wire()) as engine:
            assert (await engine.view(shown["id"]))["unreadable"] == ["inquiry", "result"]
        await gateway.meet("ten_test")
        assert gateway.sealer.current_key("ten_test").encryption_key_id == "k2"
