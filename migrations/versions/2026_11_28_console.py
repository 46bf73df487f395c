"""People come in to the console: their accounts, one-time links and sessions; the audit says why PHI was looked at;
what nobody could resolve of payers is a work list."""

from __future__ import annotations

from alembic import op

revision = "console"
down_revision = "holds"
branch_labels = None
depends_on = None
compatible_with = ("holds",)
"""Older code reads and writes nothing of it."""

_UP = """
CREATE TABLE console_users (
  id TEXT NOT NULL,
  login TEXT NOT NULL,
  name TEXT NOT NULL,
  tenant_id TEXT,
  roles TEXT[] NOT NULL,
  password_hash TEXT,
  totp_sealed BYTEA NOT NULL,
  totp_step BIGINT DEFAULT '0' NOT NULL,
  failures INTEGER DEFAULT '0' NOT NULL,
  locked_until TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  signed_in_at TIMESTAMP WITH TIME ZONE,
  revoked_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_console_users PRIMARY KEY (id),
  CONSTRAINT uq_console_users_login UNIQUE (login),
  CONSTRAINT fk_console_users_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id)
);
COMMENT ON COLUMN console_users.login IS 'in lower case';
COMMENT ON COLUMN console_users.tenant_id IS 'null: one of the gateway''s operators';
COMMENT ON COLUMN console_users.password_hash IS 'Argon2id; null until the account was set up';
COMMENT ON COLUMN console_users.totp_sealed IS 'the secret of the second factor';
COMMENT ON COLUMN console_users.totp_step IS 'of the last code: none is taken twice';
COMMENT ON COLUMN console_users.failures IS 'wrong sign-ins in a row';
CREATE TABLE console_links (
  digest BYTEA NOT NULL,
  purpose TEXT NOT NULL,
  user_id TEXT,
  name TEXT DEFAULT '' NOT NULL,
  tenant_id TEXT,
  mode TEXT,
  roles TEXT[] DEFAULT '{}' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  used_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_console_links PRIMARY KEY (digest),
  CONSTRAINT fk_console_links_user_id FOREIGN KEY (user_id) REFERENCES console_users (id),
  CONSTRAINT fk_console_links_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id),
  CONSTRAINT ck_console_links_purpose CHECK (purpose IN ('set_up', 'sign_in')),
  CONSTRAINT ck_console_links_mode CHECK (mode IN ('test', 'live'))
);
COMMENT ON COLUMN console_links.digest IS 'SHA-256 of the code in the link, which is shown once';
COMMENT ON COLUMN console_links.user_id IS 'whose account is to be set up';
COMMENT ON COLUMN console_links.name IS 'of whoever comes in by it';
COMMENT ON COLUMN console_links.tenant_id IS 'null: the whole gateway';
COMMENT ON COLUMN console_links.used_at IS 'it opens once';
CREATE TABLE console_sessions (
  id TEXT NOT NULL,
  digest BYTEA NOT NULL,
  actor_id TEXT NOT NULL,
  name TEXT NOT NULL,
  tenant_id TEXT,
  mode TEXT NOT NULL,
  roles TEXT[] NOT NULL,
  revealed JSONB DEFAULT '{}' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  seen_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  ended_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_console_sessions PRIMARY KEY (id),
  CONSTRAINT uq_console_sessions_digest UNIQUE (digest),
  CONSTRAINT fk_console_sessions_tenant_id FOREIGN KEY (tenant_id) REFERENCES tenants (id),
  CONSTRAINT ck_console_sessions_mode CHECK (mode IN ('test', 'live'))
);
COMMENT ON COLUMN console_sessions.digest IS 'SHA-256 of the cookie';
COMMENT ON COLUMN console_sessions.actor_id IS 'a console user, or who the identity provider says it is';
COMMENT ON COLUMN console_sessions.tenant_id IS 'null: one of the gateway''s operators';
COMMENT ON COLUMN console_sessions.mode IS 'the one that is looked at';
COMMENT ON COLUMN console_sessions.revealed IS 'verification → until when its PHI is shown';
CREATE INDEX ix_console_sessions_actor_id ON console_sessions (actor_id);
CREATE TABLE unresolved_payers (
  mode TEXT NOT NULL,
  kind TEXT NOT NULL,
  value TEXT NOT NULL,
  asked INTEGER NOT NULL,
  first_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  last_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  ignored_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_unresolved_payers PRIMARY KEY (mode, kind, value),
  CONSTRAINT ck_unresolved_payers_mode CHECK (mode IN ('test', 'live')),
  CONSTRAINT ck_unresolved_payers_kind CHECK (kind IN ('id', 'name'))
);
COMMENT ON COLUMN unresolved_payers.value IS 'as requests had it';
COMMENT ON COLUMN unresolved_payers.asked IS 'how often';
COMMENT ON COLUMN unresolved_payers.ignored_at IS 'when an operator said that nobody needs it';
ALTER TABLE payer_candidates ADD COLUMN ignored_at TIMESTAMP WITH TIME ZONE;
COMMENT ON COLUMN payer_candidates.ignored_at IS 'when an operator said that nobody needs it';
ALTER TABLE audit_events ADD COLUMN reason TEXT;
COMMENT ON COLUMN audit_events.reason IS 'why PHI was looked at: one of the console''s fixed reasons';
ALTER TABLE audit_events DROP CONSTRAINT ck_audit_events_actor_kind;
ALTER TABLE audit_events ADD CONSTRAINT ck_audit_events_actor_kind
  CHECK (actor_kind IN ('key', 'operator', 'user', 'worker', 'cli'))
"""
_DOWN = """
ALTER TABLE audit_events DROP CONSTRAINT ck_audit_events_actor_kind;
ALTER TABLE audit_events ADD CONSTRAINT ck_audit_events_actor_kind
  CHECK (actor_kind IN ('key', 'operator', 'worker', 'cli')) NOT VALID;
ALTER TABLE audit_events DROP COLUMN reason;
ALTER TABLE payer_candidates DROP COLUMN ignored_at;
DROP TABLE unresolved_payers;
DROP TABLE console_sessions;
DROP TABLE console_links;
DROP TABLE console_users
"""


def upgrade() -> None:
    _run(_UP)


def downgrade() -> None:
    _run(_DOWN)


def _run(script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            op.execute(statement)
