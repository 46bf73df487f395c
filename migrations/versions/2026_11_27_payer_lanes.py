"""Claims find what is due of each payer of a vendor by itself."""

from __future__ import annotations

from alembic import op

revision = "payer_lanes"
down_revision = "deliveries"
branch_labels = None
depends_on = None
compatible_with = ("deliveries",)


def upgrade() -> None:
    op.create_index("ix_work_due_of_payer", "work", ["vendor", "payer", "due_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_work_due_of_payer", table_name="work")
