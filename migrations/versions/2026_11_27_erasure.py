"""What is sealed can be erased: by age (each tenant's days), of a patient, of a tenant. The SSN leaves when it was submitted."""

from __future__ import annotations

from alembic import op

revision = "erasure"
down_revision = "vendor_accounts"
branch_labels = None
depends_on = None
compatible_with = ("vendor_accounts",)
"""Older code goes on working: for what it accepts, `holds_ssn` is true, and the SSN leaves by the hand of newer workers."""

_UP = """
ALTER TABLE tenants ADD COLUMN raw_days int, ADD COLUMN content_days int, ADD COLUMN erased_at timestamptz,
  ADD CONSTRAINT ck_tenants_raw_days CHECK (raw_days >= 0), ADD CONSTRAINT ck_tenants_content_days CHECK (content_days >= 0);
ALTER TABLE verifications ALTER COLUMN inquiry_sealed DROP NOT NULL, ADD COLUMN raw_erased_at timestamptz,
  ADD COLUMN erased_at timestamptz;
ALTER TABLE work ADD COLUMN holds_ssn boolean NOT NULL DEFAULT true;
ALTER TABLE webhook_endpoints ALTER COLUMN secret_sealed DROP NOT NULL;
CREATE INDEX ix_verifications_raw_held ON verifications (tenant_id, created_at) WHERE raw_erased_at IS NULL;
CREATE INDEX ix_verifications_held ON verifications (tenant_id, created_at) WHERE erased_at IS NULL;
CREATE INDEX ix_vendor_events_of ON vendor_events (verification_id) WHERE verification_id IS NOT NULL;
CREATE INDEX ix_events_of ON events (verification_id) WHERE verification_id IS NOT NULL;
COMMENT ON COLUMN tenants.raw_days
  IS 'days that raw replies are kept; 0: for ever; NULL: as the gateway''s settings say';
COMMENT ON COLUMN tenants.content_days IS 'days that inquiries and results are kept; 0 and NULL likewise';
COMMENT ON COLUMN tenants.erased_at IS 'when the erasure of all that it had began';
COMMENT ON COLUMN verifications.inquiry_sealed IS 'inquiry, vendor options, payer codes; NULL once it was erased';
COMMENT ON COLUMN verifications.raw_erased_at IS 'when the vendor''s raw replies were erased';
COMMENT ON COLUMN verifications.erased_at IS 'when everything that tells of the patient was';
COMMENT ON COLUMN work.holds_ssn IS 'an SSN may be in the sealed inquiry; it leaves when nothing more can be submitted';
COMMENT ON COLUMN webhook_endpoints.secret_sealed IS 'NULL once its tenant was erased';
COMMENT ON COLUMN history.contents_sealed
  IS 'of the same exchanges; the associated data has their ids; NULL once they were erased'
"""
_DOWN = """
DROP INDEX ix_events_of;
DROP INDEX ix_vendor_events_of;
DROP INDEX ix_verifications_held;
DROP INDEX ix_verifications_raw_held;
ALTER TABLE work DROP COLUMN holds_ssn;
DELETE FROM webhook_endpoints WHERE secret_sealed IS NULL;
ALTER TABLE webhook_endpoints ALTER COLUMN secret_sealed SET NOT NULL;
COMMENT ON COLUMN webhook_endpoints.secret_sealed IS NULL;
DELETE FROM verifications WHERE inquiry_sealed IS NULL;
ALTER TABLE verifications ALTER COLUMN inquiry_sealed SET NOT NULL, DROP COLUMN raw_erased_at, DROP COLUMN erased_at;
ALTER TABLE tenants DROP COLUMN raw_days, DROP COLUMN content_days, DROP COLUMN erased_at;
COMMENT ON COLUMN verifications.inquiry_sealed IS 'inquiry, vendor options, payer codes';
COMMENT ON COLUMN history.contents_sealed IS 'of the same exchanges; the associated data has their ids'
"""


def upgrade() -> None:
    _run(_UP)


def downgrade() -> None:
    """What was erased cannot come back: those verifications are deleted, for older code cannot read them."""
    _run(_DOWN)


def _run(script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            op.execute(statement)
