"""A refusal that comes after the end is kept beside it, like a late answer."""

from __future__ import annotations

from alembic import op

revision = "late_failures"
down_revision = "readings"
branch_labels = None
depends_on = None
compatible_with = ("readings",)
"""Older code reads and writes nothing of it."""


def upgrade() -> None:
    op.execute("ALTER TABLE verifications ADD COLUMN late_failure_sealed bytea")
    op.execute("COMMENT ON COLUMN verifications.late_failure_sealed IS 'a refusal that came after the end'")


def downgrade() -> None:
    op.execute("ALTER TABLE verifications DROP COLUMN late_failure_sealed")
