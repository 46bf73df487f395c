"""A tenant's own accounts at vendors. Attempts, events, circuits, counts and rates belong to one; what is there to the shared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "vendor_accounts"
down_revision = "quotas"
branch_labels = None
depends_on = None
compatible_with = ()
"""None: older code counts, rests and asks by vendor and mode alone, and would use the shared account for everybody."""

OF = "of vendor_accounts; empty: the gateway's own, which is shared"
BOUND = ("work", "attempts", "vendor_events", "vendor_standing", "vendor_calls", "vendor_rates")
KEYS = {
    "vendor_standing": ("vendor", "mode"),
    "vendor_calls": ("vendor", "mode", "bucket"),
    "vendor_rates": ("vendor", "mode"),
}


def with_account(columns: tuple[str, ...]) -> list[str]:
    return [*columns[:2], "account", *columns[2:]]


def upgrade() -> None:
    instant = postgresql.TIMESTAMP(timezone=True)
    op.create_table(
        "vendor_accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column(
            "credentials_sealed",
            sa.LargeBinary(),
            nullable=True,
            comment="the connection's fields, and whose they are; gone when removed",
        ),
        sa.Column(
            "hint", sa.Text(), nullable=False, comment="the last four characters of the secret, if it is long enough"
        ),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="of a keyed digest of the credentials"),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="what the vendor said to the credentials when they were tested"
        ),
        sa.Column("tested_at", instant, nullable=True),
        sa.Column("created_at", instant, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("changed_at", instant, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("removed_at", instant, nullable=True),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_vendor_accounts_mode")),
        sa.CheckConstraint("environment IN ('production', 'sandbox')", name=op.f("ck_vendor_accounts_environment")),
        sa.CheckConstraint("state IN ('untested', 'ok', 'refused')", name=op.f("ck_vendor_accounts_state")),
        sa.CheckConstraint(
            "(environment = 'sandbox') = (mode = 'test')", name=op.f("ck_vendor_accounts_environment_of_mode")
        ),
        sa.CheckConstraint(
            "(removed_at IS NULL) = (credentials_sealed IS NOT NULL)",
            name=op.f("ck_vendor_accounts_credentials_until_removed"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_vendor_accounts_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vendor_accounts")),
    )
    op.create_index(
        "uq_vendor_accounts_owner",
        "vendor_accounts",
        ["tenant_id", "mode", "vendor"],
        unique=True,
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    for table in BOUND:
        op.add_column(table, sa.Column("account", sa.Text(), server_default="", nullable=False, comment=OF))
    for table, columns in KEYS.items():
        op.drop_constraint(f"pk_{table}", table, type_="primary")
        op.create_primary_key(f"pk_{table}", table, with_account(columns))
    op.drop_constraint("uq_vendor_events_vendor_mode_dedupe_key", "vendor_events", type_="unique")
    op.create_unique_constraint(
        "uq_vendor_events_vendor_mode_account_dedupe_key",
        "vendor_events",
        with_account(("vendor", "mode", "dedupe_key")),
    )


def downgrade() -> None:
    """What belongs to a tenant's own account is forgotten, but for attempts: nobody could say whose it is."""
    for table in ("vendor_events", *KEYS):
        op.execute(f"DELETE FROM {table} WHERE account <> ''")
    op.drop_constraint("uq_vendor_events_vendor_mode_account_dedupe_key", "vendor_events", type_="unique")
    op.create_unique_constraint(
        "uq_vendor_events_vendor_mode_dedupe_key", "vendor_events", ["vendor", "mode", "dedupe_key"]
    )
    for table, columns in KEYS.items():
        op.drop_constraint(f"pk_{table}", table, type_="primary")
        op.create_primary_key(f"pk_{table}", table, list(columns))
    for table in BOUND:
        op.drop_column(table, "account")
    op.drop_table("vendor_accounts")
