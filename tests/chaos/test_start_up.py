"""What a process says, in one line, to a database that it cannot reach, or that is of another version."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.cluster import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMMANDS = ("worker",)
"""`serve` opens the database by the same lines; a start costs three seconds."""


async def test_an_unreachable_database(bare_cluster: Cluster) -> None:
    url = "postgresql://covergate:hunter2@127.0.0.1:1/covergate"
    for line in await _said(bare_cluster, COVERGATE_DATABASE_URL=url):
        assert "cannot use the database at 127.0.0.1/covergate" in line
        assert "hunter2" not in line


async def test_an_older_database_and_a_newer_one(bare_cluster: Cluster) -> None:
    """The next release meets the database of this one; then this one meets the database of the next."""
    new = bare_cluster.next_release()
    for line in await _said(bare_cluster, **new.environment):
        assert "the database is of an older version of CoverGate: run `covergate migrate`" in line
    await bare_cluster.rows("UPDATE alembic_version SET version_num = $1", new.head)
    try:
        newer = await _said(bare_cluster)
    finally:
        await bare_cluster.rows("UPDATE alembic_version SET version_num = $1", bare_cluster.release.head)
    for line in newer:
        assert "the database is of a newer version of CoverGate" in line


async def _said(cluster: Cluster, **settings: str) -> list[str]:
    return await asyncio.gather(*(_line(cluster, command, **settings) for command in COMMANDS))


async def _line(cluster: Cluster, command: str, **settings: str) -> str:
    code, said = await cluster.command(command, release=None, COVERGATE_PORT="0", **settings)
    assert code == 2, said
    [line] = said.strip().splitlines()
    return line
