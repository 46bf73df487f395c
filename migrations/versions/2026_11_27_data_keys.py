"""Each tenant has a data key, wrapped under a key of the ring; the keys of the ring so far may have sealed values themselves.

The keys are made at the next start: a migration has no ring. What was sealed stays as it was sealed, until it is resealed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "data_keys"
down_revision = "payer_lanes"
branch_labels = None
depends_on = None
compatible_with = ()
"""None: no older code can open what is sealed from now on."""


def upgrade() -> None:
    op.add_column(
        "encryption_keys",
        sa.Column(
            "seals_values",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="of before there were data keys: values may stand directly under it",
        ),
    )
    op.execute("UPDATE encryption_keys SET seals_values = true")
    op.create_table(
        "data_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True, comment="null: the gateway's own"),
        sa.Column("number", sa.Integer(), nullable=False, comment="of this tenant's keys, from 1"),
        sa.Column("encryption_key_id", sa.Text(), nullable=False, comment="the key of the ring that wraps it"),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True, comment="null once it was destroyed"),
        sa.Column(
            "old_values",
            sa.Boolean(),
            nullable=False,
            comment="its tenant may have values from before there were data keys; what counts is wrapped with the key",
        ),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "seals_from",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="by then every process has heard of it",
        ),
        sa.Column("retired_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="a newer one seals"),
        sa.Column("destroyed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("(wrapped IS NULL) = (destroyed_at IS NOT NULL)", name=op.f("ck_data_keys_destroyed")),
        sa.ForeignKeyConstraint(
            ["encryption_key_id"], ["encryption_keys.id"], name=op.f("fk_data_keys_encryption_key_id")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_data_keys_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_keys")),
    )
    op.create_index("uq_data_keys_number", "data_keys", [sa.text("coalesce(tenant_id, '')"), "number"], unique=True)


def downgrade() -> None:
    """Only of a database without data keys: older code cannot open what is sealed under one."""
    if op.get_bind().scalar(sa.text("SELECT EXISTS (SELECT FROM data_keys)")):
        raise RuntimeError("this database holds values that older code cannot open: restore a backup instead")
    op.drop_table("data_keys")
    op.drop_column("encryption_keys", "seals_values")
