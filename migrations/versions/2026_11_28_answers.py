"""No vendor tells how long it keeps an answer, so nothing is kept of it."""

from __future__ import annotations

from alembic import op

revision = "answers"
down_revision = "bulk_jobs"
branch_labels = None
depends_on = None
compatible_with = ()
"""Older code writes the columns."""

TABLES = ("work", "attempts")


def upgrade() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} DROP COLUMN expires_at")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ADD COLUMN expires_at timestamptz")
        op.execute(
            f"COMMENT ON COLUMN {table}.expires_at IS 'when the vendor drops the answer, if that is before the deadline'"
        )
