"""A release: a copy of the source tree from which processes are started, so that a run is of one version throughout.

`next_release` is a copy with one migration more, which adds a column: the new version of a rolling deploy, and what makes a
database older or newer than a process. Nothing here is ever installed; a process takes a release by its PYTHONPATH.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
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

TABLES = ("verifications", "attempts", "events", "deliveries", "webhook_endpoints")


@dataclass(frozen=True)
class Release:
    directory: Path
    head: str
    """Its newest migration."""

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


def _head(directory: Path) -> str:
    """The migration that no other builds on."""
    sources = [path.read_text() for path in (directory / "migrations" / "versions").glob("*.py")]
    known = {match[1] for source in sources if (match := _REVISION.search(source))}
    built_on = {match[1] for source in sources if (match := _DOWN.search(source))}
    [head] = known - built_on
    return head
