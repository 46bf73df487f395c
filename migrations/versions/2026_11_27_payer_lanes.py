"""Claims find what is due of each payer of a vendor by itself. Payers without an electronic id are told apart from now on."""

from __future__ import annotations

from alembic import op

revision = "payer_lanes"
down_revision = "deliveries"
branch_labels = None
depends_on = None
compatible_with = ("deliveries",)


def upgrade() -> None:
    op.create_index("ix_work_due_of_payer", "work", ["vendor", "payer", "due_at"], unique=False)
    op.execute("COMMENT ON COLUMN work.payer IS 'who has a share of the lane: electronic id, or a digest of the name'")


def downgrade() -> None:
    op.execute("COMMENT ON COLUMN work.payer IS 'who has a share of the lane; empty: not named by an id'")
    op.drop_index("ix_work_due_of_payer", table_name="work")
