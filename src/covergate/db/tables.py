"""Every table, as SQLAlchemy Core metadata; Alembic's migrations are held equal to it by a test.

Columns ending in `_sealed` are encrypted under the tenant's data key (`sealing.py`), bound to their place. Text ids are
TypeIDs, sortable by creation. States are few and CHECKs enforce them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP

from covergate.states import (
    ENDS,
    STORED_WAITS,
    ActorKind,
    AttemptState,
    AuditOutcome,
    BulkAction,
    BulkOutcome,
    BulkStatus,
    CircuitState,
    DeliveryStatus,
    EndpointStatus,
    Environment,
    Status,
    VendorAccountState,
    WaitingFor,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

APPEND_ONLY = "append_only"
"""In a table's `info`: the role of API and workers may add rows to it and read them, and nothing else."""

Timestamp = TIMESTAMP(timezone=True)
now = text("clock_timestamp()")


def one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column(
        "raw_days", Integer, comment="days that raw replies are kept; 0: for ever; NULL: as the gateway's settings say"
    ),
    Column("content_days", Integer, comment="days that inquiries and results are kept; 0 and NULL likewise"),
    Column("erased_at", Timestamp, comment="when the erasure of all that it had began"),
    CheckConstraint("raw_days >= 0", name="raw_days"),
    CheckConstraint("content_days >= 0", name="content_days"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the key, which is shown once"),
    Column("hint", Text, nullable=False, comment="the key's last four characters"),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("revoked_at", Timestamp),
    Column("name", Text, nullable=False, server_default=""),
    Column("allowed_networks", ARRAY(Text), nullable=False, server_default="{}", comment="empty: from anywhere"),
    Column("expires_at", Timestamp),
    Column("last_used_at", Timestamp, comment="at most a minute behind"),
    one_of("mode", "test", "live"),
)

operators = Table(
    "operators",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column(
        "digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the credential, which is shown once"
    ),
    Column("hint", Text, nullable=False, comment="the credential's last four characters"),
    Column("roles", ARRAY(Text), nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("expires_at", Timestamp),
    Column("last_used_at", Timestamp, comment="at most a minute behind"),
    Column("revoked_at", Timestamp),
)

console_users = Table(
    "console_users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("login", Text, nullable=False, unique=True, comment="in lower case"),
    Column("name", Text, nullable=False),
    Column("tenant_id", Text, ForeignKey("tenants.id"), comment="null: one of the gateway's operators"),
    Column("roles", ARRAY(Text), nullable=False),
    Column("password_hash", Text, comment="Argon2id; null until the account was set up"),
    Column("totp_sealed", LargeBinary, nullable=False, comment="the secret of the second factor"),
    Column(
        "totp_step", BigInteger, nullable=False, server_default="0", comment="of the last code: none is taken twice"
    ),
    Column("failures", Integer, nullable=False, server_default="0", comment="wrong sign-ins in a row"),
    Column("locked_until", Timestamp),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("signed_in_at", Timestamp),
    Column("revoked_at", Timestamp),
)

console_links = Table(
    "console_links",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the code in the link, which is shown once"),
    Column("purpose", Text, nullable=False),
    Column("user_id", Text, ForeignKey("console_users.id"), comment="whose account is to be set up"),
    Column("name", Text, nullable=False, server_default="", comment="of whoever comes in by it"),
    Column("tenant_id", Text, ForeignKey("tenants.id"), comment="null: the whole gateway"),
    Column("mode", Text),
    Column("roles", ARRAY(Text), nullable=False, server_default="{}"),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("expires_at", Timestamp, nullable=False),
    Column("used_at", Timestamp, comment="it opens once"),
    one_of("purpose", "set_up", "sign_in"),
    one_of("mode", "test", "live"),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the cookie"),
    Column("actor_id", Text, nullable=False, comment="a console user, or who the identity provider says it is"),
    Column("name", Text, nullable=False),
    Column("tenant_id", Text, ForeignKey("tenants.id"), comment="null: one of the gateway's operators"),
    Column("mode", Text, nullable=False, comment="the one that is looked at"),
    Column("roles", ARRAY(Text), nullable=False),
    Column(
        "revealed", JSONB, nullable=False, server_default="{}", comment="verification → until when its PHI is shown"
    ),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("seen_at", Timestamp, nullable=False, server_default=now),
    Column("expires_at", Timestamp, nullable=False),
    Column("ended_at", Timestamp),
    one_of("mode", "test", "live"),
    Index("ix_console_sessions_actor_id", "actor_id"),
)

saved_views = Table(
    "saved_views",
    metadata,
    Column("id", Text, primary_key=True),
    Column("actor_id", Text, nullable=False, comment="whose it is, as in `console_sessions`"),
    Column(
        "tenant_id",
        Text,
        ForeignKey("tenants.id", ondelete="CASCADE"),
        comment="null: one of the gateway's operators",
    ),
    Column("name", Text, nullable=False),
    Column("query", Text, nullable=False, comment="the filters as they stand in an address: no PHI"),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column(
        "used_at",
        Timestamp,
        nullable=False,
        server_default=now,
        comment="when its person last saw it; at most a day behind",
    ),
    Index("uq_saved_views_name", "actor_id", text("coalesce(tenant_id, '')"), "name", unique=True),
)

encryption_keys = Table(
    "encryption_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False, comment="proves that a key of this id is the one used before"),
    Column("first_seen_at", Timestamp, nullable=False, server_default=now),
    Column(
        "seals_values",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="of before there were data keys: values may stand directly under it",
    ),
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id", ondelete="CASCADE"), comment="null: the gateway's own"),
    Column("number", Integer, nullable=False, comment="of this tenant's keys, from 1"),
    Column(
        "encryption_key_id",
        Text,
        ForeignKey("encryption_keys.id"),
        nullable=False,
        comment="the key of the ring that wraps it",
    ),
    Column("wrapped", LargeBinary, comment="null once it was destroyed"),
    Column(
        "old_values",
        Boolean,
        nullable=False,
        comment="its tenant may have values from before there were data keys; what counts is wrapped with the key",
    ),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column(
        "seals_from", Timestamp, nullable=False, server_default=now, comment="by then every process has heard of it"
    ),
    Column("retired_at", Timestamp, comment="a newer one seals"),
    Column("destroyed_at", Timestamp),
    CheckConstraint("(wrapped IS NULL) = (destroyed_at IS NOT NULL)", name="destroyed"),
    Index("uq_data_keys_number", text("coalesce(tenant_id, '')"), "number", unique=True),
)

verifications = Table(
    "verifications",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("external_id", Text),
    Column("retry_of", Text),
    Column("reused_from", Text),
    Column("status", Text, comment="how it ended; while it is open `work` has it"),
    Column("outcome", Text),
    Column("outcome_reason", Text),
    Column("failure_code", Text),
    Column("vendor", Text, nullable=False, comment="the last attempt's, while it is open the first's"),
    Column("payer_id", Text),
    Column("attempt_id", Text, comment="the last attempt; while it is open `work` has the current one"),
    Column("deadline", Timestamp, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("completed_at", Timestamp),
    Column("follows", Text, comment="what it still followed when it ended; while it is open `work` has it"),
    Column("not_asked", ARRAY(Text), nullable=False, comment="of `vendor`"),
    Column("metadata", JSONB, nullable=False),
    Column("history_count", Integer, nullable=False, server_default="0", comment="0 while it is open: see `work`"),
    Column("exchange_count", Integer, nullable=False, server_default="0", comment="0 while it is open: see `work`"),
    Column(
        "member_digest", LargeBinary, nullable=False, comment="keyed digest of tenant, mode and normalized member id"
    ),
    Column("birth_digest", LargeBinary, nullable=False, comment="keyed digest of tenant, mode and date of birth"),
    Column("inquiry_digest", LargeBinary, nullable=False, comment="keyed digest of who and what is asked, for max_age"),
    Column("digest_key_id", Text, nullable=False),
    Column("inquiry_sealed", LargeBinary, comment="inquiry, vendor options, payer codes; NULL once it was erased"),
    Column("late_result_sealed", LargeBinary),
    Column("failure_sealed", LargeBinary),
    Column("late_failure_sealed", LargeBinary, comment="a refusal that came after the end"),
    Column("raw_erased_at", Timestamp, comment="when the vendor's raw replies were erased"),
    Column("erased_at", Timestamp, comment="when everything that tells of the patient was"),
    one_of("mode", "test", "live"),
    one_of("status", *ENDS),
    CheckConstraint("(status IS NULL) = (completed_at IS NULL)", name="completed_at_when_ended"),
    CheckConstraint("completed_at IS NULL OR attempt_id IS NOT NULL", name="attempt_when_ended"),
    CheckConstraint(
        f"(status IS NOT DISTINCT FROM '{Status.COMPLETED}') = (outcome IS NOT NULL)", name="outcome_when_completed"
    ),
    CheckConstraint(
        f"(status IS NOT DISTINCT FROM '{Status.FAILED}') = (failure_code IS NOT NULL)", name="failure_when_failed"
    ),
    Index("ix_verifications_listed", "tenant_id", "mode", text("id DESC")),
    Index(
        "ix_verifications_external",
        "tenant_id",
        "mode",
        "external_id",
        postgresql_where=text("external_id IS NOT NULL"),
    ),
    Index("ix_verifications_retry_of", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
    Index("ix_verifications_member", "member_digest"),
    Index("ix_verifications_same", "inquiry_digest", text("id DESC")),
    # In these is what is still there to be erased, the oldest first (erasure.py).
    Index("ix_verifications_raw_held", "tenant_id", "created_at", postgresql_where=text("raw_erased_at IS NULL")),
    Index("ix_verifications_held", "tenant_id", "created_at", postgresql_where=text("erased_at IS NULL")),
)

# One row for each verification that is open, or is to be looked at once more after its end. The row is the queue.
work = Table(
    "work",
    metadata,
    Column("verification_id", Text, ForeignKey("verifications.id", ondelete="CASCADE"), primary_key=True),
    Column("vendor", Text, nullable=False, comment="its lane"),
    Column("mode", Text, nullable=False),
    Column(
        "payer", Text, nullable=False, comment="who has a share of the lane: electronic id, or a digest of the name"
    ),
    Column("due_at", Timestamp, nullable=False, comment="next_check_at, or while it is worked on the end of the lease"),
    Column("step", Integer, nullable=False, server_default="0", comment="grows with every claim and rescheduling"),
    Column("deadline", Timestamp, nullable=False),
    Column("status", Text, nullable=False),
    Column("late_tries", SmallInteger, comment="after the end: looks at an answer that came late"),
    Column("waiting_for", Text),
    Column("waiting_since", Timestamp),
    Column("next_check_at", Timestamp, nullable=False),
    Column("wake_requested", Boolean, nullable=False, server_default=text("false")),
    Column(
        "route", ARRAY(Text), nullable=False, comment="the vendors that may be asked after the current one, in order"
    ),
    Column("allow_second_submission", Boolean, nullable=False, server_default=text("false")),
    Column(
        "payer_retries",
        SmallInteger,
        nullable=False,
        server_default="0",
        comment="resubmissions left for a payer that is down",
    ),
    Column("follows", Text, comment="the open verification whose answer this one takes over (max_age)"),
    Column("not_asked", ARRAY(Text), nullable=False),
    Column(
        "holds_ssn",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="an SSN may be in the sealed inquiry; it leaves when nothing more can be submitted",
    ),
    Column("history_count", Integer, nullable=False, server_default="0"),
    Column("exchange_count", Integer, nullable=False, server_default="0"),
    # The current attempt.
    Column("attempt_id", Text, nullable=False),
    Column(
        "account",
        Text,
        nullable=False,
        server_default="",
        comment="of vendor_accounts; empty: the gateway's own, which is shared",
    ),
    Column("state", Text, nullable=False),
    Column("attempt_created_at", Timestamp, nullable=False, server_default=now),
    Column("vendor_ref", Text),
    Column("intent_id", Text, comment="made by the process that stored the intent"),
    Column("intent_at", Timestamp, comment="right before the committing call"),
    Column("lookup_after", Timestamp, comment="from when on an unanswered submission may be looked up"),
    Column("submitted_at", Timestamp, comment="when the committing call was answered or found"),
    Column("attempt_failure_code", Text, comment="of its last error"),
    Column("checks", Integer, nullable=False, server_default="0", comment="checks that came back pending"),
    Column(
        "errors_in_row",
        Integer,
        nullable=False,
        server_default="0",
        comment="technical errors since the last good reply",
    ),
    Column(
        "same_errors_in_row",
        Integer,
        nullable=False,
        server_default="0",
        comment="the last of the errors in a row, as far as they are of one kind",
    ),
    Column(
        "look_ups",
        Integer,
        nullable=False,
        server_default="0",
        comment="look-ups that could not tell whether the vendor has the submission",
    ),
    Column(
        "exclusive_key", Text, comment="the patient at this vendor, where one open check at a time is all it can bear"
    ),
    one_of("mode", "test", "live"),
    one_of("status", *Status),
    one_of("waiting_for", *STORED_WAITS),
    one_of("state", *AttemptState),
    CheckConstraint("next_check_at <= deadline", name="watched"),
    Index("ix_work_due", "vendor", "due_at"),
    Index("ix_work_due_of_payer", "vendor", "payer", "due_at"),
    Index("ix_work_deadline", "deadline"),
    Index("ix_work_under_way", "vendor", "payer", postgresql_where=text("due_at > next_check_at")),
    Index("ix_work_attempt", "attempt_id"),
    Index("ix_work_vendor_ref", "vendor", "vendor_ref", postgresql_where=text("vendor_ref IS NOT NULL")),
    Index("ix_work_followers", "follows", postgresql_where=text("follows IS NOT NULL")),
    Index(
        "ix_work_held_back",
        "vendor",
        "mode",
        postgresql_where=text(
            f"waiting_for IN ('{WaitingFor.HOLD}', '{WaitingFor.CIRCUIT}', '{WaitingFor.CREDENTIALS}')"
        ),
    ),
    Index(
        "ix_work_stuck",
        "waiting_for",
        "verification_id",
        postgresql_where=text(
            f"waiting_for IN ('{WaitingFor.OPERATOR}', '{WaitingFor.HOLD}', '{WaitingFor.CIRCUIT}',"
            f" '{WaitingFor.CREDENTIALS}')"
        ),
    ),
    Index(
        "uq_work_exclusive",
        "vendor",
        "exclusive_key",
        unique=True,
        postgresql_where=text("exclusive_key IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "50"},
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("verification_id", Text, ForeignKey("verifications.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("vendor", Text, nullable=False),
    Column(
        "account",
        Text,
        nullable=False,
        server_default="",
        comment="of vendor_accounts; empty: the gateway's own, which is shared",
    ),
    Column("mode", Text, nullable=False, comment="with payer_id the verification's, for the vendors' statistics"),
    Column("payer_id", Text),
    Column("vendor_ref", Text),
    Column("state", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("intent_at", Timestamp, comment="right before the committing call"),
    Column("lookup_after", Timestamp, comment="from when on an unanswered submission may be looked up"),
    Column("submitted_at", Timestamp, comment="when the committing call was answered or found"),
    Column("ended_at", Timestamp, nullable=False, comment="rows are written when attempts end"),
    Column("failure_code", Text),
    Column("checks", Integer, nullable=False, server_default="0", comment="checks that came back pending"),
    Column("tenant_id", Text, comment="the verification's; null in rows from before there was this column"),
    one_of("mode", "test", "live"),
    one_of("state", *AttemptState),
    Index("ix_attempts_ended", "vendor", "mode", "ended_at"),
    Index(
        "ix_attempts_ended_by_tenant",
        "tenant_id",
        "mode",
        "ended_at",
        postgresql_where=text("tenant_id IS NOT NULL"),
    ),
    Index("ix_attempts_vendor_ref", "vendor", "vendor_ref", postgresql_where=text("vendor_ref IS NOT NULL")),
)

# What one step brought: rows of the timeline and exchanges with the vendor, whose contents are sealed one by one.
history = Table(
    "history",
    metadata,
    Column("verification_id", Text, ForeignKey("verifications.id", ondelete="CASCADE"), nullable=False),
    Column("n", Integer, nullable=False, comment="from 0, without gaps"),
    Column("at", Timestamp, nullable=False, server_default=now),
    Column("attempt_id", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column(
        "entries",
        JSONB,
        nullable=False,
        comment="of the timeline: constants of ours, with numbers and vendor words at most; never PHI",
    ),
    Column("exchanges", JSONB, comment="id, at, call, status, content_type of each"),
    Column(
        "contents_sealed",
        ARRAY(LargeBinary),
        comment="of the same exchanges; the associated data has their ids; NULL once they were erased",
    ),
    PrimaryKeyConstraint("verification_id", "n", "at"),
    postgresql_partition_by="RANGE (at)",
)

results = Table(
    "results",
    metadata,
    Column("verification_id", Text, ForeignKey("verifications.id", ondelete="CASCADE"), primary_key=True),
    Column("sealed", LargeBinary, nullable=False, comment="compressed before it was sealed"),
)

# Another reading of the same replies, by later rules than those that made the result (verifications/renormalize.py).
readings = Table(
    "readings",
    metadata,
    Column("verification_id", Text, ForeignKey("verifications.id", ondelete="CASCADE"), primary_key=True),
    Column("mapping_version", Text, nullable=False, comment="of the rules that read the stored replies again"),
    Column("at", Timestamp, nullable=False, server_default=now),
    Column("sealed", LargeBinary, comment="outcome, reason and result of that reading; NULL: as the result"),
    Column("announced_at", Timestamp, comment="when its event was made; NULL: nobody asked for it"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False, comment="keyed HMAC of the validated canonical body"),
    Column("fingerprint_key_id", Text, nullable=False),
    Column("verification_id", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    PrimaryKeyConstraint("tenant_id", "mode", "key"),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

# What is to be done to many verifications, and each of those. The job's row is its own queue.
bulk_jobs = Table(
    "bulk_jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id", ondelete="CASCADE"), comment="null: of every tenant"),
    Column("mode", Text, comment="null: of both"),
    Column("action", Text, nullable=False),
    Column("filter", JSONB, nullable=False, comment="as the caller gave it: no PHI"),
    Column("resolution", Text, comment="of the action resolve"),
    Column("again", Boolean, nullable=False, comment="also what was asked again before"),
    Column("corrections_sealed", LargeBinary, comment="of the action resubmit; NULL when the job is over"),
    Column("status", Text, nullable=False),
    Column("matched", Integer, nullable=False, comment="verifications when it was made"),
    Column("sample", ARRAY(Text), nullable=False, comment="some of them"),
    Column("step", Integer, nullable=False, server_default="0", comment="grows with every claim and rescheduling"),
    Column("due_at", Timestamp, comment="while it is not over: the next slice, or the end of the lease"),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("started_at", Timestamp),
    Column("ended_at", Timestamp),
    # Who asked for it, as the audit of each verification names them, and what they may see.
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("acting_user", Text),
    Column("address", Text),
    Column("request_id", Text),
    Column("sees_phi", Boolean, nullable=False),
    one_of("mode", "test", "live"),
    one_of("action", *BulkAction),
    one_of("status", *BulkStatus),
    one_of("actor_kind", *ActorKind),
    CheckConstraint("(due_at IS NULL) = (ended_at IS NOT NULL)", name="due_until_over"),
    Index("ix_bulk_jobs_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_bulk_jobs_created_at", "created_at"),
)

bulk_job_keys = Table(
    "bulk_job_keys",
    metadata,
    Column("asked_by", Text, nullable=False, comment="the key's tenant, or the operator"),
    Column("mode", Text, nullable=False, comment="empty: of both"),
    Column("key", Text, nullable=False),
    Column("owner", Text, nullable=False, comment="whose data key the fingerprint is under; empty: the gateway's"),
    Column("fingerprint", LargeBinary, nullable=False, comment="keyed HMAC of the order"),
    Column("fingerprint_key_id", Text, nullable=False),
    Column("job_id", Text, ForeignKey("bulk_jobs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    PrimaryKeyConstraint("asked_by", "mode", "key"),
    Index("ix_bulk_job_keys_created_at", "created_at"),
    Index("ix_bulk_job_keys_job_id", "job_id"),
)

bulk_items = Table(
    "bulk_items",
    metadata,
    Column("job_id", Text, ForeignKey("bulk_jobs.id", ondelete="CASCADE"), nullable=False),
    Column("verification_id", Text, nullable=False),
    Column("outcome", Text, comment="null: still to be done"),
    Column("reason", Text, comment="why it was skipped, or failed: a code"),
    PrimaryKeyConstraint("job_id", "verification_id"),
    one_of("outcome", *BulkOutcome),
    Index("ix_bulk_items_left", "job_id", "verification_id", postgresql_where=text("outcome IS NULL")),
    Index("ix_bulk_items_over", "job_id", "outcome", "reason", postgresql_where=text("outcome IS NOT NULL")),
)

vendor_messages = Table(
    "vendor_messages",
    metadata,
    Column("id", Text, primary_key=True),
    Column("body_sealed", LargeBinary, nullable=False),
    Column("received_at", Timestamp, nullable=False, server_default=now),
    Index("ix_vendor_messages_received_at", "received_at"),
)

vendor_events = Table(
    "vendor_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column(
        "account",
        Text,
        nullable=False,
        server_default="",
        comment="of vendor_accounts; empty: the gateway's own, which is shared",
    ),
    Column("dedupe_key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("ref", Text),
    Column("echo", Text),
    Column("wakes", Boolean, nullable=False),
    Column("verification_id", Text, comment="set when it was matched"),
    Column("body_sealed", LargeBinary, comment="of events from before there were vendor_messages"),
    Column("message_id", Text, comment="the vendor_messages that it came in, maybe with others"),
    Column("received_at", Timestamp, nullable=False, server_default=now),
    one_of("mode", "test", "live"),
    UniqueConstraint("vendor", "mode", "account", "dedupe_key"),
    Index("ix_vendor_events_of", "verification_id", postgresql_where=text("verification_id IS NOT NULL")),
    Index("ix_vendor_events_unmatched", "vendor", "ref", postgresql_where=text("verification_id IS NULL")),
)

portal_links = Table(
    "portal_links",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the token, which is shown once"),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("made_by", Text, nullable=False, comment="the API key, or a user of this machine"),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("expires_at", Timestamp, nullable=False, index=True),
    Column("used_at", Timestamp),
    one_of("mode", "test", "live"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", ARRAY(Text), nullable=False),
    Column("payload", Text, nullable=False),
    Column("description", Text),
    Column("status", Text, nullable=False),
    Column("disabled_reason", Text),
    Column("secret_sealed", LargeBinary, comment="NULL once its tenant was erased"),
    Column("previous_secret_sealed", LargeBinary),
    Column("previous_secret_until", Timestamp),
    Column(
        "older_secrets_sealed",
        ARRAY(LargeBinary),
        nullable=False,
        server_default="{}",
        comment="those before that one, sealed as it is",
    ),
    Column(
        "older_secrets_until", ARRAY(Timestamp), nullable=False, server_default="{}", comment="until then each signs"
    ),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("updated_at", Timestamp, nullable=False, server_default=now),
    Column("deleted_at", Timestamp),
    Column("made_by", Text, comment="the API key; null in rows from before there was this column"),
    Column(
        "failures_in_row", Integer, nullable=False, server_default="0", comment="tries that failed since one did not"
    ),
    Column("failed_since", Timestamp, comment="the first of them"),
    Column("failing_since", Timestamp, comment="the first of those for which it was told to fail; null: it is well"),
    Column("well_since", Timestamp, comment="while it is told to fail: the first try that did not"),
    one_of("mode", "test", "live"),
    one_of("payload", "thin", "full"),
    one_of("status", *EndpointStatus),
    Index("ix_webhook_endpoints_subscribed", "tenant_id", "mode", postgresql_where=text("deleted_at IS NULL")),
    Index(
        "ix_webhook_endpoints_in_trouble",
        "id",
        postgresql_where=text("failures_in_row > 0 OR failing_since IS NOT NULL"),
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("verification_id", Text),
    Column("data", JSONB, nullable=False, comment="the thin payload: no PHI"),
    Column("full_sealed", LargeBinary, comment="the full payload, if an endpoint wanted it when it was published"),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column(
        "position", BigInteger, Identity(), nullable=False, comment="the order of the list; drawn before created_at"
    ),
    one_of("mode", "test", "live"),
    Index("ix_events_listed", "tenant_id", "mode", "type", "position"),
    Index("ix_events_created_at", "created_at"),
    Index("ix_events_of", "verification_id", postgresql_where=text("verification_id IS NOT NULL")),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("event_id", Text, ForeignKey("events.id", ondelete="CASCADE"), nullable=False, index=True),
    # No foreign key: its check locks the endpoint's row, and one row in use would stop all that publishes.
    Column("endpoint_id", Text, nullable=False, comment="of webhook_endpoints, whose rows are marked, never deleted"),
    Column("status", Text, nullable=False),
    Column("step", Integer, nullable=False, server_default="0", comment="grows with every claim and rescheduling"),
    Column(
        "tries", Integer, nullable=False, server_default="0", comment="since it was made or last redelivered by hand"
    ),
    Column("slow", Boolean, nullable=False, server_default=text("false"), comment="its last try took long"),
    Column("next_attempt_at", Timestamp),
    Column("due_at", Timestamp, comment="next_attempt_at, or while it is worked on the end of the lease"),
    Column("last_at", Timestamp, comment="the last try, of which the failed ones are also in delivery_attempts"),
    Column("last_status", SmallInteger),
    Column("last_duration_ms", Integer),
    Column("last_error", Text),
    Column("last_answer_sealed", LargeBinary, comment="the first 2 KB of what the partner answered"),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("ended_at", Timestamp),
    Column(
        "event_type",
        Text,
        nullable=False,
        server_default="",
        comment="the event's; empty in rows from before there was this column",
    ),
    one_of("status", *DeliveryStatus),
    CheckConstraint(
        f"(status = '{DeliveryStatus.PENDING}') = (next_attempt_at IS NOT NULL AND due_at IS NOT NULL)",
        name="watched_while_pending",
    ),
    Index("ix_deliveries_listed", "endpoint_id", "status", "event_type", "created_at", "id"),
    # A lane is an endpoint.
    Index("ix_deliveries_due", "endpoint_id", "due_at", postgresql_where=text(f"status = '{DeliveryStatus.PENDING}'")),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("delivery_id", Text, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Timestamp, nullable=False, server_default=now),
    Column("status", SmallInteger),
    Column("duration_ms", Integer, nullable=False),
    Column("error", Text),
    Column("answer_sealed", LargeBinary, comment="the first 2 KB of what the partner answered"),
)

vendor_standing = Table(
    "vendor_standing",
    metadata,
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column(
        "account",
        Text,
        nullable=False,
        server_default="",
        comment="of vendor_accounts; empty: the gateway's own, which is shared",
    ),
    Column("circuit", Text, nullable=False, server_default=CircuitState.CLOSED.value),
    Column("since", Timestamp, nullable=False, server_default=now),
    Column("rests_until", Timestamp, comment="open: no call before; half_open: when the trial counts as lost"),
    Column(
        "rests", Integer, nullable=False, server_default="0", comment="rests in a row, each longer than the one before"
    ),
    Column("held_at", Timestamp),
    Column("held_by", Text, comment="the operator"),
    Column("held_reason", Text, comment="the operator's words; no PHI"),
    Column("held_until", Timestamp, comment="when the hold ends by itself"),
    PrimaryKeyConstraint("vendor", "mode", "account"),
    one_of("mode", "test", "live"),
    one_of("circuit", *CircuitState),
    CheckConstraint(f"(circuit = '{CircuitState.CLOSED}') = (rests_until IS NULL)", name="rests_while_not_closed"),
)

refused_credentials = Table(
    "refused_credentials",
    metadata,
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column(
        "account",
        Text,
        nullable=False,
        server_default="",
        comment="of vendor_accounts; empty: the gateway's own, which is shared",
    ),
    Column("refused_at", Timestamp, comment="since when; null: the vendor takes those of today"),
    Column(
        "versions",
        ARRAY(Text),
        nullable=False,
        server_default="{}",
        comment="the refused ones: keyed digests of the gateway's own, or when a tenant's were put in",
    ),
    Column("trial_at", Timestamp, nullable=False, comment="refused ones are not tried again before"),
    Column("trial_until", Timestamp, comment="a trial is being made; when it counts as lost"),
    Column("trials", Integer, nullable=False, server_default="0", comment="refused in a row"),
    PrimaryKeyConstraint("vendor", "mode", "account"),
    one_of("mode", "test", "live"),
)

# What ended, by hour and by day: read by pages, which must not scan a million rows. Of no tenant.
vendor_history = Table(
    "vendor_history",
    metadata,
    Column("span", Text, nullable=False),
    Column("at", Timestamp, nullable=False, comment="the begin of the hour or day (UTC)"),
    Column("mode", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("payer_id", Text, nullable=False, comment="empty: all payers together"),
    Column("ended", Integer, nullable=False, comment="attempts that ended"),
    Column("ours", Integer, nullable=False, comment="that failed by the gateway's doing"),
    Column("vendors", Integer, nullable=False, comment="by the vendor's"),
    Column("payers", Integer, nullable=False, comment="by the payer's"),
    Column("waits", ARRAY(Integer), nullable=False, comment="answers by seconds from the submission, in steps of 5/4"),
    PrimaryKeyConstraint("span", "mode", "vendor", "payer_id", "at"),
    one_of("span", "hour", "day"),
    one_of("mode", "test", "live"),
)

ended_hours = Table(
    "ended_hours",
    metadata,
    Column("at", Timestamp, nullable=False, comment="the begin of the hour"),
    Column("tenant_id", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("outcome", Text, nullable=False, comment="failed or canceled if there is none"),
    Column("failure_code", Text, nullable=False, comment="empty: none"),
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("at", "tenant_id", "mode", "vendor", "outcome", "failure_code"),
    one_of("mode", "test", "live"),
)

open_samples = Table(
    "open_samples",
    metadata,
    Column("at", Timestamp, nullable=False, comment="a full minute"),
    Column("mode", Text, nullable=False),
    Column("waiting_for", Text, nullable=False, comment="start: its first step is still to come"),
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("at", "mode", "waiting_for"),
    one_of("mode", "test", "live"),
)

open_tenant_samples = Table(
    "open_tenant_samples",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("at", Timestamp, nullable=False, comment="a full minute, one in five"),
    Column("waiting_for", Text, nullable=False, comment="as in `open_samples`"),
    Column("number", Integer, nullable=False),
    PrimaryKeyConstraint("tenant_id", "mode", "at", "waiting_for"),
    one_of("mode", "test", "live"),
    Index("ix_open_tenant_samples_at", "at"),
)

# One row: up to when attempts were counted into vendor_history and ended_hours.
counting_cursor = Table(
    "counting_cursor",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("counted_until", Timestamp, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

vendor_calls = Table(
    "vendor_calls",
    metadata,
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column(
        "account",
        Text,
        nullable=False,
        server_default="",
        comment="of vendor_accounts; empty: the gateway's own, which is shared",
    ),
    Column("bucket", Timestamp, nullable=False, comment="the begin of ten seconds"),
    Column("answered", Integer, nullable=False, comment="calls that got a readable reply"),
    Column("failed", Integer, nullable=False, comment="calls that did not, by the vendor's doing"),
    PrimaryKeyConstraint("vendor", "mode", "account", "bucket"),
    one_of("mode", "test", "live"),
)

vendor_rates = Table(
    "vendor_rates",
    metadata,
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column(
        "account",
        Text,
        nullable=False,
        server_default="",
        comment="of vendor_accounts; empty: the gateway's own, which is shared",
    ),
    Column("tokens", Double, nullable=False, comment="calls that may be made now, as of `at`"),
    Column("at", Timestamp, nullable=False, server_default=now),
    PrimaryKeyConstraint("vendor", "mode", "account"),
    one_of("mode", "test", "live"),
)

quotas = Table(
    "quotas",
    metadata,
    Column("policy", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="an API key's id, a tenant's, an address, or a vendor's account"),
    Column("full_at", Timestamp, nullable=False, comment="when the bucket is full again: what is done puts it off"),
    PrimaryKeyConstraint("policy", "subject"),
)

wait_places = Table(
    "wait_places",
    metadata,
    Column("credential_id", Text, nullable=False, comment="an API key's id, or an operator's"),
    Column("process_id", Text, nullable=False, comment="of the API process that gives them to its requests"),
    Column("places", Integer, nullable=False, comment="requests of the credential that may wait there at once"),
    Column("ends_at", Timestamp, nullable=False, comment="of the lease; a process that lives renews it"),
    PrimaryKeyConstraint("credential_id", "process_id"),
)

vendor_accounts = Table(
    "vendor_accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("credentials_sealed", LargeBinary, comment="the connection's fields, and whose they are; gone when removed"),
    Column("hint", Text, nullable=False, comment="the last four characters of the secret, if it is long enough"),
    Column("fingerprint", Text, nullable=False, comment="of a keyed digest of the credentials"),
    Column("state", Text, nullable=False, comment="what the vendor said to the credentials when they were tested"),
    Column("tested_at", Timestamp),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("changed_at", Timestamp, nullable=False, server_default=now),
    Column("removed_at", Timestamp),
    one_of("mode", "test", "live"),
    one_of("environment", *Environment),
    one_of("state", *VendorAccountState),
    CheckConstraint("(environment = 'sandbox') = (mode = 'test')", name="environment_of_mode"),
    CheckConstraint("(removed_at IS NULL) = (credentials_sealed IS NOT NULL)", name="credentials_until_removed"),
    Index(
        "uq_vendor_accounts_owner",
        "tenant_id",
        "mode",
        "vendor",
        unique=True,
        postgresql_where=text("removed_at IS NULL"),
    ),
)

payer_directory = Table(
    "payer_directory",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column(
        "version",
        BigInteger,
        nullable=False,
        comment="grows with every change, so that what was read is known to be old",
    ),
    Column("seed_digest", LargeBinary, comment="of the seed file that was planted last"),
    CheckConstraint("id = 1", name="one_row"),
)

payers = Table(
    "payers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("mode", Text, nullable=False, comment="both: from the seed file; else where a vendor listed it"),
    Column("name", Text, nullable=False),
    Column("electronic_id", Text),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    one_of("mode", "both", "test", "live"),
    UniqueConstraint("mode", "electronic_id"),
)

payer_names = Table(
    "payer_names",
    metadata,
    Column("payer_id", Text, ForeignKey("payers.id", ondelete="CASCADE"), nullable=False),
    Column("mode", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint("payer_id", "mode", "kind", "value"),
    one_of("mode", "both", "test", "live"),
    one_of("kind", "alias", "electronic_id"),
)

payer_codes = Table(
    "payer_codes",
    metadata,
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("codes", JSONB, nullable=False, comment="the vendor's own codes, as JSON"),
    Column("payer_id", Text, ForeignKey("payers.id", ondelete="CASCADE"), nullable=False, index=True),
    Column(
        "source", Text, nullable=False, comment="a person's word comes before the vendor's list, that before the seed"
    ),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    PrimaryKeyConstraint("vendor", "mode", "codes"),
    one_of("mode", "test", "live"),
    one_of("source", "seed", "list", "person"),
)

payer_candidates = Table(
    "payer_candidates",
    metadata,
    Column("id", Text, primary_key=True),
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("codes", JSONB, nullable=False),
    Column("name", Text, nullable=False),
    Column("electronic_id", Text),
    Column("aliases", ARRAY(Text), nullable=False),
    Column("suggested", ARRAY(Text), nullable=False, comment="ids of payers that it may be, the likeliest first"),
    Column("created_at", Timestamp, nullable=False, server_default=now),
    Column("ignored_at", Timestamp, comment="when an operator said that nobody needs it"),
    one_of("mode", "test", "live"),
    UniqueConstraint("vendor", "mode", "codes"),
)

unresolved_payers = Table(
    "unresolved_payers",
    metadata,
    Column("mode", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False, comment="as requests had it"),
    Column("asked", Integer, nullable=False, comment="how often"),
    Column("first_at", Timestamp, nullable=False, server_default=now),
    Column("last_at", Timestamp, nullable=False, server_default=now),
    Column("ignored_at", Timestamp, comment="when an operator said that nobody needs it"),
    PrimaryKeyConstraint("mode", "kind", "value"),
    one_of("mode", "test", "live"),
    one_of("kind", "id", "name"),
)

payer_syncs = Table(
    "payer_syncs",
    metadata,
    Column("vendor", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("started_at", Timestamp, nullable=False),
    Column("synced_at", Timestamp, comment="when its list was last taken over"),
    Column("listed", Integer, comment="payers in that list"),
    Column("error", Text, comment="why the latest try failed, a constant of ours"),
    PrimaryKeyConstraint("vendor", "mode"),
    one_of("mode", "test", "live"),
)

# Partitioned by month (db/partitions.py). Rows are only ever added: triggers of the migration refuse anything else.
Sequence("audit_events_position_seq", metadata=metadata)
audit_events = Table(
    "audit_events",
    metadata,
    Column(
        "position",
        BigInteger,
        nullable=False,
        # The argument is evaluated first: who draws a position has its transaction's number already (access/audit_chain.py).
        # As PostgreSQL prints it, because Alembic compares by the text, or else draws two positions and finds them unequal.
        server_default=text(
            "nextval(\nCASE\n    WHEN (pg_current_xact_id() IS NOT NULL) THEN 'audit_events_position_seq'::regclass\n"
            "    ELSE NULL::regclass\nEND)"
        ),
        comment="the order in which the chain of batches has them; with gaps",
    ),
    Column("id", Text, nullable=False),
    Column("at", Timestamp, nullable=False, server_default=now),
    Column("tenant_id", Text, comment="null: the whole gateway's"),
    Column("mode", Text),
    Column("action", Text, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column(
        "actor_id", Text, comment="a key, an operator, the endpoint that a worker delivers to, a user of this machine"
    ),
    Column("acting_user", Text, comment="the caller's word: X-Acting-User"),
    Column("address", Text, comment="the client's"),
    Column("request_id", Text, comment="a worker's: the event that it delivers"),
    Column("subject_kind", Text),
    Column("subject_id", Text),
    Column("outcome", Text, nullable=False),
    Column("count", Integer, nullable=False, server_default="1", comment="so many alike, summed up: wrong keys"),
    Column("reason", Text, comment="why PHI was looked at: one of the console's fixed reasons"),
    PrimaryKeyConstraint("position", "at"),
    CheckConstraint("position > 0", name="position"),
    one_of("mode", "test", "live"),
    one_of("actor_kind", *ActorKind),
    one_of("outcome", *AuditOutcome),
    Index("ix_audit_events_listed", "tenant_id", "id"),
    Index("ix_audit_events_subject_id", "subject_id"),
    postgresql_partition_by="RANGE (at)",
    info={APPEND_ONLY: True},
)

audit_batches = Table(
    "audit_batches",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False, comment="from 1, without gaps"),
    Column("after_position", BigInteger, nullable=False, comment="the last position of the batch before"),
    Column("last_position", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_at", Timestamp, nullable=False),
    Column("last_at", Timestamp, nullable=False),
    Column("closed_at", Timestamp, nullable=False),
    Column(
        "rows_digest", LargeBinary, nullable=False, comment="SHA-256 of its rows as they are exported, line by line"
    ),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of all of the above and the digest before"),
    Column("key_id", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False, comment="of the digest, under a key that is not in the database"),
    info={APPEND_ONLY: True},
)
