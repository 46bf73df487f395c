"""PgBouncer in front of PostgreSQL: with session pooling everything works, with transaction pooling the start is refused."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from covergate.db.connect import connect
from covergate.db.database import open_database
from covergate.db.notify import tell
from covergate.db.sql import Query
from covergate.errors import ConfigurationError
from covergate.settings import Settings
from tests.support.postgres import KEYS

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="NOT TESTED: PgBouncer between the gateway and PostgreSQL, because there is no pgbouncer"
)


@contextmanager
def bouncing(server_url: str, mode: str) -> Iterator[int]:
    """A PgBouncer of the test's own in front of the server; its port."""
    assert PGBOUNCER is not None
    with tempfile.TemporaryDirectory(prefix="cg") as name, socket.socket() as free:
        directory = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        server = parse_qs(urlsplit(server_url).query)["host"][0]
        (directory / "users").write_text('"postgres" ""\n')
        (directory / "ini").write_text(
            f"[databases]\n* = host={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"unix_socket_dir =\nauth_type = any\nauth_file = {directory}/users\npool_mode = {mode}\n"
        )
        user = pwd.getpwuid(Path(server).stat().st_uid)  # PgBouncer refuses to run as root
        for path in (directory, *directory.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
        with subprocess.Popen(
            [PGBOUNCER, "--quiet", directory / "ini"],
            user=user.pw_uid if os.geteuid() == 0 else None,
            group=user.pw_gid if os.geteuid() == 0 else None,
            extra_groups=[] if os.geteuid() == 0 else None,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield port
            finally:
                process.terminate()


async def settings_behind(port: int, database_url: str) -> Settings:
    parsed = make_url(database_url)
    attributes = parsed.query.get("target_session_attrs", "read-write")
    url = f"postgresql://postgres@127.0.0.1:{port}/{parsed.database}?target_session_attrs={attributes}"
    async with asyncio.timeout(10):
        while True:
            try:
                await (await asyncpg.connect(url)).close()
                break
            except OSError:
                await asyncio.sleep(0.01)
    return Settings(_env_file=None, database_url=url, encryption_keys=SecretStr(KEYS))


async def test_session_pooling_works(postgres_url: str, empty_database_url: str) -> None:
    with bouncing(postgres_url, "session") as port:
        settings = await settings_behind(port, empty_database_url)
        database = await open_database(settings, pool_size=3, application_name="tests", migrate=True)
        for name, value in {"jit": "off", "statement_timeout": "30s", "TimeZone": "UTC"}.items():
            async with database.connection() as db:
                assert await Query(f"SHOW {name}").scalar(db) == value
        told = asyncio.Event()
        listener = await connect(database.url, application_name="tests")
        await listener.add_listener("news", lambda *_: told.set())
        for _ in range(3):
            async with database.transaction() as db:
                await Query("INSERT INTO tenants (id, name) VALUES ('ten_1', 'North') ON CONFLICT DO NOTHING").run(db)
                tell(db, "news", "")
        async with asyncio.timeout(10):
            await told.wait()
        await listener.close()
        await database.aclose()


# With `any` nothing is prepared until the sessions are compared, so that this is seen at work, too.
@pytest.mark.parametrize("attributes", ["read-write", "any"])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_pooling_by_transaction_is_refused_in_one_line(
    postgres_url: str, database_url: str, mode: str, attributes: str
) -> None:
    with bouncing(postgres_url, mode) as port:
        settings = await settings_behind(port, f"{database_url}&target_session_attrs={attributes}")
        with pytest.raises(ConfigurationError, match="session pooling") as refused:
            await open_database(settings, pool_size=3, application_name="tests", migrate=False)
        assert "\n" not in str(refused.value)
