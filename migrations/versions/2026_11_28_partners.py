"""Deliveries know their event's type, and lists of events and deliveries find the few that are wanted among many others.

Endpoints know whether they fail, and have several secrets while they are being rotated. Partners come in by one-time links.
"""

from __future__ import annotations

from alembic import op

revision = "partners"
down_revision = "late_failures"
branch_labels = None
depends_on = None
compatible_with = ("late_failures",)
"""Older code lists by other indexes, slowly if there is much, and makes deliveries without a type."""

_HEALTH = {
    "failures_in_row": "tries that failed since one did not",
    "failed_since": "the first of them",
    "failing_since": "the first of those for which it was told to fail; null: it is well",
    "well_since": "while it is told to fail: the first try that did not",
}
_SECRETS = {
    "older_secrets_sealed": "those before that one, sealed as it is",
    "older_secrets_until": "until then each signs",
}


def upgrade() -> None:
    op.execute("ALTER TABLE deliveries ADD COLUMN event_type text NOT NULL DEFAULT ''")
    op.execute(
        "COMMENT ON COLUMN deliveries.event_type IS 'the event''s; empty in rows from before there was this column'"
    )
    op.execute("DROP INDEX ix_deliveries_listed")
    op.execute("CREATE INDEX ix_deliveries_listed ON deliveries (endpoint_id, status, event_type, created_at, id)")
    op.execute("DROP INDEX ix_events_listed")
    op.execute("CREATE INDEX ix_events_listed ON events (tenant_id, mode, type, position)")
    op.execute(
        "ALTER TABLE webhook_endpoints ADD COLUMN failures_in_row integer NOT NULL DEFAULT 0,"
        " ADD COLUMN failed_since timestamptz, ADD COLUMN failing_since timestamptz, ADD COLUMN well_since timestamptz"
    )
    op.execute(
        "ALTER TABLE webhook_endpoints ADD COLUMN older_secrets_sealed bytea[] NOT NULL DEFAULT '{}',"
        " ADD COLUMN older_secrets_until timestamptz[] NOT NULL DEFAULT '{}'"
    )
    for column, comment in (_HEALTH | _SECRETS).items():
        op.execute(f"COMMENT ON COLUMN webhook_endpoints.{column} IS '{comment}'")
    op.execute(
        "CREATE INDEX ix_webhook_endpoints_in_trouble ON webhook_endpoints (id)"
        " WHERE failures_in_row > 0 OR failing_since IS NOT NULL"
    )

    op.execute("""
CREATE TABLE portal_links (
  id text NOT NULL,
  digest bytea NOT NULL,
  tenant_id text NOT NULL,
  mode text NOT NULL,
  made_by text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  CONSTRAINT pk_portal_links PRIMARY KEY (id),
  CONSTRAINT uq_portal_links_digest UNIQUE (digest),
  CONSTRAINT fk_portal_links_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id),
  CONSTRAINT ck_portal_links_mode CHECK (mode IN ('test', 'live'))
)""")
    op.execute("COMMENT ON COLUMN portal_links.digest IS 'SHA-256 of the token, which is shown once'")
    op.execute("COMMENT ON COLUMN portal_links.made_by IS 'the API key, or a user of this machine'")
    op.execute("CREATE INDEX ix_portal_links_expires_at ON portal_links (expires_at)")


def downgrade() -> None:
    op.execute("DROP TABLE portal_links")
    op.execute("DROP INDEX ix_webhook_endpoints_in_trouble")
    for column in _HEALTH | _SECRETS:
        op.execute(f"ALTER TABLE webhook_endpoints DROP COLUMN {column}")
    op.execute("DROP INDEX ix_events_listed")
    op.execute("CREATE INDEX ix_events_listed ON events (tenant_id, mode, position)")
    op.execute("DROP INDEX ix_deliveries_listed")
    op.execute("CREATE INDEX ix_deliveries_listed ON deliveries (endpoint_id, id DESC)")
    op.execute("ALTER TABLE deliveries DROP COLUMN event_type")
