"""Every table of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "foundation"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_at", "audit_log", ["at"], unique=False)
    op.create_index("ix_audit_log_verification_id", "audit_log", ["verification_id"], unique=False)
    op.create_table(
        "encryption_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column(
            "fingerprint",
            sa.LargeBinary(),
            nullable=False,
            comment="proves that a key of this id is the one used before",
        ),
        sa.Column(
            "first_seen_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_encryption_keys")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "fingerprint", sa.LargeBinary(), nullable=False, comment="keyed HMAC of the validated canonical body"
        ),
        sa.Column("fingerprint_key_id", sa.Text(), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("tenant_id", "mode", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "payer_candidates",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("codes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("electronic_id", sa.Text(), nullable=True),
        sa.Column("aliases", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "suggested",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="ids of payers that it may be, the likeliest first",
        ),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_payer_candidates_mode")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payer_candidates")),
        sa.UniqueConstraint("vendor", "mode", "codes", name=op.f("uq_payer_candidates_vendor_mode_codes")),
    )
    op.create_table(
        "payer_directory",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "version",
            sa.BigInteger(),
            nullable=False,
            comment="grows with every change, so that what was read is known to be old",
        ),
        sa.Column("seed_digest", sa.LargeBinary(), nullable=True, comment="of the seed file that was planted last"),
        sa.CheckConstraint("id = 1", name=op.f("ck_payer_directory_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payer_directory")),
    )
    op.create_table(
        "payer_syncs",
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "synced_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="when its list was last taken over"
        ),
        sa.Column("listed", sa.Integer(), nullable=True, comment="payers in that list"),
        sa.Column("error", sa.Text(), nullable=True, comment="why the latest try failed, a constant of ours"),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_payer_syncs_mode")),
        sa.PrimaryKeyConstraint("vendor", "mode", name=op.f("pk_payer_syncs")),
    )
    op.create_table(
        "payers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False, comment="both: from the seed file; else where a vendor listed it"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("electronic_id", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("mode IN ('both', 'test', 'live')", name=op.f("ck_payers_mode")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payers")),
        sa.UniqueConstraint("mode", "electronic_id", name=op.f("uq_payers_mode_electronic_id")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenants")),
        sa.UniqueConstraint("name", name=op.f("uq_tenants_name")),
    )
    op.create_table(
        "vendor_calls",
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("bucket", postgresql.TIMESTAMP(timezone=True), nullable=False, comment="the begin of ten seconds"),
        sa.Column("answered", sa.Integer(), nullable=False, comment="calls that got a readable reply"),
        sa.Column("failed", sa.Integer(), nullable=False, comment="calls that did not, by the vendor's doing"),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_vendor_calls_mode")),
        sa.PrimaryKeyConstraint("vendor", "mode", "bucket", name=op.f("pk_vendor_calls")),
    )
    op.create_table(
        "vendor_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=True),
        sa.Column("echo", sa.Text(), nullable=True),
        sa.Column("wakes", sa.Boolean(), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=True, comment="set when it was matched"),
        sa.Column("body_sealed", sa.LargeBinary(), nullable=False),
        sa.Column(
            "received_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_vendor_events_mode")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vendor_events")),
        sa.UniqueConstraint("vendor", "mode", "dedupe_key", name=op.f("uq_vendor_events_vendor_mode_dedupe_key")),
    )
    op.create_index(
        "ix_vendor_events_unmatched",
        "vendor_events",
        ["vendor", "ref"],
        unique=False,
        postgresql_where=sa.text("verification_id IS NULL"),
    )
    op.create_table(
        "vendor_rates",
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False, comment="calls that may be made now, as of `at`"),
        sa.Column(
            "at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_vendor_rates_mode")),
        sa.PrimaryKeyConstraint("vendor", "mode", name=op.f("pk_vendor_rates")),
    )
    op.create_table(
        "vendor_standing",
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("circuit", sa.Text(), server_default="closed", nullable=False),
        sa.Column(
            "since", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column(
            "rests_until",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="open: no call before; half_open: when the trial counts as lost",
        ),
        sa.Column(
            "rests",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="rests in a row, each longer than the one before",
        ),
        sa.Column("held_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(circuit = 'closed') = (rests_until IS NULL)", name=op.f("ck_vendor_standing_rests_while_not_closed")
        ),
        sa.CheckConstraint("circuit IN ('closed', 'open', 'half_open')", name=op.f("ck_vendor_standing_circuit")),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_vendor_standing_mode")),
        sa.PrimaryKeyConstraint("vendor", "mode", name=op.f("pk_vendor_standing")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key, which is shown once"),
        sa.Column("hint", sa.Text(), nullable=False, comment="the key's last four characters"),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_api_keys_mode")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_api_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the thin payload: no PHI"),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_events_mode")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_events_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_created_at", "events", ["created_at"], unique=False)
    op.create_index("ix_events_listed", "events", ["tenant_id", "mode", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "payer_codes",
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column(
            "codes", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the vendor's own codes, as JSON"
        ),
        sa.Column("payer_id", sa.Text(), nullable=False),
        sa.Column(
            "source",
            sa.Text(),
            nullable=False,
            comment="a person's word comes before the vendor's list, that before the seed",
        ),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_payer_codes_mode")),
        sa.CheckConstraint("source IN ('seed', 'list', 'person')", name=op.f("ck_payer_codes_source")),
        sa.ForeignKeyConstraint(["payer_id"], ["payers.id"], name=op.f("fk_payer_codes_payer_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("vendor", "mode", "codes", name=op.f("pk_payer_codes")),
    )
    op.create_index(op.f("ix_payer_codes_payer_id"), "payer_codes", ["payer_id"], unique=False)
    op.create_table(
        "payer_names",
        sa.Column("payer_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('alias', 'electronic_id')", name=op.f("ck_payer_names_kind")),
        sa.CheckConstraint("mode IN ('both', 'test', 'live')", name=op.f("ck_payer_names_mode")),
        sa.ForeignKeyConstraint(["payer_id"], ["payers.id"], name=op.f("fk_payer_names_payer_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("payer_id", "mode", "kind", "value", name=op.f("pk_payer_names")),
    )
    op.create_table(
        "verifications",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("retry_of", sa.Text(), nullable=True),
        sa.Column("reused_from", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_reason", sa.Text(), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("payer_id", sa.Text(), nullable=True),
        sa.Column("attempt_id", sa.Text(), nullable=False, comment="the current attempt"),
        sa.Column(
            "route",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="the vendors that may be asked after the current one, in order",
        ),
        sa.Column("allow_second_submission", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "payer_retries",
            sa.SmallInteger(),
            server_default="0",
            nullable=False,
            comment="resubmissions left for a payer that is down",
        ),
        sa.Column(
            "follows",
            sa.Text(),
            nullable=True,
            comment="the open verification whose answer this one takes over (max_age)",
        ),
        sa.Column(
            "step",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="fences rescheduling; a job of another step is stale",
        ),
        sa.Column("wake_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("waiting_since", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("next_check_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deadline", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("completed_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("not_asked", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("exchange_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "member_digest",
            sa.LargeBinary(),
            nullable=False,
            comment="keyed digest of tenant, mode and normalized member id",
        ),
        sa.Column(
            "birth_digest", sa.LargeBinary(), nullable=False, comment="keyed digest of tenant, mode and date of birth"
        ),
        sa.Column(
            "inquiry_digest",
            sa.LargeBinary(),
            nullable=False,
            comment="keyed digest of who and what is asked, for max_age",
        ),
        sa.Column("digest_key_id", sa.Text(), nullable=False),
        sa.Column("inquiry_sealed", sa.LargeBinary(), nullable=False, comment="inquiry, vendor options, payer codes"),
        sa.Column("result_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("late_result_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("failure_sealed", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "(status = 'completed') = (outcome IS NOT NULL)", name=op.f("ck_verifications_outcome_when_completed")
        ),
        sa.CheckConstraint(
            "(status = 'completed') = (result_sealed IS NOT NULL)", name=op.f("ck_verifications_result_when_completed")
        ),
        sa.CheckConstraint(
            "(status = 'failed') = (failure_code IS NOT NULL)", name=op.f("ck_verifications_failure_when_failed")
        ),
        sa.CheckConstraint(
            "(status IN ('queued', 'in_progress')) = (completed_at IS NULL)",
            name=op.f("ck_verifications_completed_at_when_ended"),
        ),
        sa.CheckConstraint(
            "NOT (status IN ('queued', 'in_progress')) OR (next_check_at IS NOT NULL AND next_check_at <= deadline)",
            name=op.f("ck_verifications_watched_while_open"),
        ),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_verifications_mode")),
        sa.CheckConstraint(
            "status IN ('queued', 'in_progress', 'completed', 'failed', 'canceled')",
            name=op.f("ck_verifications_status"),
        ),
        sa.CheckConstraint(
            "waiting_for IN ('vendor', 'vendor_retry', 'rate_limit', 'circuit', 'hold', 'operator')",
            name=op.f("ck_verifications_waiting_for"),
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_verifications_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verifications")),
    )
    op.create_index(
        "ix_verifications_deadline",
        "verifications",
        ["deadline"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
    )
    op.create_index(
        "ix_verifications_due",
        "verifications",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
    )
    op.create_index(
        "ix_verifications_external",
        "verifications",
        ["tenant_id", "mode", "external_id"],
        unique=False,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index(
        "ix_verifications_followers",
        "verifications",
        ["follows"],
        unique=False,
        postgresql_where=sa.text("follows IS NOT NULL"),
    )
    op.create_index(
        "ix_verifications_held_back",
        "verifications",
        ["vendor", "mode"],
        unique=False,
        postgresql_where=sa.text("waiting_for IN ('hold', 'circuit')"),
    )
    op.create_index(
        "ix_verifications_listed", "verifications", ["tenant_id", "mode", sa.literal_column("id DESC")], unique=False
    )
    op.create_index("ix_verifications_member", "verifications", ["member_digest"], unique=False)
    op.create_index(
        "ix_verifications_same", "verifications", ["inquiry_digest", sa.literal_column("id DESC")], unique=False
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("previous_secret_until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("deleted_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_webhook_endpoints_mode")),
        sa.CheckConstraint("payload IN ('thin', 'full')", name=op.f("ck_webhook_endpoints_payload")),
        sa.CheckConstraint("status IN ('enabled', 'disabled')", name=op.f("ck_webhook_endpoints_status")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_webhook_endpoints_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_subscribed",
        "webhook_endpoints",
        ["tenant_id", "mode"],
        unique=False,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column(
            "mode", sa.Text(), nullable=False, comment="with payer_id the verification's, for the vendors' statistics"
        ),
        sa.Column("payer_id", sa.Text(), nullable=True),
        sa.Column("vendor_ref", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column(
            "intent_at", postgresql.TIMESTAMP(timezone=True), nullable=True, comment="right before the committing call"
        ),
        sa.Column(
            "lookup_after",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="from when on an unanswered submission may be looked up",
        ),
        sa.Column(
            "submitted_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when the committing call was answered or found",
        ),
        sa.Column(
            "expires_at",
            postgresql.TIMESTAMP(timezone=True),
            nullable=True,
            comment="when the vendor drops the answer, where that is before the deadline",
        ),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("checks", sa.Integer(), server_default="0", nullable=False, comment="checks that came back pending"),
        sa.Column(
            "errors_in_row",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="technical errors since the last good reply",
        ),
        sa.Column(
            "exclusive_key",
            sa.Text(),
            nullable=True,
            comment="the patient at this vendor, where one open check at a time is all it can bear",
        ),
        sa.CheckConstraint("mode IN ('test', 'live')", name=op.f("ck_attempts_mode")),
        sa.CheckConstraint(
            "state IN ('preparing', 'submitting', 'waiting', 'answered', 'refused', 'failed', 'abandoned')",
            name=op.f("ck_attempts_state"),
        ),
        sa.ForeignKeyConstraint(
            ["verification_id"], ["verifications.id"], name=op.f("fk_attempts_verification_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index(
        "ix_attempts_ended",
        "attempts",
        ["vendor", "mode", "ended_at"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_attempts_vendor_ref",
        "attempts",
        ["vendor", "vendor_ref"],
        unique=False,
        postgresql_where=sa.text("vendor_ref IS NOT NULL"),
    )
    op.create_index(op.f("ix_attempts_verification_id"), "attempts", ["verification_id"], unique=False)
    op.create_index(
        "uq_attempts_exclusive",
        "attempts",
        ["vendor", "exclusive_key"],
        unique=True,
        postgresql_where=sa.text("exclusive_key IS NOT NULL AND ended_at IS NULL"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "step",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="fences rescheduling, as verifications.step",
        ),
        sa.Column(
            "tries",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="since it was made or last redelivered by hand",
        ),
        sa.Column(
            "slow",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="its last try timed out: the slow group",
        ),
        sa.Column("next_attempt_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("ended_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status = 'pending') = (next_attempt_at IS NOT NULL)", name=op.f("ck_deliveries_watched_while_pending")
        ),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'exhausted')", name=op.f("ck_deliveries_status")),
        sa.ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_deliveries_endpoint_id")),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_deliveries_event_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(op.f("ix_deliveries_event_id"), "deliveries", ["event_id"], unique=False)
    op.create_index("ix_deliveries_listed", "deliveries", ["endpoint_id", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "exchanges",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="its index in the raw document"),
        sa.Column("public_id", sa.Text(), nullable=False, comment="exc_…, also part of the associated data"),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("content_sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["verification_id"], ["verifications.id"], name=op.f("fk_exchanges_verification_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exchanges")),
        sa.UniqueConstraint("verification_id", "position", name=op.f("uq_exchanges_verification_id_position")),
    )
    op.create_table(
        "timeline",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("verification_id", sa.Text(), nullable=False),
        sa.Column(
            "at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("vendor", sa.Text(), nullable=True),
        sa.Column(
            "message",
            sa.Text(),
            nullable=False,
            comment="a constant of ours, with numbers and vendor words at most; never PHI",
        ),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("next_check_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["verification_id"], ["verifications.id"], name=op.f("fk_timeline_verification_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_timeline")),
    )
    op.create_index(op.f("ix_timeline_verification_id"), "timeline", ["verification_id"], unique=False)
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column(
            "at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column(
            "answer_sealed", sa.LargeBinary(), nullable=True, comment="the first 2 KB of what the partner answered"
        ),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.id"], name=op.f("fk_delivery_attempts_delivery_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_attempts")),
    )
    op.create_index(op.f("ix_delivery_attempts_delivery_id"), "delivery_attempts", ["delivery_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_delivery_attempts_delivery_id"), table_name="delivery_attempts")
    op.drop_table("delivery_attempts")
    op.drop_index(op.f("ix_timeline_verification_id"), table_name="timeline")
    op.drop_table("timeline")
    op.drop_table("exchanges")
    op.drop_index("ix_deliveries_listed", table_name="deliveries")
    op.drop_index(op.f("ix_deliveries_event_id"), table_name="deliveries")
    op.drop_index("ix_deliveries_due", table_name="deliveries", postgresql_where=sa.text("status = 'pending'"))
    op.drop_table("deliveries")
    op.drop_index(
        "uq_attempts_exclusive",
        table_name="attempts",
        postgresql_where=sa.text("exclusive_key IS NOT NULL AND ended_at IS NULL"),
    )
    op.drop_index(op.f("ix_attempts_verification_id"), table_name="attempts")
    op.drop_index("ix_attempts_vendor_ref", table_name="attempts", postgresql_where=sa.text("vendor_ref IS NOT NULL"))
    op.drop_index("ix_attempts_ended", table_name="attempts", postgresql_where=sa.text("ended_at IS NOT NULL"))
    op.drop_table("attempts")
    op.drop_index(
        "ix_webhook_endpoints_subscribed",
        table_name="webhook_endpoints",
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_table("webhook_endpoints")
    op.drop_index("ix_verifications_same", table_name="verifications")
    op.drop_index("ix_verifications_member", table_name="verifications")
    op.drop_index("ix_verifications_listed", table_name="verifications")
    op.drop_index(
        "ix_verifications_held_back",
        table_name="verifications",
        postgresql_where=sa.text("waiting_for IN ('hold', 'circuit')"),
    )
    op.drop_index(
        "ix_verifications_followers", table_name="verifications", postgresql_where=sa.text("follows IS NOT NULL")
    )
    op.drop_index(
        "ix_verifications_external", table_name="verifications", postgresql_where=sa.text("external_id IS NOT NULL")
    )
    op.drop_index(
        "ix_verifications_due",
        table_name="verifications",
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
    )
    op.drop_index(
        "ix_verifications_deadline",
        table_name="verifications",
        postgresql_where=sa.text("status IN ('queued', 'in_progress')"),
    )
    op.drop_table("verifications")
    op.drop_table("payer_names")
    op.drop_index(op.f("ix_payer_codes_payer_id"), table_name="payer_codes")
    op.drop_table("payer_codes")
    op.drop_index("ix_events_listed", table_name="events")
    op.drop_index("ix_events_created_at", table_name="events")
    op.drop_table("events")
    op.drop_table("api_keys")
    op.drop_table("vendor_standing")
    op.drop_table("vendor_rates")
    op.drop_index(
        "ix_vendor_events_unmatched", table_name="vendor_events", postgresql_where=sa.text("verification_id IS NULL")
    )
    op.drop_table("vendor_events")
    op.drop_table("vendor_calls")
    op.drop_table("tenants")
    op.drop_table("payers")
    op.drop_table("payer_syncs")
    op.drop_table("payer_directory")
    op.drop_table("payer_candidates")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("encryption_keys")
    op.drop_index("ix_audit_log_verification_id", table_name="audit_log")
    op.drop_index("ix_audit_log_at", table_name="audit_log")
    op.drop_table("audit_log")
