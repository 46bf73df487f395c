"""Publishing takes no lock on an endpoint."""

from __future__ import annotations

from alembic import op

revision = "webhooks"
down_revision = "foundation"
branch_labels = None
depends_on = None
compatible_with = ("foundation",)


def upgrade() -> None:
    op.drop_constraint(op.f("fk_deliveries_endpoint_id"), "deliveries", type_="foreignkey")
    op.alter_column("deliveries", "endpoint_id", comment="of webhook_endpoints, whose rows are marked, never deleted")


def downgrade() -> None:
    op.alter_column("deliveries", "endpoint_id", comment=None)
    op.create_foreign_key(op.f("fk_deliveries_endpoint_id"), "deliveries", "webhook_endpoints", ["endpoint_id"], ["id"])
