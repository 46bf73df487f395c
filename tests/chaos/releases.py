"""A release: a copy of the source tree from which processes are started, so that a run is of one version throughout.

`next_release` is a copy with one migration more, which adds a column: the new version of a rolling deploy, and what makes a
database older or newer than a process. Nothing of these two is ever installed; a process takes a release by its PYTHONPATH.
`earlier_release` is one as the repository has it, with the packages that it was locked to.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]

_REVISION = re.compile(r'^revision(?:: str)? = "([^"]+)"', re.MULTILINE)
_DOWN = re.compile(r'^down_revision(?:: [^=]+)? = "([^"]+)"', re.MULTILINE)

_MIGRATION = '''"""Add a column that only the next release knows."""

from alembic import op
import sqlalchemy as sa

revision = "chaos_next"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in {tables!r}:
        op.add_column(table, sa.Column("chaos_note", sa.Text(), nullable=True, server_default="none"))


def downgrade() -> None:
    for table in {tables!r}:
        op.drop_column(table, "chaos_note")
'''

FILLED_BY = "attempt_truth"
"""The revision of the earlier release: the last one whose queue was another, so that every part of a row moves."""

TABLES = ("verifications", "attempts", "events", "deliveries", "webhook_endpoints")


@dataclass(frozen=True)
class Release:
    directory: Path
    head: str
    """Its newest migration."""
    covergate: Path = field(default=Path(sys.executable).with_name("covergate"))

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.directory / "src")}


def this_release(target: Path) -> Release:
    """The checkout as it stands now, uncommitted work included."""
    for part in ("src", "migrations"):
        # Python writes its caches under such names first; one may be gone before it is copied.
        shutil.copytree(CHECKOUT / part, target / part, ignore=shutil.ignore_patterns("*.pyc.*"))
    return Release(target, _head(target))


def next_release(current: Release, target: Path) -> Release:
    shutil.copytree(current.directory, target)
    migration = _MIGRATION.format(before=current.head, tables=TABLES)
    (target / "migrations" / "versions" / "2999_01_01_chaos.py").write_text(migration)
    return Release(target, _head(target))


def earlier_release(target: Path) -> Release | str:
    """The last with the revision `FILLED_BY`; else why it is not to be had."""
    following = [
        path.name
        for path in (CHECKOUT / "migrations" / "versions").glob("*.py")
        if (match := _DOWN.search(path.read_text())) and match[1] == FILLED_BY
    ]
    if not following:
        return f"no migration follows on {FILLED_BY}"
    brought = _run("git", "log", "-1", "--format=%H", "--diff-filter=A", "--", f"migrations/versions/{following[0]}")
    if brought is None:
        return "there is no git, or no repository, to take an earlier version from"
    commit = f"{brought.strip()}^" if brought.strip() else "HEAD"
    target.mkdir()
    archive = target / "release.tar"
    parts = ("src", "migrations", "pyproject.toml", "uv.lock", "README.md", "LICENSE", "alembic.ini")
    if _run("git", "archive", "--output", str(archive), commit, *parts) is None:
        return f"the repository does not have the version of {FILLED_BY}"
    shutil.unpack_archive(archive, target, filter="data")
    uv = Path(sys.executable).with_name("uv")
    if _run(str(uv), "sync", "--locked", "--no-dev", "--quiet", "--project", str(target), cwd=target) is None:
        return "the packages of the earlier version cannot be installed"
    return Release(target, _head(target), target / ".venv" / "bin" / "covergate")


def _run(*command: str, cwd: Path = CHECKOUT) -> str | None:
    """What it printed, None if it failed."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment |= {"UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=180, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _head(directory: Path) -> str:
    """The migration that no other builds on."""
    sources = [path.read_text() for path in (directory / "migrations" / "versions").glob("*.py")]
    known = {match[1] for source in sources if (match := _REVISION.search(source))}
    built_on = {match[1] for source in sources if (match := _DOWN.search(source))}
    [head] = known - built_on
    return head
