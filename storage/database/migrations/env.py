"""Alembic's entry: runs the migrations on the connection that `storage.database.engine.migrate` opened."""

from __future__ import annotations

from alembic import context

from storage.database import account_tables, environment_tables, log_tables, tables

for table in (account_tables.account, environment_tables.environment, log_tables.environment_log):
    assert table.metadata is tables.metadata, "all families of tables are one schema"
context.configure(
    connection=context.config.attributes["connection"], target_metadata=tables.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
