"""Two roles of PostgreSQL: the owner of the tables, for `covergate migrate`, and the runtime role, for API and workers.

The runtime role reads and writes rows. It cannot change or delete what is append-only, the audit above all, nor make, change
or drop a table: so new partitions are made by `covergate migrate`.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from covergate.db.sql import Query
from covergate.db.tables import APPEND_ONLY, metadata
from covergate.errors import ConfigurationError

READ_ONLY = "alembic_version"
POSITIONS = ("events_position_seq", "audit_events_position_seq")
"""Drawn from, and read, by name; the other sequences are their tables' own affair."""
REST = "history_rest"
"""The default partition, of which a worker deletes old rows by name. Rows of the others are reached through `history`."""

_EXISTS = Query("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)", role="text")
_MAY_REWRITE = Query(
    """
SELECT coalesce(bool_or(has_table_privilege(name, 'UPDATE') OR has_table_privilege(name, 'DELETE')), false)
FROM unnest(:tables) AS t(name)""",
    tables="text[]",
)


def append_only() -> list[str]:
    return [table.name for table in metadata.sorted_tables if table.info.get(APPEND_ONLY)]


async def grant(connection: AsyncConnection, role: str) -> None:
    """May be run any number of times. Raises ConfigurationError if there is no such role."""
    if not await _EXISTS.scalar(connection, {"role": role}):
        raise ConfigurationError(
            f"COVERGATE_RUNTIME_ROLE: the database has no role {role}; CREATE ROLE {role} LOGIN PASSWORD '…' makes it"
        )
    kept = append_only()
    changed = [*(table.name for table in metadata.sorted_tables if table.name not in kept), REST]
    everything = ", ".join([*changed, *kept])
    for statement in (
        f"REVOKE ALL ON {everything}, {READ_ONLY} FROM {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(changed)} TO {role}",
        f"GRANT SELECT, INSERT ON {', '.join(kept)} TO {role}",
        f"GRANT SELECT ON {READ_ONLY} TO {role}",
        f"GRANT USAGE, SELECT ON SEQUENCE {', '.join(POSITIONS)} TO {role}",
    ):
        await connection.execute(text(statement))


async def may_rewrite(connection: AsyncConnection) -> bool:
    """Whether this session's role could change or delete what is append-only."""
    return bool(await _MAY_REWRITE.scalar(connection, {"tables": append_only()}))
