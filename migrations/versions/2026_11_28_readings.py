"""What today's rules read in the stored replies of an ended verification stands beside its result."""

from __future__ import annotations

from alembic import op

revision = "readings"
down_revision = "audit"
branch_labels = None
depends_on = None
compatible_with = ("audit",)
"""Older code reads and writes nothing of it."""


def upgrade() -> None:
    op.execute("""
CREATE TABLE readings (
  verification_id text NOT NULL,
  mapping_version text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  sealed bytea,
  announced_at timestamptz,
  CONSTRAINT pk_readings PRIMARY KEY (verification_id),
  CONSTRAINT fk_readings_verification_id FOREIGN KEY (verification_id) REFERENCES verifications (id) ON DELETE CASCADE
)""")
    op.execute("COMMENT ON COLUMN readings.mapping_version IS 'of the rules that read the stored replies again'")
    op.execute("COMMENT ON COLUMN readings.sealed IS 'outcome, reason and result of that reading; NULL: as the result'")
    op.execute("COMMENT ON COLUMN readings.announced_at IS 'when its event was made; NULL: nobody asked for it'")


def downgrade() -> None:
    op.execute("DROP TABLE readings")
