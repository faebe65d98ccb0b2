"""Brings a database to the tables of this version, and refuses one that is not ours."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from inferry.errors import StoreFailure

HEAD = "0003"
"""The newest script below `migrations/versions`; a test holds them against each other."""

_VERSION_TABLE = "alembic_version"


def migrate(connection: Connection) -> None:
    """Create or upgrade the tables, inside the caller's transaction.

    A database that is already at `HEAD` costs one query and does not import Alembic. Raises
    `StoreFailure` for a database of something else, or of a newer version of ours.
    """
    found = _version(connection)
    if found == HEAD:
        return
    if found is not None and found not in _known_versions():
        raise StoreFailure(
            f"the store is at version [{found}], newer than [{HEAD}] that this inferry knows; "
            "start the version that wrote it, or a newer one"
        )
    _upgrade(connection)


def _version(connection: Connection) -> str | None:
    tables = inspect(connection).get_table_names()
    if _VERSION_TABLE in tables and "meta" in tables:
        version = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
        return None if version is None else str(version)
    if tables:
        raise StoreFailure(
            f"the store is a database of something else, with the tables {sorted(tables)[:5]}; "
            "choose another file or database"
        )
    return None


def _known_versions() -> set[str]:
    return {path.name.split("_")[0] for path in (_scripts() / "versions").glob("[0-9]*.py")}


def _scripts() -> Path:
    return Path(__file__).parent / "migrations"


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
