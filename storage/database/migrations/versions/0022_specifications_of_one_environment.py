"""specifications belong to one environment; why a scheduled solve failed; the primary namespace of a token"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

NAME = sa.String(length=255).with_variant(sa.String(length=255, collation="C"), "postgresql")
KEPT: dict[str, Any] = {"sqlite_autoincrement": True}
"""What SQLite forgets when a table is written anew."""

USES = """
SELECT specification, environment, min(scheduled) AS first FROM environment_build
GROUP BY specification, environment ORDER BY specification, environment
"""
COPY = """
INSERT INTO specification (sha256, name, document, request, created, environment)
SELECT sha256, name, document, request, CASE WHEN created > :first THEN created ELSE :first END, :environment
FROM specification WHERE id = :specification RETURNING id
"""


def upgrade() -> None:
    with op.batch_alter_table("specification", table_kwargs=KEPT) as table:
        table.drop_constraint("uq_specification_sha256", type_="unique")
        table.add_column(sa.Column("environment", sa.Integer(), nullable=True))
    _give_each_its_own()
    with op.batch_alter_table("specification", table_kwargs=KEPT) as table:
        table.alter_column("environment", existing_type=sa.Integer(), nullable=False)
        table.create_foreign_key("fk_specification_environment", "environment", ["environment"], ["id"])
        table.create_unique_constraint("uq_specification_environment_sha256", ["environment", "sha256"])
    op.add_column("environment", sa.Column("resolve_error", sa.Text(), nullable=True))
    op.add_column("access_token", sa.Column("primary_namespace", NAME, nullable=True))


def _give_each_its_own() -> None:
    """The first environment of a specification keeps its row, and others get copies, as old as their first build."""
    connection, last = op.get_bind(), None
    for use in connection.execute(sa.text(USES)).mappings().all():
        if use["specification"] != last:
            last = use["specification"]
            connection.execute(sa.text("UPDATE specification SET environment = :environment WHERE id = :specification"),
                               {"environment": use["environment"], "specification": last})  # fmt: skip
            continue
        copy = connection.execute(sa.text(COPY), dict(use)).scalar_one()
        connection.execute(
            sa.text("UPDATE environment_build SET specification = :copy "
                    "WHERE environment = :environment AND specification = :specification"),
            {"copy": copy, "environment": use["environment"], "specification": use["specification"]},
        )  # fmt: skip
    # nothing was ever built of them, or no longer is
    connection.execute(sa.text("DELETE FROM specification WHERE environment IS NULL"))


def downgrade() -> None:
    op.drop_column("access_token", "primary_namespace")
    op.drop_column("environment", "resolve_error")
    first = "(SELECT min(other.id) FROM specification AS other WHERE other.sha256 = specification.sha256)"
    op.execute(
        "UPDATE environment_build SET specification = "  # noqa: S608 - ours
        f"(SELECT {first} FROM specification WHERE specification.id = environment_build.specification)"
    )
    op.execute(f"DELETE FROM specification WHERE id <> {first}")  # noqa: S608 - ours
    with op.batch_alter_table("specification", table_kwargs=KEPT) as table:
        table.drop_constraint("uq_specification_environment_sha256", type_="unique")
        table.drop_constraint("fk_specification_environment", type_="foreignkey")
        table.drop_column("environment")
        table.create_unique_constraint("uq_specification_sha256", ["sha256"])
