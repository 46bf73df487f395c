"""One PostgreSQL data directory and what is done to it: made, started, stopped, upgraded.

Callers hold the start-up lock of `db/embedded/__init__.py`. Invariant: `<data_dir>/postgres` is a complete cluster or absent;
whatever takes time is made beside it and renamed into place.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from covergate.db.embedded.host import SOCKET, SYSTEM_USER, EmbeddedPostgresError, binaries, runs_as, system_account

log = structlog.get_logger(__name__)

MAJOR = 18
RECOVERY_SECONDS = 60
REFUSAL_SECONDS = 6  # how long backends of a killed server may hold its shared memory; the process ends within 10 s
LOG_BYTES = 10_000_000  # the server's own log and the one before it have this size at most

# The socket directory is relative to the data directory, so that a server whose data directory was deleted under it
# does not, when it notices and exits, delete the socket of its successor. Rows and statements stay out of the log: PHI.
SETTINGS = (
    "listen_addresses=",
    "port=5432",
    "unix_socket_directories=.",
    "unix_socket_permissions=0700",
    "max_connections=200",
    "log_min_error_statement=panic",
    "log_error_verbosity=terse",
    "log_checkpoints=off",
    # A killed server brings all that it had written to the disk before it recovers: file by file that takes seconds, on a
    # busy disk more than ten. Only Linux can do it at once.
    *(("recovery_init_sync_method=syncfs",) if sys.platform == "linux" else ()),
)
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Cluster:
    """One data directory, the binaries that fit it and the system user to run them as (None: ourselves)."""

    data_dir: Path
    major: int
    binaries: Path
    account: pwd.struct_passwd | None

    @classmethod
    def at(cls, data_dir: Path, major: int) -> Cluster:
        account = system_account() if os.geteuid() == 0 else None
        if account and not runs_as(account, "/bin/sh", "-c", 'cd "$0"', str(data_dir)):
            raise EmbeddedPostgresError(
                f"the system user {SYSTEM_USER} cannot enter {data_dir}: a directory above it is closed to others; "
                "choose another COVERGATE_DATA_DIR, such as /var/lib/covergate"
            )
        return cls(data_dir, major, binaries(major, data_dir, account), account)

    @property
    def pgdata(self) -> Path:
        return self.data_dir / "postgres"

    def run(self, command: str, *arguments: str, cwd: Path | None = None) -> tuple[bool, str]:
        """Runs one of the binaries as the cluster's user; whether it succeeded, and all it printed."""
        # A file, not a pipe: the server would inherit a pipe from pg_ctl and reading it would never end.
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            done = subprocess.run(
                [str(self.binaries / command), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd or self.data_dir,
                # A locale that the environment names may not be generated; PG* variables would change the server.
                env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)},
                user=self.account.pw_uid if self.account else None,
                group=self.account.pw_gid if self.account else None,
                extra_groups=[] if self.account else None,
                check=False,
            )
            output.seek(0)
            return done.returncode == 0, output.read()

    def own(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)


def bring_up(cluster: Cluster, *, durable: bool) -> None:
    """Returns when the server accepts connections, whichever process started it."""
    settings = SETTINGS if durable else SETTINGS + NOT_DURABLE
    began = time.monotonic()
    while not _accepts_connections(cluster):
        waited = time.monotonic() - began
        if waited > RECOVERY_SECONDS:
            raise EmbeddedPostgresError(
                f"PostgreSQL did not accept connections within {RECOVERY_SECONDS} s: see {cluster.pgdata / 'log'}"
            )
        if not is_running(cluster):
            _drop_foreign_pid_file(cluster.pgdata)
            rotate_log(cluster)
            log_size = _log_size(cluster.pgdata)
            started, _ = cluster.run(
                *("pg_ctl", "start", "--wait", f"--timeout={RECOVERY_SECONDS}", "--silent"),
                *("--pgdata", str(cluster.pgdata), "--log", str(cluster.pgdata / "log")),
                *("--options", " ".join(f"-c {setting}" for setting in settings)),
            )
            if started:
                log.info("embedded_postgres_started", data_dir=str(cluster.data_dir), major=cluster.major)
                continue
            if waited > REFUSAL_SECONDS:
                raise EmbeddedPostgresError(
                    f"PostgreSQL in {cluster.pgdata} does not start: {_fatal_line(cluster.pgdata, log_size)}"
                )
        time.sleep(0.1)


def shut_down(cluster: Cluster) -> None:
    if not (cluster.pgdata / "postmaster.pid").exists():
        return
    stopped, _ = cluster.run(
        *("pg_ctl", "stop", "--mode=fast", "--wait", f"--timeout={RECOVERY_SECONDS}", "--silent"),
        *("--pgdata", str(cluster.pgdata)),
    )
    log.info(
        "embedded_postgres_stopped" if stopped else "embedded_postgres_not_stopped", data_dir=str(cluster.data_dir)
    )


def _accepts_connections(cluster: Cluster) -> bool:
    ready, _ = cluster.run("pg_isready", "--quiet", "--host", str(cluster.pgdata), "--username=postgres", "--timeout=3")
    return ready


def _recorded_pid(pgdata: Path) -> int | None:
    try:
        return int((pgdata / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def is_running(cluster: Cluster) -> bool:
    """True if the recorded process is the server of this data directory: pids are used again."""
    pid = _recorded_pid(cluster.pgdata)
    try:
        # The command line, not the working directory: in a container root may not read that of another user's process.
        # A zombie has none, and a killed server stays one under a process 1 that reaps no children.
        process = psutil.Process(pid) if pid else None
        return process is not None and process.name() == "postgres" and str(cluster.pgdata) in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _drop_foreign_pid_file(pgdata: Path) -> None:
    """Removes pid files that name a live process which is not our server: PostgreSQL would refuse to start.

    Those that name a dead process are left to PostgreSQL. Either way it checks the shared memory of the data directory
    for backends that outlived their server.
    """
    pid = _recorded_pid(pgdata)
    if pid is not None and psutil.pid_exists(pid):
        for name in ("postmaster.pid", f"{SOCKET}.lock"):
            (pgdata / name).unlink(missing_ok=True)
        log.warning("embedded_postgres_stale_pid_dropped", pid=pid)


def rotate_log(cluster: Cluster) -> None:
    """The server appends, and goes on at the beginning of a file that was emptied."""
    if _log_size(cluster.pgdata) > LOG_BYTES:
        shutil.copy(cluster.pgdata / "log", cluster.pgdata / "log.1")
        os.truncate(cluster.pgdata / "log", 0)


def _log_size(pgdata: Path) -> int:
    path = pgdata / "log"
    return path.stat().st_size if path.exists() else 0


def _fatal_line(pgdata: Path, offset: int) -> str:
    with contextlib.suppress(OSError), (pgdata / "log").open("rb") as file:
        file.seek(offset)
        for line in file.read().decode(errors="replace").splitlines():
            if "FATAL:" in line or "PANIC:" in line or line.startswith("postgres: "):
                return line.strip()
    return f"see {pgdata / 'log'}"


def create_cluster(cluster: Cluster, *, durable: bool) -> None:
    """Makes a new data directory beside its place and moves it there whole: a killed initdb leaves no half of one."""
    fresh = cluster.data_dir / "postgres.new"
    _initdb(cluster, fresh, durable=durable)
    _rename(fresh, cluster.pgdata)


def _initdb(cluster: Cluster, target: Path, *, durable: bool) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(mode=0o700)
    cluster.own(target)
    created, output = cluster.run(
        *("initdb", "--username=postgres", "--encoding=UTF8", "--auth-local=trust", "--auth-host=reject"),
        *("--no-instructions", "--pgdata", str(target), *(() if durable else ("--no-sync",))),
    )
    if not created:
        raise EmbeddedPostgresError(f"initdb failed in {cluster.data_dir}: {_ending(output)}")


def upgrade_from(old: Cluster, new: Cluster) -> None:
    kept = old.data_dir / f"postgres.{old.major}"
    if kept.exists():
        raise EmbeddedPostgresError(f"{kept} is in the way: it holds the data from before an earlier upgrade; move it")
    # pg_upgrade wants a cluster that was shut down in order, so one that crashed recovers first.
    bring_up(old, durable=True)
    shut_down(old)
    _, control = old.run("pg_controldata", "--pgdata", str(old.pgdata))
    if re.search(r"^Data page checksum version:\s*0$", control, re.MULTILINE):
        _must_run(old, "pg_checksums", "--enable", "--pgdata", str(old.pgdata))  # the default of 18 only
    upgraded = new.data_dir / "postgres.upgraded"
    _initdb(new, new.data_dir / "postgres.new", durable=False)  # pg_upgrade syncs it in the end
    with tempfile.TemporaryDirectory(dir=new.data_dir, prefix="upgrade-") as scratch:
        new.own(Path(scratch))
        _must_run(
            new,
            *("pg_upgrade", "--username=postgres", "--socketdir", str(old.pgdata)),
            *("--old-bindir", str(old.binaries), "--new-bindir", str(new.binaries)),
            *("--old-datadir", str(old.pgdata), "--new-datadir", str(new.data_dir / "postgres.new")),
            cwd=Path(scratch),
        )
    shutil.rmtree(upgraded, ignore_errors=True)
    _rename(new.data_dir / "postgres.new", upgraded)
    _rename(old.pgdata, kept)
    finish_swap(new)
    log.info("embedded_postgres_upgraded", data_dir=str(new.data_dir), old_major=old.major, new_major=new.major)


def finish_swap(cluster: Cluster) -> None:
    """The second half of an upgrade's exchange, if a crash prevented it: else `start` would make an empty cluster."""
    upgraded = cluster.data_dir / "postgres.upgraded"
    if upgraded.exists() and not cluster.pgdata.exists():
        _rename(upgraded, cluster.pgdata)


def _must_run(cluster: Cluster, command: str, *arguments: str, cwd: Path | None = None) -> None:
    succeeded, output = cluster.run(command, *arguments, cwd=cwd)
    if not succeeded:
        raise EmbeddedPostgresError(f"{command} failed in {cluster.data_dir}: {_ending(output)}")


def _ending(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return " | ".join(lines[-4:]) or "it printed nothing"


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    parent = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def major_of(pgdata: Path) -> int | None:
    if not pgdata.exists():
        return None
    try:
        return int((pgdata / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        raise EmbeddedPostgresError(f"{pgdata} is not a PostgreSQL data directory; move it away") from None


def require_current_major(cluster: Cluster) -> None:
    major = major_of(cluster.pgdata)
    if major is not None and major > MAJOR:
        raise EmbeddedPostgresError(
            f"{cluster.pgdata} was made by PostgreSQL {major}, this covergate has {MAJOR}: install a newer covergate"
        )
    if major is not None and major < MAJOR:
        raise EmbeddedPostgresError(
            f"{cluster.pgdata} was made by PostgreSQL {major}, this covergate has {MAJOR}: "
            "run `covergate migrate --upgrade-embedded`"
        )


def require_owner(cluster: Cluster) -> None:
    wanted = cluster.account.pw_uid if cluster.account else os.geteuid()
    if cluster.pgdata.exists() and (owner := cluster.pgdata.stat().st_uid) != wanted:
        name = pwd.getpwuid(wanted).pw_name
        raise EmbeddedPostgresError(
            f"{cluster.pgdata} belongs to the user with uid {owner}: run covergate as that user, "
            f"or give it away with `chown -R {name} {cluster.pgdata}`"
        )
