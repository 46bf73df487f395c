"""The row of a delivery becomes its queue: what is due keeps its place; the last try stands in the delivery itself."""

from __future__ import annotations

from alembic import op

revision = "deliveries"
down_revision = "work"
branch_labels = None
depends_on = None
compatible_with = ()
"""None: older code leaves its deliveries to a queue that is gone."""

_UP = """
ALTER TABLE deliveries ADD COLUMN due_at timestamptz, ADD COLUMN last_at timestamptz, ADD COLUMN last_status smallint,
  ADD COLUMN last_duration_ms int, ADD COLUMN last_error text, ADD COLUMN last_answer_sealed bytea, DROP COLUMN postponed;
UPDATE deliveries SET due_at = next_attempt_at WHERE status = 'pending';
UPDATE deliveries d SET last_at = a.at, last_status = a.status, last_duration_ms = a.duration_ms, last_error = a.error,
  last_answer_sealed = a.answer_sealed
FROM (SELECT DISTINCT ON (delivery_id) * FROM delivery_attempts ORDER BY delivery_id, id DESC) AS a WHERE a.delivery_id = d.id;
DELETE FROM delivery_attempts a USING deliveries d WHERE d.id = a.delivery_id AND d.status = 'delivered'
  AND a.id = (SELECT max(o.id) FROM delivery_attempts o WHERE o.delivery_id = d.id);
ALTER TABLE deliveries DROP CONSTRAINT ck_deliveries_watched_while_pending, ADD CONSTRAINT ck_deliveries_watched_while_pending
  CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL AND due_at IS NOT NULL));
DROP INDEX ix_deliveries_due;
CREATE INDEX ix_deliveries_due ON deliveries (endpoint_id, due_at) WHERE status = 'pending';
COMMENT ON COLUMN deliveries.step IS 'grows with every claim and rescheduling';
COMMENT ON COLUMN deliveries.slow IS 'its last try took long';
COMMENT ON COLUMN deliveries.due_at IS 'next_attempt_at, or while it is worked on the end of the lease';
COMMENT ON COLUMN deliveries.last_at IS 'the last try, of which the failed ones are also in delivery_attempts';
COMMENT ON COLUMN deliveries.last_answer_sealed IS 'the first 2 KB of what the partner answered'
"""
_DOWN = """
INSERT INTO delivery_attempts (delivery_id, at, status, duration_ms, error, answer_sealed)
SELECT id, last_at, last_status, last_duration_ms, last_error, last_answer_sealed FROM deliveries
WHERE status = 'delivered' AND last_at IS NOT NULL ORDER BY last_at;
DROP INDEX ix_deliveries_due;
CREATE INDEX ix_deliveries_due ON deliveries (next_attempt_at) WHERE status = 'pending';
ALTER TABLE deliveries DROP CONSTRAINT ck_deliveries_watched_while_pending;
ALTER TABLE deliveries DROP COLUMN due_at, DROP COLUMN last_at, DROP COLUMN last_status, DROP COLUMN last_duration_ms,
  DROP COLUMN last_error, DROP COLUMN last_answer_sealed, ADD COLUMN postponed int NOT NULL DEFAULT 0,
  ADD CONSTRAINT ck_deliveries_watched_while_pending CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL));
COMMENT ON COLUMN deliveries.step IS 'fences rescheduling, as verifications.step';
COMMENT ON COLUMN deliveries.slow IS 'its last try timed out: the slow group';
COMMENT ON COLUMN deliveries.postponed IS 'since then, for lack of a place';
"""


def upgrade() -> None:
    _run(_UP)


def downgrade() -> None:
    _run(_DOWN)


def _run(script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            op.execute(statement)
