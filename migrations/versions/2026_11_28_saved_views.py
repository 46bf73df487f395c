"""People's own views in the console; what waits for a person or an outage is found by an index; what is open, by tenant."""

from __future__ import annotations

from alembic import op

revision = "saved_views"
down_revision = "wait_places"
branch_labels = None
depends_on = None
compatible_with = ("wait_places",)
"""Older code reads and writes nothing of it."""


def upgrade() -> None:
    op.execute("""
CREATE TABLE saved_views (
  id text NOT NULL,
  actor_id text NOT NULL,
  tenant_id text,
  name text NOT NULL,
  query text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT pk_saved_views PRIMARY KEY (id),
  CONSTRAINT fk_saved_views_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
)""")
    op.execute("CREATE UNIQUE INDEX uq_saved_views_name ON saved_views (actor_id, coalesce(tenant_id, ''), name)")
    comments = {
        "actor_id": "whose it is, as in `console_sessions`",
        "tenant_id": "null: one of the gateway''s operators",
        "query": "the filters as they stand in an address: no PHI",
        "used_at": "when its person last saw it; at most a day behind",
    }
    for column, comment in comments.items():
        op.execute(f"COMMENT ON COLUMN saved_views.{column} IS '{comment}'")
    op.execute("""
CREATE INDEX ix_work_stuck ON work (waiting_for, verification_id)
WHERE waiting_for IN ('operator', 'hold', 'circuit', 'credentials')""")
    op.execute("""
CREATE TABLE open_tenant_samples (
  tenant_id text NOT NULL,
  mode text NOT NULL,
  at timestamptz NOT NULL,
  waiting_for text NOT NULL,
  number integer NOT NULL,
  CONSTRAINT pk_open_tenant_samples PRIMARY KEY (tenant_id, mode, at, waiting_for),
  CONSTRAINT fk_open_tenant_samples_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE,
  CONSTRAINT ck_open_tenant_samples_mode CHECK (mode IN ('test', 'live'))
)""")
    op.execute("CREATE INDEX ix_open_tenant_samples_at ON open_tenant_samples (at)")
    op.execute("COMMENT ON COLUMN open_tenant_samples.at IS 'a full minute, one in five'")
    op.execute("COMMENT ON COLUMN open_tenant_samples.waiting_for IS 'as in `open_samples`'")


def downgrade() -> None:
    op.execute("DROP TABLE open_tenant_samples")
    op.execute("DROP INDEX ix_work_stuck")
    op.execute("DROP TABLE saved_views")
