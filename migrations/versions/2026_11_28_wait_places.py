"""How many requests of one API key wait at once, over all processes."""

from __future__ import annotations

from alembic import op

revision = "wait_places"
down_revision = "answers"
branch_labels = None
depends_on = None
compatible_with = ("answers",)
"""Older code reads and writes nothing of it."""


def upgrade() -> None:
    op.execute("""
CREATE TABLE wait_places (
  credential_id text NOT NULL,
  process_id text NOT NULL,
  places integer NOT NULL,
  ends_at timestamptz NOT NULL,
  CONSTRAINT pk_wait_places PRIMARY KEY (credential_id, process_id)
)""")
    comments = {
        "credential_id": "an API key''s id, or an operator''s",
        "process_id": "of the API process that gives them to its requests",
        "places": "requests of the credential that may wait there at once",
        "ends_at": "of the lease; a process that lives renews it",
    }
    for column, comment in comments.items():
        op.execute(f"COMMENT ON COLUMN wait_places.{column} IS '{comment}'")
    op.execute(
        "COMMENT ON COLUMN quotas.subject IS 'an API key''s id, a tenant''s, an address, or a vendor''s account'"
    )


def downgrade() -> None:
    op.execute("COMMENT ON COLUMN quotas.subject IS 'an API key''s id, a tenant''s, or an address'")
    op.execute("DROP TABLE wait_places")
