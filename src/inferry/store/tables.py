"""The tables: one per kind of record, each a key, a revision and the record as JSON.

A record's fields are thus free to grow without a migration; sealed secrets have a column of their
own, apart from the configuration.
"""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text

from inferry.records import (
    ApiKeyRecord,
    AssignmentRecord,
    EndpointRecord,
    Record,
    ReferenceRecord,
    RegionPolicyRecord,
    RoleRecord,
    TrainedModelRecord,
    UserRecord,
)

RecordType: TypeAlias = type[Record]

METADATA = MetaData()


def _record_table(name: str, *more: Column[bytes]) -> Table:
    return Table(
        name,
        METADATA,
        Column("key", Text, primary_key=True),
        Column("revision", BigInteger, nullable=False),
        Column("document", Text, nullable=False),
        *more,
    )


ENDPOINTS = _record_table("endpoints", Column("secrets", LargeBinary, nullable=True))
ROLES = _record_table("roles")
USERS = _record_table("users")
API_KEYS = _record_table("api_keys")
REGION_POLICY = _record_table("region_policy")
REFERENCES = _record_table("endpoint_references")
ASSIGNMENTS = _record_table("assignments")
TRAINED_MODELS = _record_table("trained_models")
META = Table(
    "meta",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

TABLES: dict[str, tuple[Table, RecordType]] = {
    "endpoint": (ENDPOINTS, EndpointRecord),
    "role": (ROLES, RoleRecord),
    "user": (USERS, UserRecord),
    "api_key": (API_KEYS, ApiKeyRecord),
    "region_policy": (REGION_POLICY, RegionPolicyRecord),
    "reference": (REFERENCES, ReferenceRecord),
    "assignment": (ASSIGNMENTS, AssignmentRecord),
    "trained_model": (TRAINED_MODELS, TrainedModelRecord),
}
"""By the tag of a record: where it is kept, and what it becomes."""
