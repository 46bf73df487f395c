"""Deliveries know their event's type, and lists of events and deliveries find the few that are wanted among many others."""

from __future__ import annotations

from alembic import op

revision = "partners"
down_revision = "late_failures"
branch_labels = None
depends_on = None
compatible_with = ("late_failures",)
"""Older code lists by other indexes, slowly if there is much, and makes deliveries without a type."""


def upgrade() -> None:
    op.execute("ALTER TABLE deliveries ADD COLUMN event_type text NOT NULL DEFAULT ''")
    op.execute(
        "COMMENT ON COLUMN deliveries.event_type IS 'the event''s; empty in rows from before there was this column'"
    )
    op.execute("DROP INDEX ix_deliveries_listed")
    op.execute("CREATE INDEX ix_deliveries_listed ON deliveries (endpoint_id, status, event_type, created_at, id)")
    op.execute("DROP INDEX ix_events_listed")
    op.execute("CREATE INDEX ix_events_listed ON events (tenant_id, mode, type, position)")


def downgrade() -> None:
    op.execute("DROP INDEX ix_events_listed")
    op.execute("CREATE INDEX ix_events_listed ON events (tenant_id, mode, position)")
    op.execute("DROP INDEX ix_deliveries_listed")
    op.execute("CREATE INDEX ix_deliveries_listed ON deliveries (endpoint_id, id DESC)")
    op.execute("ALTER TABLE deliveries DROP COLUMN event_type")
