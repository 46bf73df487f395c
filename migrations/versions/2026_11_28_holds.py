"""Refused credentials hold an account; holds have a reason and an end; what ended is counted by hour and day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "holds"
down_revision = "partners"
branch_labels = None
depends_on = None
compatible_with = ()
"""None: older code cannot read a verification that waits for credentials."""

INSTANT = postgresql.TIMESTAMP(timezone=True)
WAITS = ("vendor", "vendor_retry", "rate_limit", "circuit", "hold", "operator")


def allow_waits(*waits: str) -> None:
    op.drop_constraint(op.f("ck_work_waiting_for"), "work", type_="check")
    listed = ", ".join(f"'{wait}'" for wait in waits)
    op.create_check_constraint(op.f("ck_work_waiting_for"), "work", f"waiting_for IN ({listed})")


def index_held_back(*waits: str) -> None:
    op.drop_index("ix_work_held_back", table_name="work")
    listed = ", ".join(f"'{wait}'" for wait in waits)
    op.create_index("ix_work_held_back", "work", ["vendor", "mode"], postgresql_where=f"waiting_for IN ({listed})")


def upgrade() -> None:
    allow_waits(*WAITS[:5], "credentials", "operator")
    index_held_back("hold", "circuit", "credentials")
    op.add_column(
        "vendor_standing", sa.Column("held_reason", sa.Text(), nullable=True, comment="the operator's words; no PHI")
    )
    op.add_column(
        "vendor_standing", sa.Column("held_until", INSTANT, nullable=True, comment="when the hold ends by itself")
    )
    op.create_table(
        "refused_credentials",
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column(
            "account",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="of vendor_accounts; empty: the gateway's own, which is shared",
        ),
        sa.Column("refused_at", INSTANT, nullable=True, comment="since when; null: the vendor takes those of today"),
        sa.Column(
            "versions",
            postgresql.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="the refused ones: keyed digests of the gateway's own, or when a tenant's were put in",
        ),
        sa.Column("trial_at", INSTANT, nullable=False, comment="refused ones are not tried again before"),
        sa.Column("trial_until", INSTANT, nullable=True, comment="a trial is being made; when it counts as lost"),
        sa.Column("trials", sa.Integer(), server_default="0", nullable=False, comment="refused in a row"),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_refused_credentials_mode")),
        sa.PrimaryKeyConstraint("vendor", "mode", "account", name=op.f("pk_refused_credentials")),
    )
    op.create_table(
        "vendor_history",
        sa.Column("span", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False, comment="the begin of the hour or day (UTC)"),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("payer_id", sa.Text(), nullable=False, comment="empty: all payers together"),
        sa.Column("ended", sa.Integer(), nullable=False, comment="attempts that ended"),
        sa.Column("ours", sa.Integer(), nullable=False, comment="that failed by the gateway's doing"),
        sa.Column("vendors", sa.Integer(), nullable=False, comment="by the vendor's"),
        sa.Column("payers", sa.Integer(), nullable=False, comment="by the payer's"),
        sa.Column(
            "waits",
            postgresql.ARRAY(sa.Integer()),
            nullable=False,
            comment="answers by seconds from the submission, in steps of 5/4",
        ),
        sa.CheckConstraint("span IN ('hour', 'day')", name=op.f("ck_vendor_history_span")),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_vendor_history_mode")),
        sa.PrimaryKeyConstraint("span", "mode", "vendor", "payer_id", "at", name=op.f("pk_vendor_history")),
    )
    op.create_table(
        "ended_hours",
        sa.Column("at", INSTANT, nullable=False, comment="the begin of the hour"),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False, comment="failed or canceled if there is none"),
        sa.Column("failure_code", sa.Text(), nullable=False, comment="empty: none"),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_ended_hours_mode")),
        sa.PrimaryKeyConstraint(
            "at", "tenant_id", "mode", "vendor", "outcome", "failure_code", name=op.f("pk_ended_hours")
        ),
    )
    op.create_table(
        "open_samples",
        sa.Column("at", INSTANT, nullable=False, comment="a full minute"),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("waiting_for", sa.Text(), nullable=False, comment="start: its first step is still to come"),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_open_samples_mode")),
        sa.PrimaryKeyConstraint("at", "mode", "waiting_for", name=op.f("pk_open_samples")),
    )
    op.create_table(
        "counting_cursor",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("counted_until", INSTANT, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_counting_cursor_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_counting_cursor")),
    )


def downgrade() -> None:
    """What waits for credentials is tried again."""
    for table in ("counting_cursor", "open_samples", "ended_hours", "vendor_history", "refused_credentials"):
        op.drop_table(table)
    op.drop_column("vendor_standing", "held_until")
    op.drop_column("vendor_standing", "held_reason")
    op.execute(
        "UPDATE work SET waiting_for = 'vendor_retry', next_check_at = least(now(), deadline), due_at = least(now(), deadline)"
        " WHERE waiting_for = 'credentials'"
    )
    index_held_back("hold", "circuit")
    allow_waits(*WAITS)
