"""What is to be done to many verifications at once, and where each of those stands; the retries of one are found by an index."""

from __future__ import annotations

from alembic import op

revision = "bulk_jobs"
down_revision = "console"
branch_labels = None
depends_on = None
compatible_with = ("console",)
"""Older code reads and writes nothing of it."""


def upgrade() -> None:
    op.execute("CREATE INDEX ix_verifications_retry_of ON verifications (retry_of) WHERE retry_of IS NOT NULL")
    op.execute("""
CREATE TABLE bulk_jobs (
  id text NOT NULL,
  tenant_id text,
  mode text,
  action text NOT NULL,
  filter jsonb NOT NULL,
  resolution text,
  again boolean NOT NULL,
  corrections_sealed bytea,
  status text NOT NULL,
  matched integer NOT NULL,
  sample text[] NOT NULL,
  step integer NOT NULL DEFAULT 0,
  due_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at timestamptz,
  ended_at timestamptz,
  actor_kind text NOT NULL,
  actor_id text NOT NULL,
  acting_user text,
  address text,
  request_id text,
  sees_phi boolean NOT NULL,
  CONSTRAINT pk_bulk_jobs PRIMARY KEY (id),
  CONSTRAINT fk_bulk_jobs_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
  CONSTRAINT ck_bulk_jobs_mode CHECK (mode IN ('test', 'live')),
  CONSTRAINT ck_bulk_jobs_action CHECK (action IN ('resubmit', 'cancel', 'resolve', 'redeliver')),
  CONSTRAINT ck_bulk_jobs_status CHECK (status IN ('counted', 'queued', 'running', 'completed', 'canceled')),
  CONSTRAINT ck_bulk_jobs_actor_kind CHECK (actor_kind IN ('key', 'operator', 'user', 'worker', 'cli')),
  CONSTRAINT ck_bulk_jobs_due_until_over CHECK ((due_at IS NULL) = (ended_at IS NOT NULL))
)""")
    op.execute("CREATE INDEX ix_bulk_jobs_due ON bulk_jobs (due_at) WHERE due_at IS NOT NULL")
    op.execute("CREATE INDEX ix_bulk_jobs_created_at ON bulk_jobs (created_at)")
    op.execute("""
CREATE TABLE bulk_items (
  job_id text NOT NULL,
  verification_id text NOT NULL,
  outcome text,
  reason text,
  CONSTRAINT pk_bulk_items PRIMARY KEY (job_id, verification_id),
  CONSTRAINT fk_bulk_items_job_id FOREIGN KEY (job_id) REFERENCES bulk_jobs (id) ON DELETE CASCADE,
  CONSTRAINT ck_bulk_items_outcome CHECK (outcome IN ('done', 'skipped', 'failed'))
)""")
    op.execute("CREATE INDEX ix_bulk_items_left ON bulk_items (job_id, verification_id) WHERE outcome IS NULL")
    op.execute("CREATE INDEX ix_bulk_items_over ON bulk_items (job_id, outcome, reason) WHERE outcome IS NOT NULL")
    comments = {
        "tenant_id": "null: of every tenant",
        "mode": "null: of both",
        "filter": "as the caller gave it: no PHI",
        "resolution": "of the action resolve",
        "again": "also what was asked again before",
        "corrections_sealed": "of the action resubmit; NULL when the job is over",
        "matched": "verifications when it was made",
        "sample": "some of them",
        "step": "grows with every claim and rescheduling",
        "due_at": "while it is not over: the next slice, or the end of the lease",
    }
    for column, comment in comments.items():
        op.execute(f"COMMENT ON COLUMN bulk_jobs.{column} IS '{comment}'")
    op.execute("COMMENT ON COLUMN bulk_items.outcome IS 'null: still to be done'")
    op.execute("COMMENT ON COLUMN bulk_items.reason IS 'why it was skipped, or failed: a code'")


def downgrade() -> None:
    op.execute("DROP TABLE bulk_items")
    op.execute("DROP TABLE bulk_jobs")
    op.execute("DROP INDEX ix_verifications_retry_of")
