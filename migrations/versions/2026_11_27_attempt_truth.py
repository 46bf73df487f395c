"""Attempts keep whose intent theirs is, how often the same error came in a row, and how often a look-up could not tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "attempt_truth"
down_revision = "webhooks"
branch_labels = None
depends_on = None

compatible_with = ("webhooks",)


def upgrade() -> None:
    op.add_column(
        "attempts",
        sa.Column("intent_id", sa.Text(), nullable=True, comment="made by the process that stored the intent"),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "same_errors_in_row",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="the last of the errors in a row, as far as they are of one kind",
        ),
    )
    op.add_column(
        "attempts",
        sa.Column(
            "look_ups",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="look-ups that could not tell whether the vendor has the submission",
        ),
    )


def downgrade() -> None:
    op.drop_column("attempts", "look_ups")
    op.drop_column("attempts", "same_errors_in_row")
    op.drop_column("attempts", "intent_id")
