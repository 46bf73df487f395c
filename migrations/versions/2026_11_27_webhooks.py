"""Publishing takes no lock on an endpoint; postponements are counted; full payloads are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "webhooks"
down_revision = "foundation"
branch_labels = None
depends_on = None
compatible_with = ("foundation",)


def upgrade() -> None:
    op.drop_constraint(op.f("fk_deliveries_endpoint_id"), "deliveries", type_="foreignkey")
    op.alter_column("deliveries", "endpoint_id", comment="of webhook_endpoints, whose rows are marked, never deleted")
    op.add_column(
        "deliveries",
        sa.Column(
            "postponed", sa.Integer(), server_default="0", nullable=False, comment="since then, for lack of a place"
        ),
    )
    op.add_column(
        "events",
        sa.Column(
            "full_sealed",
            sa.LargeBinary(),
            nullable=True,
            comment="the full payload, if an endpoint wanted it when it was published",
        ),
    )


def downgrade() -> None:
    op.drop_column("events", "full_sealed")
    op.drop_column("deliveries", "postponed")
    op.alter_column("deliveries", "endpoint_id", comment=None)
    op.create_foreign_key(op.f("fk_deliveries_endpoint_id"), "deliveries", "webhook_endpoints", ["endpoint_id"], ["id"])
