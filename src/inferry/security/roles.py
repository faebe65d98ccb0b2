"""Roles: the built-in ones, the rules for names and descriptors, and how a descriptor is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from inferry.errors import IllegalArgument, InvalidRequest
from inferry.records import RoleDescriptor
from inferry.security.privileges import resolve

SUPERUSER = "superuser"
MAX_NAME_LENGTH = 507
_NAME = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def _built_in(*cluster: str) -> RoleDescriptor:
    return RoleDescriptor(cluster=list(cluster), metadata={"_reserved": True})


BUILT_IN_ROLES: Mapping[str, RoleDescriptor] = MappingProxyType(
    {
        "inference_admin": _built_in("manage_inference"),
        "inference_user": _built_in("monitor_inference"),
        "machine_learning_admin": _built_in("manage_ml"),
        "machine_learning_user": _built_in("monitor_ml"),
        "remote_monitoring_collector": _built_in("monitor"),
        SUPERUSER: _built_in("all"),
    }
)


def check_new_role(name: str, descriptor: RoleDescriptor) -> None:
    """Refuse a role that cannot be stored. Raises `BadRequest`."""
    problems = name_problems("Role", name)
    if name in BUILT_IN_ROLES:
        problems.append(f"Role [{name}] is reserved and may not be used.")
    problems += metadata_problems(descriptor.metadata)
    if problems:
        raise InvalidRequest.of(problems)
    check_descriptor(descriptor)


def check_descriptor(descriptor: RoleDescriptor) -> None:
    """Refuse unknown cluster privileges. Raises `IllegalArgument`."""
    for privilege in descriptor.cluster:
        resolve(privilege)


def check_role_removal(name: str) -> None:
    """Refuse to remove a built-in role. Raises `IllegalArgument`."""
    if name in BUILT_IN_ROLES:
        raise IllegalArgument(f"role [{name}] is reserved and cannot be deleted")


def name_problems(kind: str, name: str) -> list[str]:
    """Say what is wrong with the name of a user or role (`kind`: `User` or `Role`)."""
    if len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name):
        return []
    return [
        f"{kind} names must be at least [1] and no more than [{MAX_NAME_LENGTH}] characters. "
        "They can contain alphanumeric characters (a-z, A-Z, 0-9), spaces, punctuation, and "
        "printable symbols in the Basic Latin (ASCII) block. Leading or trailing whitespace is "
        "not allowed."
    ]


def metadata_problems(metadata: Mapping[str, object]) -> list[str]:
    """Say what is wrong with metadata: names with a leading `_` are the server's."""
    if any(key.startswith("_") for key in metadata):
        return ["metadata keys may not start with [_]"]
    return []


def cluster_privileges(descriptors: Iterable[RoleDescriptor]) -> list[str]:
    """Give the cluster privileges of all `descriptors` together."""
    return [privilege for descriptor in descriptors for privilege in descriptor.cluster]
