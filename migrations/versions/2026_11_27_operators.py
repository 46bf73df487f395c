"""Operators belong to no tenant: no API key has the scope `operations` any more. Keys get a name, an end, a last use, addresses;
attempts get their tenant, for a tenant's own numbers.

A tenant's numbers begin with this migration: filling the column of old rows would lock the table for as long as that takes.
"""

from __future__ import annotations

from alembic import op

revision = "operators"
down_revision = "data_keys"
branch_labels = None
depends_on = None
compatible_with = ("data_keys",)

_UP = """
CREATE TABLE operators (
  id TEXT NOT NULL,
  name TEXT NOT NULL,
  digest BYTEA NOT NULL,
  hint TEXT NOT NULL,
  roles TEXT[] NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE,
  last_used_at TIMESTAMP WITH TIME ZONE,
  revoked_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_operators PRIMARY KEY (id),
  CONSTRAINT uq_operators_digest UNIQUE (digest)
);
COMMENT ON COLUMN operators.digest IS 'SHA-256 of the credential, which is shown once';
COMMENT ON COLUMN operators.hint IS 'the credential''s last four characters';
COMMENT ON COLUMN operators.last_used_at IS 'at most a minute behind';
ALTER TABLE api_keys ADD COLUMN name TEXT DEFAULT '' NOT NULL, ADD COLUMN allowed_networks TEXT[] DEFAULT '{}' NOT NULL,
  ADD COLUMN expires_at TIMESTAMP WITH TIME ZONE, ADD COLUMN last_used_at TIMESTAMP WITH TIME ZONE;
COMMENT ON COLUMN api_keys.allowed_networks IS 'empty: from anywhere';
COMMENT ON COLUMN api_keys.last_used_at IS 'at most a minute behind';
UPDATE api_keys SET scopes = array_remove(scopes, 'operations') WHERE 'operations' = ANY(scopes);
NOTIFY covergate_keys;
ALTER TABLE attempts ADD COLUMN tenant_id TEXT;
COMMENT ON COLUMN attempts.tenant_id IS 'the verification''s; null in rows from before there was this column';
CREATE INDEX ix_attempts_ended_by_tenant ON attempts (tenant_id, mode, ended_at) WHERE tenant_id IS NOT NULL;
ALTER TABLE webhook_endpoints ADD COLUMN made_by TEXT;
COMMENT ON COLUMN webhook_endpoints.made_by IS 'the API key; null in rows from before there was this column';
ALTER TABLE vendor_standing ADD COLUMN held_by TEXT;
COMMENT ON COLUMN vendor_standing.held_by IS 'the operator';
ALTER TABLE audit_log ALTER COLUMN tenant_id DROP NOT NULL, ADD COLUMN operator_id TEXT, ADD COLUMN subject TEXT;
COMMENT ON COLUMN audit_log.tenant_id IS 'null: an operator''s act on the fleet';
COMMENT ON COLUMN audit_log.subject IS 'of an act on something else than a verification, or how it was decided'
"""
_DOWN = """
UPDATE audit_log SET tenant_id = '' WHERE tenant_id IS NULL;
COMMENT ON COLUMN audit_log.tenant_id IS NULL;
ALTER TABLE audit_log ALTER COLUMN tenant_id SET NOT NULL, DROP COLUMN operator_id, DROP COLUMN subject;
ALTER TABLE vendor_standing DROP COLUMN held_by;
ALTER TABLE webhook_endpoints DROP COLUMN made_by;
DROP INDEX ix_attempts_ended_by_tenant;
ALTER TABLE attempts DROP COLUMN tenant_id;
ALTER TABLE api_keys DROP COLUMN name, DROP COLUMN allowed_networks, DROP COLUMN expires_at, DROP COLUMN last_used_at;
DROP TABLE operators
"""


def upgrade() -> None:
    _run(_UP)


def downgrade() -> None:
    _run(_DOWN)


def _run(script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            op.execute(statement)
