"""Where Alembic enters: it runs the scripts of `versions/` on the connection it is given."""

from alembic import context

from inferry.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
