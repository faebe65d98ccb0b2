"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KINDS = ("endpoints", "roles", "users", "api_keys", "region_policy", "endpoint_references")


def upgrade() -> None:
    """Make a table per kind of record, and one for single values."""
    for name in _KINDS:
        sealed = [sa.Column("secrets", sa.LargeBinary)] if name == "endpoints" else []
        op.create_table(
            name,
            sa.Column("key", sa.Text, primary_key=True),
            sa.Column("revision", sa.BigInteger, nullable=False),
            sa.Column("document", sa.Text, nullable=False),
            *sealed,
        )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
