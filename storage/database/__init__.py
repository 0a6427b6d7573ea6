"""The database: its engine, tables and migrations, its clock, and leases for work that one process does."""
