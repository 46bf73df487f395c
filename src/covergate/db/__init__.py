"""PostgreSQL: the tables, the engine, the embedded server and the encrypted columns."""
