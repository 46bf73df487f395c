"""The scheduling row becomes the queue (`work`); timeline and exchanges of a step become one row (`history`); results a table.

Open verifications keep their place: when they are due, their step, their attempt and its intent, and the looks that are due at
late answers. Attempts are kept from their end on. What was sealed stays as it was sealed.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "work"
down_revision = "attempt_truth"
branch_labels = None
depends_on = None
compatible_with = ()
"""None: no older code knows where the work is."""

_CREATE = """
CREATE TABLE work (
  verification_id TEXT NOT NULL,
  vendor TEXT NOT NULL,
  mode TEXT NOT NULL,
  payer TEXT NOT NULL,
  due_at TIMESTAMP WITH TIME ZONE NOT NULL,
  step INTEGER DEFAULT '0' NOT NULL,
  deadline TIMESTAMP WITH TIME ZONE NOT NULL,
  status TEXT NOT NULL,
  late_tries SMALLINT,
  waiting_for TEXT,
  waiting_since TIMESTAMP WITH TIME ZONE,
  next_check_at TIMESTAMP WITH TIME ZONE NOT NULL,
  wake_requested BOOLEAN DEFAULT false NOT NULL,
  route TEXT[] NOT NULL,
  allow_second_submission BOOLEAN DEFAULT false NOT NULL,
  payer_retries SMALLINT DEFAULT '0' NOT NULL,
  follows TEXT,
  not_asked TEXT[] NOT NULL,
  history_count INTEGER DEFAULT '0' NOT NULL,
  exchange_count INTEGER DEFAULT '0' NOT NULL,
  attempt_id TEXT NOT NULL,
  state TEXT NOT NULL,
  attempt_created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  vendor_ref TEXT,
  intent_id TEXT,
  intent_at TIMESTAMP WITH TIME ZONE,
  lookup_after TIMESTAMP WITH TIME ZONE,
  submitted_at TIMESTAMP WITH TIME ZONE,
  expires_at TIMESTAMP WITH TIME ZONE,
  attempt_failure_code TEXT,
  checks INTEGER DEFAULT '0' NOT NULL,
  errors_in_row INTEGER DEFAULT '0' NOT NULL,
  same_errors_in_row INTEGER DEFAULT '0' NOT NULL,
  look_ups INTEGER DEFAULT '0' NOT NULL,
  exclusive_key TEXT,
  CONSTRAINT pk_work PRIMARY KEY (verification_id),
  CONSTRAINT ck_work_mode CHECK (mode IN ('test', 'live')),
  CONSTRAINT ck_work_status CHECK (status IN ('queued', 'in_progress', 'completed', 'failed', 'canceled')),
  CONSTRAINT ck_work_waiting_for CHECK (waiting_for IN ('vendor', 'vendor_retry', 'rate_limit', 'circuit', 'hold', 'operator')),
  CONSTRAINT ck_work_state CHECK (state IN ('preparing', 'submitting', 'waiting', 'answered', 'refused', 'failed', 'abandoned')),
  CONSTRAINT ck_work_watched CHECK (next_check_at <= deadline),
  CONSTRAINT fk_work_verification_id FOREIGN KEY(verification_id) REFERENCES verifications (id) ON DELETE CASCADE
) WITH (fillfactor = 50);
CREATE INDEX ix_work_attempt ON work (attempt_id);
CREATE INDEX ix_work_deadline ON work (deadline);
CREATE INDEX ix_work_due ON work (vendor, due_at);
CREATE INDEX ix_work_followers ON work (follows) WHERE follows IS NOT NULL;
CREATE INDEX ix_work_held_back ON work (vendor, mode) WHERE waiting_for IN ('hold', 'circuit');
CREATE INDEX ix_work_under_way ON work (vendor, payer) WHERE due_at > next_check_at;
CREATE INDEX ix_work_vendor_ref ON work (vendor, vendor_ref) WHERE vendor_ref IS NOT NULL;
CREATE UNIQUE INDEX uq_work_exclusive ON work (vendor, exclusive_key) WHERE exclusive_key IS NOT NULL;
COMMENT ON COLUMN work.vendor IS 'its lane';
COMMENT ON COLUMN work.payer IS 'who has a share of the lane; empty: not named by an id';
COMMENT ON COLUMN work.due_at IS 'next_check_at, or while it is worked on the end of the lease';
COMMENT ON COLUMN work.step IS 'grows with every claim and rescheduling';
COMMENT ON COLUMN work.late_tries IS 'after the end: looks at an answer that came late';
COMMENT ON COLUMN work.route IS 'the vendors that may be asked after the current one, in order';
COMMENT ON COLUMN work.payer_retries IS 'resubmissions left for a payer that is down';
COMMENT ON COLUMN work.follows IS 'the open verification whose answer this one takes over (max_age)';
COMMENT ON COLUMN work.intent_id IS 'made by the process that stored the intent';
COMMENT ON COLUMN work.intent_at IS 'right before the committing call';
COMMENT ON COLUMN work.lookup_after IS 'from when on an unanswered submission may be looked up';
COMMENT ON COLUMN work.submitted_at IS 'when the committing call was answered or found';
COMMENT ON COLUMN work.expires_at IS 'when the vendor drops the answer, if that is before the deadline';
COMMENT ON COLUMN work.attempt_failure_code IS 'of its last error';
COMMENT ON COLUMN work.checks IS 'checks that came back pending';
COMMENT ON COLUMN work.errors_in_row IS 'technical errors since the last good reply';
COMMENT ON COLUMN work.same_errors_in_row IS 'the last of the errors in a row, as far as they are of one kind';
COMMENT ON COLUMN work.look_ups IS 'look-ups that could not tell whether the vendor has the submission';
COMMENT ON COLUMN work.exclusive_key IS 'the patient at this vendor, where one open check at a time is all it can bear';
CREATE TABLE history (
  verification_id TEXT NOT NULL,
  n INTEGER NOT NULL,
  at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  attempt_id TEXT NOT NULL,
  vendor TEXT NOT NULL,
  entries JSONB NOT NULL,
  exchanges JSONB,
  contents_sealed BYTEA[],
  CONSTRAINT pk_history PRIMARY KEY (verification_id, n, at),
  CONSTRAINT fk_history_verification_id FOREIGN KEY(verification_id) REFERENCES verifications (id) ON DELETE CASCADE
) PARTITION BY RANGE (at);
COMMENT ON COLUMN history.n IS 'from 0, without gaps';
COMMENT ON COLUMN history.entries IS 'of the timeline: constants of ours, with numbers and vendor words at most; never PHI';
COMMENT ON COLUMN history.exchanges IS 'id, at, call, status, content_type of each';
COMMENT ON COLUMN history.contents_sealed IS 'of the same exchanges; the associated data has their ids';
CREATE TABLE results (
  verification_id TEXT NOT NULL,
  sealed BYTEA NOT NULL,
  CONSTRAINT pk_results PRIMARY KEY (verification_id),
  CONSTRAINT fk_results_verification_id FOREIGN KEY(verification_id) REFERENCES verifications (id) ON DELETE CASCADE
);
COMMENT ON COLUMN results.sealed IS 'compressed before it was sealed';
ALTER TABLE history ALTER COLUMN contents_sealed SET STORAGE EXTERNAL;
ALTER TABLE results ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE TABLE history_rest PARTITION OF history DEFAULT;

DO $$ DECLARE month timestamp; BEGIN
  FOR month IN SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC')
    FROM (SELECT at FROM timeline UNION ALL SELECT at FROM exchanges) AS carried_over
  LOOP
    EXECUTE format('CREATE TABLE %I PARTITION OF history FOR VALUES FROM (%L) TO (%L)', 'history_' || to_char(month, 'YYYY_MM'),
      month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
  END LOOP;
END $$;
"""

_INSTANT = """to_char(t.next_check_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
_CARRY_OVER = f"""
INSERT INTO work (verification_id, vendor, mode, payer, due_at, step, deadline, status, waiting_for, waiting_since, next_check_at,
  wake_requested, route, allow_second_submission, payer_retries, follows, not_asked, history_count, exchange_count, attempt_id,
  state, attempt_created_at, vendor_ref, intent_id, intent_at, lookup_after, submitted_at, expires_at, attempt_failure_code,
  checks, errors_in_row, same_errors_in_row, look_ups, exclusive_key)
SELECT v.id, v.vendor, v.mode, coalesce(v.payer_id, ''), v.next_check_at, v.step, v.deadline, v.status, v.waiting_for,
  v.waiting_since, v.next_check_at, v.wake_requested, v.route, v.allow_second_submission, v.payer_retries, v.follows,
  v.not_asked, 0, v.exchange_count, a.id, a.state, a.created_at, a.vendor_ref, a.intent_id, a.intent_at, a.lookup_after,
  a.submitted_at, a.expires_at, a.failure_code, a.checks, a.errors_in_row, a.same_errors_in_row, a.look_ups, a.exclusive_key
FROM verifications v JOIN attempts a ON a.id = v.attempt_id WHERE v.completed_at IS NULL;

DO $$ BEGIN
  IF to_regclass('pgqueuer') IS NOT NULL THEN
    INSERT INTO work (verification_id, vendor, mode, payer, due_at, deadline, status, late_tries, waiting_since, next_check_at,
      route, not_asked, attempt_id, state, attempt_created_at, vendor_ref, intent_at, submitted_at, expires_at, checks)
    SELECT DISTINCT ON (v.id) v.id, v.vendor, v.mode, coalesce(v.payer_id, ''), q.execute_after,
      v.completed_at + interval '30 days', v.status, CAST(substring(q.dedupe_key FROM ':late([0-9]+)$') AS smallint),
      v.completed_at, q.execute_after, '{{}}', v.not_asked, a.id, a.state, a.created_at, a.vendor_ref, a.intent_at,
      a.submitted_at, a.expires_at, a.checks
    FROM pgqueuer q JOIN verifications v ON v.id = split_part(q.dedupe_key, ':', 1) JOIN attempts a ON a.id = v.attempt_id
    WHERE q.dedupe_key LIKE '%:late%' AND v.completed_at > q.execute_after - interval '30 days'
    ORDER BY v.id, q.execute_after;
  END IF;
END $$;

INSERT INTO history (verification_id, n, at, attempt_id, vendor, entries)
SELECT v.id, row_number() OVER (PARTITION BY v.id ORDER BY t.id) - 1, t.at, coalesce(t.attempt_id, v.attempt_id),
  coalesce(t.vendor, v.vendor), jsonb_build_array(jsonb_build_object(
    'type', t.type, 'message', t.message, 'waiting_for', t.waiting_for, 'next_check_at', {_INSTANT}))
FROM timeline t JOIN verifications v ON v.id = t.verification_id;

INSERT INTO history (verification_id, n, at, attempt_id, vendor, entries, exchanges, contents_sealed)
SELECT v.id, (SELECT count(*) FROM timeline t WHERE t.verification_id = v.id) + x.position, x.at, x.attempt_id,
  coalesce(a.vendor, v.vendor), '[]', jsonb_build_array(jsonb_build_object(
    'id', x.public_id, 'at', x.at, 'call', x.call, 'status', x.status, 'content_type', x.content_type)),
  ARRAY[x.content_sealed]
FROM exchanges x JOIN verifications v ON v.id = x.verification_id LEFT JOIN attempts a ON a.id = x.attempt_id;

INSERT INTO results (verification_id, sealed) SELECT id, result_sealed FROM verifications WHERE result_sealed IS NOT NULL;

UPDATE work w SET history_count = c.number
FROM (SELECT verification_id, count(*) AS number FROM history GROUP BY 1) AS c WHERE w.verification_id = c.verification_id;
"""

_SHAPE = """
DELETE FROM attempts a USING verifications v WHERE v.attempt_id = a.id AND v.completed_at IS NULL;
UPDATE attempts a SET ended_at = coalesce(v.completed_at, a.created_at)
FROM verifications v WHERE v.id = a.verification_id AND a.ended_at IS NULL;
ALTER TABLE attempts DROP COLUMN exclusive_key, DROP COLUMN intent_id, DROP COLUMN errors_in_row,
  DROP COLUMN same_errors_in_row, DROP COLUMN look_ups, ALTER COLUMN created_at DROP DEFAULT, ALTER COLUMN ended_at SET NOT NULL;
DROP INDEX ix_attempts_ended;
CREATE INDEX ix_attempts_ended ON attempts (vendor, mode, ended_at);

ALTER TABLE verifications DROP CONSTRAINT ck_verifications_watched_while_open,
  DROP CONSTRAINT ck_verifications_completed_at_when_ended, DROP CONSTRAINT ck_verifications_outcome_when_completed,
  DROP CONSTRAINT ck_verifications_result_when_completed, DROP CONSTRAINT ck_verifications_failure_when_failed,
  DROP CONSTRAINT ck_verifications_status, DROP CONSTRAINT ck_verifications_waiting_for,
  ALTER COLUMN status DROP NOT NULL, ALTER COLUMN attempt_id DROP NOT NULL,
  ADD COLUMN history_count int NOT NULL DEFAULT 0;
DROP INDEX ix_verifications_due, ix_verifications_deadline, ix_verifications_held_back, ix_verifications_followers;
UPDATE verifications SET status = NULL, attempt_id = NULL, follows = NULL, exchange_count = 0 WHERE completed_at IS NULL;
UPDATE verifications v SET history_count = c.number
FROM (SELECT verification_id, count(*) AS number FROM history GROUP BY 1) AS c
WHERE v.id = c.verification_id AND v.completed_at IS NOT NULL;
ALTER TABLE verifications DROP COLUMN route, DROP COLUMN allow_second_submission, DROP COLUMN payer_retries,
  DROP COLUMN step, DROP COLUMN wake_requested, DROP COLUMN waiting_for, DROP COLUMN waiting_since,
  DROP COLUMN next_check_at, DROP COLUMN result_sealed,
  ADD CONSTRAINT ck_verifications_attempt_when_ended CHECK (completed_at IS NULL OR attempt_id IS NOT NULL),
  ADD CONSTRAINT ck_verifications_completed_at_when_ended CHECK ((status IS NULL) = (completed_at IS NULL)),
  ADD CONSTRAINT ck_verifications_failure_when_failed
    CHECK ((status IS NOT DISTINCT FROM 'failed') = (failure_code IS NOT NULL)),
  ADD CONSTRAINT ck_verifications_outcome_when_completed
    CHECK ((status IS NOT DISTINCT FROM 'completed') = (outcome IS NOT NULL)),
  ADD CONSTRAINT ck_verifications_status CHECK (status IN ('completed', 'failed', 'canceled'));
DROP TABLE timeline, exchanges;
COMMENT ON COLUMN verifications.status IS 'how it ended; while it is open `work` has it';
COMMENT ON COLUMN verifications.vendor IS 'the last attempt''s, while it is open the first''s';
COMMENT ON COLUMN verifications.attempt_id IS 'the last attempt; while it is open `work` has the current one';
COMMENT ON COLUMN verifications.follows IS 'what it still followed when it ended; while it is open `work` has it';
COMMENT ON COLUMN verifications.not_asked IS 'of `vendor`';
COMMENT ON COLUMN verifications.history_count IS '0 while it is open: see `work`';
COMMENT ON COLUMN verifications.exchange_count IS '0 while it is open: see `work`';
COMMENT ON COLUMN attempts.expires_at IS 'when the vendor drops the answer, if that is before the deadline';
COMMENT ON COLUMN attempts.ended_at IS 'rows are written when attempts end';
"""

_NO_PGQUEUER = """
DROP TABLE IF EXISTS pgqueuer, pgqueuer_log, pgqueuer_statistics, pgqueuer_schedules CASCADE;
DROP FUNCTION IF EXISTS fn_pgqueuer_changed() CASCADE;
DROP TYPE IF EXISTS pgqueuer_status CASCADE;
"""

_BACK = """
DROP TABLE work, history, results;
ALTER TABLE attempts
  ADD COLUMN errors_in_row int NOT NULL DEFAULT 0, ADD COLUMN exclusive_key text, ADD COLUMN intent_id text,
  ADD COLUMN same_errors_in_row int NOT NULL DEFAULT 0, ADD COLUMN look_ups int NOT NULL DEFAULT 0,
  ALTER COLUMN created_at SET DEFAULT clock_timestamp(), ALTER COLUMN ended_at DROP NOT NULL;
DROP INDEX ix_attempts_ended;
CREATE INDEX ix_attempts_ended ON attempts (vendor, mode, ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX uq_attempts_exclusive ON attempts (vendor, exclusive_key)
  WHERE exclusive_key IS NOT NULL AND ended_at IS NULL;
ALTER TABLE verifications
  DROP CONSTRAINT ck_verifications_attempt_when_ended, DROP COLUMN history_count,
  DROP CONSTRAINT ck_verifications_completed_at_when_ended, DROP CONSTRAINT ck_verifications_failure_when_failed,
  DROP CONSTRAINT ck_verifications_outcome_when_completed, DROP CONSTRAINT ck_verifications_status,
  ALTER COLUMN status SET NOT NULL, ALTER COLUMN attempt_id SET NOT NULL,
  ADD COLUMN route text[] NOT NULL, ADD COLUMN allow_second_submission boolean NOT NULL DEFAULT false,
  ADD COLUMN payer_retries smallint NOT NULL DEFAULT 0, ADD COLUMN step int NOT NULL DEFAULT 0,
  ADD COLUMN wake_requested boolean NOT NULL DEFAULT false, ADD COLUMN waiting_for text,
  ADD COLUMN waiting_since timestamptz, ADD COLUMN next_check_at timestamptz, ADD COLUMN result_sealed bytea,
  ADD CONSTRAINT ck_verifications_watched_while_open CHECK (
    NOT (status IN ('queued', 'in_progress')) OR (next_check_at IS NOT NULL AND next_check_at <= deadline)),
  ADD CONSTRAINT ck_verifications_completed_at_when_ended
    CHECK ((status IN ('queued', 'in_progress')) = (completed_at IS NULL)),
  ADD CONSTRAINT ck_verifications_outcome_when_completed CHECK ((status = 'completed') = (outcome IS NOT NULL)),
  ADD CONSTRAINT ck_verifications_result_when_completed CHECK ((status = 'completed') = (result_sealed IS NOT NULL)),
  ADD CONSTRAINT ck_verifications_failure_when_failed CHECK ((status = 'failed') = (failure_code IS NOT NULL)),
  ADD CONSTRAINT ck_verifications_status
    CHECK (status IN ('queued', 'in_progress', 'completed', 'failed', 'canceled')),
  ADD CONSTRAINT ck_verifications_waiting_for
    CHECK (waiting_for IN ('vendor', 'vendor_retry', 'rate_limit', 'circuit', 'hold', 'operator'));
CREATE INDEX ix_verifications_followers ON verifications (follows) WHERE follows IS NOT NULL;
CREATE INDEX ix_verifications_held_back ON verifications (vendor, mode) WHERE waiting_for IN ('hold', 'circuit');
CREATE INDEX ix_verifications_due ON verifications (next_check_at) WHERE status IN ('queued', 'in_progress');
CREATE INDEX ix_verifications_deadline ON verifications (deadline) WHERE status IN ('queued', 'in_progress');
CREATE TABLE exchanges (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  verification_id text NOT NULL REFERENCES verifications (id) ON DELETE CASCADE,
  position int NOT NULL, public_id text NOT NULL, attempt_id text NOT NULL, at timestamptz NOT NULL, call text NOT NULL,
  status smallint NOT NULL, content_type text, content_sealed bytea NOT NULL,
  CONSTRAINT uq_exchanges_verification_id_position UNIQUE (verification_id, position)
);
CREATE TABLE timeline (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  verification_id text NOT NULL REFERENCES verifications (id) ON DELETE CASCADE,
  at timestamptz NOT NULL DEFAULT clock_timestamp(), type text NOT NULL, attempt_id text, vendor text,
  message text NOT NULL, waiting_for text, next_check_at timestamptz
);
CREATE INDEX ix_timeline_verification_id ON timeline (verification_id);
"""


def upgrade() -> None:
    for script in (_CREATE, _CARRY_OVER, _SHAPE, _NO_PGQUEUER):
        _run(script)


def downgrade() -> None:
    """Only of a database without verifications: older code cannot open what was compressed before it was sealed."""
    if op.get_bind().scalar(text("SELECT EXISTS (SELECT FROM verifications)")):
        raise RuntimeError("this database holds verifications that older code cannot read: restore a backup instead")
    _run(_BACK)


def _run(script: str) -> None:
    """One statement after the other: asyncpg prepares each."""
    for statement in _split(script):
        op.execute(text(statement.replace(":", "\\:")))


def _split(script: str) -> list[str]:
    """At each semicolon that ends a line, those between `$$` left alone."""
    statements, current, quoted = [], "", False
    for line in script.splitlines(keepends=True):
        current += line
        quoted ^= line.count("$$") % 2 == 1
        if line.rstrip().endswith(";") and not quoted:
            statements.append(current.strip().removesuffix(";"))
            current = ""
    return statements
