"""The audit gets who, from where and with what outcome, by month, append-only, chained in batches. Old rows come along."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "audit"
down_revision = "erasure"
branch_labels = None
depends_on = None
compatible_with = ()
"""None: older code writes to a table that is gone."""

_CREATE = """
LOCK TABLE audit_log;
CREATE SEQUENCE audit_events_position_seq;
CREATE TABLE audit_events (
  position BIGINT DEFAULT nextval(CASE WHEN (pg_current_xact_id() IS NOT NULL) THEN 'audit_events_position_seq'::regclass
    ELSE NULL::regclass END) NOT NULL,
  id TEXT NOT NULL,
  at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  tenant_id TEXT,
  mode TEXT,
  action TEXT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id TEXT,
  acting_user TEXT,
  address TEXT,
  request_id TEXT,
  subject_kind TEXT,
  subject_id TEXT,
  outcome TEXT NOT NULL,
  count INTEGER DEFAULT '1' NOT NULL,
  CONSTRAINT pk_audit_events PRIMARY KEY (position, at),
  CONSTRAINT ck_audit_events_position CHECK (position > 0),
  CONSTRAINT ck_audit_events_mode CHECK (mode IN ('test', 'live')),
  CONSTRAINT ck_audit_events_actor_kind CHECK (actor_kind IN ('key', 'operator', 'worker', 'cli')),
  CONSTRAINT ck_audit_events_outcome CHECK (outcome IN ('allowed', 'refused', 'not_found'))
) PARTITION BY RANGE (at);
CREATE INDEX ix_audit_events_listed ON audit_events (tenant_id, id);
CREATE INDEX ix_audit_events_subject_id ON audit_events (subject_id);
COMMENT ON COLUMN audit_events.position IS 'the order in which the chain of batches has them; with gaps';
COMMENT ON COLUMN audit_events.tenant_id IS 'null: the whole gateway''s';
COMMENT ON COLUMN audit_events.actor_id
  IS 'a key, an operator, the endpoint that a worker delivers to, a user of this machine';
COMMENT ON COLUMN audit_events.acting_user IS 'the caller''s word: X-Acting-User';
COMMENT ON COLUMN audit_events.address IS 'the client''s';
COMMENT ON COLUMN audit_events.request_id IS 'a worker''s: the event that it delivers';
COMMENT ON COLUMN audit_events.count IS 'so many alike, summed up: wrong keys';
CREATE TABLE audit_batches (
  number BIGINT NOT NULL,
  after_position BIGINT NOT NULL,
  last_position BIGINT NOT NULL,
  count INTEGER NOT NULL,
  first_at TIMESTAMP WITH TIME ZONE NOT NULL,
  last_at TIMESTAMP WITH TIME ZONE NOT NULL,
  closed_at TIMESTAMP WITH TIME ZONE NOT NULL,
  rows_digest BYTEA NOT NULL,
  digest BYTEA NOT NULL,
  key_id TEXT NOT NULL,
  mac BYTEA NOT NULL,
  CONSTRAINT pk_audit_batches PRIMARY KEY (number)
);
COMMENT ON COLUMN audit_batches.number IS 'from 1, without gaps';
COMMENT ON COLUMN audit_batches.after_position IS 'the last position of the batch before';
COMMENT ON COLUMN audit_batches.rows_digest IS 'SHA-256 of its rows as they are exported, line by line';
COMMENT ON COLUMN audit_batches.digest IS 'SHA-256 of all of the above and the digest before';
COMMENT ON COLUMN audit_batches.mac IS 'of the digest, under a key that is not in the database';
CREATE TABLE audit_events_rest PARTITION OF audit_events DEFAULT;

DO $$ DECLARE month timestamp; BEGIN
  FOR month IN SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC') FROM audit_log LOOP
    EXECUTE format('CREATE TABLE %I PARTITION OF audit_events FOR VALUES FROM (%L) TO (%L)',
      'audit_events_' || to_char(month, 'YYYY_MM'), month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
  END LOOP;
END $$;
"""

# An id as new rows have them, `aud_` and a UUIDv7 in base32: 2 bits of nothing, 48 bits of milliseconds, 80 bits of a digest.
_ID = """'aud_' || (
  SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz', 1 + CAST(substring(b.bits FROM 5 * n + 1 FOR 5) AS int), 1), ''
    ORDER BY n)
  FROM generate_series(0, 25) AS n,
    (SELECT B'00' || CAST('x' || lpad(to_hex(CAST(floor(1000 * extract(epoch FROM l.at)) AS bigint)), 12, '0')
      || '7' || substr(md5('audit_log' || l.id), 1, 3) || '8' || substr(md5('audit_log' || l.id), 4, 15) AS bit(128)) AS bits)
      AS b)"""
_CARRY_OVER = f"""
INSERT INTO audit_events (id, at, tenant_id, mode, action, actor_kind, actor_id, address, request_id, subject_kind, subject_id,
  outcome)
SELECT {_ID}, l.at, l.tenant_id,
  coalesce(v.mode, k.mode, CASE WHEN l.action LIKE 'vendor.%' THEN split_part(l.subject, ' ', 2) END),
  l.action, CASE WHEN l.operator_id IS NOT NULL THEN 'operator' WHEN l.api_key_id IS NOT NULL THEN 'key'
    WHEN l.action LIKE 'webhook.%' THEN 'worker' ELSE 'cli' END,
  coalesce(l.operator_id, l.api_key_id), CASE WHEN l.action LIKE '%.address_refused' THEN l.subject END, l.request_id,
  CASE WHEN left(l.verification_id, 4) = 'ten_' THEN 'tenant' WHEN l.verification_id IS NOT NULL THEN 'verification'
    WHEN l.action LIKE 'vendor.%' THEN 'vendor' END,
  coalesce(l.verification_id, CASE WHEN l.action LIKE 'vendor.%' THEN split_part(l.subject, ' ', 1) END),
  CASE WHEN l.action LIKE '%.address_refused' THEN 'refused' ELSE 'allowed' END
FROM (SELECT * FROM audit_log ORDER BY id) AS l
  LEFT JOIN api_keys k ON k.id = l.api_key_id LEFT JOIN verifications v ON v.id = l.verification_id
ORDER BY l.id;
DROP TABLE audit_log;
"""

_APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE EXCEPTION 'rows of % are only added', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_batches FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON audit_batches FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$ DECLARE part regclass; BEGIN
  FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_events'::regclass LOOP
    EXECUTE format('CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
      part);
  END LOOP;
END $$;
"""

_BACK = """
CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT clock_timestamp(), tenant_id text,
  api_key_id text, action text NOT NULL, verification_id text, request_id text, operator_id text, subject text,
  CONSTRAINT pk_audit_log PRIMARY KEY (id)
);
CREATE INDEX ix_audit_log_at ON audit_log (at);
CREATE INDEX ix_audit_log_verification_id ON audit_log (verification_id);
COMMENT ON COLUMN audit_log.tenant_id IS 'null: an operator''s act on the fleet';
COMMENT ON COLUMN audit_log.subject IS 'of an act on something else than a verification, or how it was decided';
INSERT INTO audit_log (at, tenant_id, api_key_id, operator_id, action, verification_id, subject, request_id)
SELECT at, tenant_id, CASE WHEN actor_kind = 'key' THEN actor_id END, CASE WHEN actor_kind = 'operator' THEN actor_id END, action,
  CASE WHEN subject_kind IN ('verification', 'tenant') THEN subject_id END,
  CASE WHEN subject_kind = 'vendor' THEN concat_ws(' ', subject_id, mode) END, request_id
FROM audit_events
WHERE outcome = 'allowed' AND subject_kind IN ('verification', 'vendor', 'tenant')
ORDER BY position;
DROP TABLE audit_events, audit_batches;
DROP SEQUENCE audit_events_position_seq;
DROP FUNCTION refuse_change();
"""


def upgrade() -> None:
    for script in (_CREATE, _CARRY_OVER, _APPEND_ONLY):
        _run(script)


def downgrade() -> None:
    """Keeps the reads; what older code has no row for is lost with its chain."""
    _run(_BACK)


def _run(script: str) -> None:
    """One statement after the other, split at each semicolon that ends a line, those between `$$` left alone."""
    current, quoted = "", False
    for line in script.splitlines(keepends=True):
        current += line
        quoted ^= line.count("$$") % 2 == 1
        if line.rstrip().endswith(";") and not quoted:
            op.execute(text(current.strip().removesuffix(";").replace(":", "\\:")))
            current = ""
