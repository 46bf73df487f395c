"""PgBouncer in front of the cluster's PostgreSQL; `mode` is how it pools: `session` or `transaction`."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

CONNECTIONS = 150
"""With session pooling each client has one for itself."""


def executable() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def command(directory: Path, port: int, server_socket: Path, mode: str) -> list[str]:
    """Its command line; the files that this names are written into the directory, which is made."""
    user = pwd.getpwuid(server_socket.stat().st_uid)
    directory.mkdir(exist_ok=True)
    users, settings = directory / "users", directory / "ini"
    users.write_text('"postgres" ""\n')
    settings.write_text(
        f"""[databases]
* = host={server_socket} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
auth_file = {users}
pool_mode = {mode}
default_pool_size = {CONNECTIONS}
max_client_conn = {CONNECTIONS}
"""
    )
    as_user = []
    if os.geteuid() == 0:  # it refuses to run as root
        as_user = ["--user", user.pw_name]
        for path in (directory, users, settings):
            os.chown(path, user.pw_uid, user.pw_gid)
    return [executable() or "pgbouncer", "--quiet", *as_user, str(settings)]
