"""The same order under the same key makes one bulk job."""

from __future__ import annotations

from alembic import op

revision = "bulk_job_keys"
down_revision = "saved_views"
branch_labels = None
depends_on = None
compatible_with = ("saved_views",)
"""Older code reads and writes nothing of it."""


def upgrade() -> None:
    op.execute("""
CREATE TABLE bulk_job_keys (
  asked_by text NOT NULL,
  mode text NOT NULL,
  key text NOT NULL,
  owner text NOT NULL,
  fingerprint bytea NOT NULL,
  fingerprint_key_id text NOT NULL,
  job_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT pk_bulk_job_keys PRIMARY KEY (asked_by, mode, key),
  CONSTRAINT fk_bulk_job_keys_job_id FOREIGN KEY (job_id) REFERENCES bulk_jobs (id) ON DELETE CASCADE
)""")
    op.execute("CREATE INDEX ix_bulk_job_keys_created_at ON bulk_job_keys (created_at)")
    op.execute("CREATE INDEX ix_bulk_job_keys_job_id ON bulk_job_keys (job_id)")
    comments = {
        "asked_by": "the key''s tenant, or the operator",
        "mode": "empty: of both",
        "owner": "whose data key the fingerprint is under; empty: the gateway''s",
        "fingerprint": "keyed HMAC of the order",
    }
    for column, comment in comments.items():
        op.execute(f"COMMENT ON COLUMN bulk_job_keys.{column} IS '{comment}'")


def downgrade() -> None:
    op.execute("DROP TABLE bulk_job_keys")
