"""Built-in roles, and the rules for new ones."""

from __future__ import annotations

import pytest

from inferry.errors import IllegalArgument, InvalidRequest
from inferry.records import RoleDescriptor
from inferry.security.roles import BUILT_IN_ROLES, check_new_role, check_role_removal


def test_the_built_in_roles_hold_the_privileges_of_their_names():
    held = {name: role.cluster for name, role in BUILT_IN_ROLES.items()}

    assert held == {
        "inference_admin": ["manage_inference"],
        "inference_user": ["monitor_inference"],
        "machine_learning_admin": ["manage_ml"],
        "machine_learning_user": ["monitor_ml"],
        "remote_monitoring_collector": ["monitor"],
        "superuser": ["all"],
    }


@pytest.mark.parametrize("name", BUILT_IN_ROLES)
def test_a_built_in_role_can_neither_be_replaced_nor_removed(name):
    with pytest.raises(InvalidRequest, match=rf"Role \[{name}\] is reserved"):
        check_new_role(name, RoleDescriptor())
    with pytest.raises(IllegalArgument, match=rf"role \[{name}\] is reserved and cannot"):
        check_role_removal(name)


@pytest.mark.parametrize("name", ["", " a", "a ", "a\tb", "é", "a" * 508])
def test_a_role_name_is_printable_ascii_without_blanks_at_its_ends(name):
    with pytest.raises(InvalidRequest, match="Role names must be at least"):
        check_new_role(name, RoleDescriptor())


@pytest.mark.parametrize("name", ["a", "my role", "a.b-c_d!", "a" * 507])
def test_a_proper_role_name_is_taken(name):
    check_new_role(name, RoleDescriptor(cluster=["monitor"]))


def test_an_unknown_privilege_is_refused():
    with pytest.raises(IllegalArgument, match=r"unknown cluster privilege \[fly\]"):
        check_new_role("pilot", RoleDescriptor(cluster=["monitor", "fly"]))


def test_metadata_that_begins_with_an_underscore_is_refused():
    with pytest.raises(InvalidRequest, match=r"metadata keys may not start with \[_\]"):
        check_new_role("a", RoleDescriptor(metadata={"_reserved": True}))
