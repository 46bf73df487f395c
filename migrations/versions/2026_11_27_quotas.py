"""Quotas: what API keys, tenants and addresses may do in a time, one bucket each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "quotas"
down_revision = "operators"
branch_labels = None
depends_on = None
compatible_with = ("operators",)


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="an API key's id, a tenant's, or an address"),
        sa.Column(
            "full_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when the bucket is full again: what is done puts it off",
        ),
        sa.PrimaryKeyConstraint("policy", "subject", name=op.f("pk_quotas")),
    )


def downgrade() -> None:
    op.drop_table("quotas")
