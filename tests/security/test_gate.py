"""Who enters, and in which words the others are refused."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from inferry.commands import (
    DeleteUser,
    InvalidateApiKeys,
    KeyCriteria,
    PutRole,
    PutUser,
    SetPassword,
    SetUserEnabled,
)
from inferry.concurrency import run_all
from inferry.errors import NotAuthenticated, NotAuthorized
from inferry.records import RoleDescriptor
from inferry.security import gate as gate_module
from inferry.security import users
from inferry.security.api_keys import Secret
from inferry.security.gate import Principal
from inferry.security.open_gate import OpenGate

URI = "/_inference/_all?pretty"
ADDRESS = "192.0.2.1"
GET = "cluster:monitor/xpack/inference/get"
PUT = "cluster:admin/xpack/inference/put"
REFUSAL = (
    "unable to authenticate with provided credentials and anonymous access is not allowed for "
    "this request"
)


def basic(username: str, password: str = "s3cret-pass") -> dict[str, str]:
    return authorization("Basic", base64.b64encode(f"{username}:{password}".encode()).decode())


def authorization(scheme: str, content: str) -> dict[str, str]:
    return {"authorization": f"{scheme} {content}"}


async def enter(house, headers: dict[str, str]) -> Principal:
    principal: Principal = await house.gate.authenticate(headers, URI, address=ADDRESS)
    return principal


async def refusal(house, headers: dict[str, str]) -> NotAuthenticated:
    with pytest.raises(NotAuthenticated) as refused:
        await enter(house, headers)
    return refused.value


async def test_without_credentials_the_uri_is_named(house):
    error = await refusal(house, {})

    assert str(error) == f"missing authentication credentials for REST request [{URI}]"
    assert error.detail is None


async def test_a_user_enters_with_name_and_password(house):
    await house.add_user("ann", "inference_user", password="pass:with:colons é")

    principal = await enter(house, basic("ann", "pass:with:colons é"))

    assert principal == Principal("ann", roles=("inference_user",))


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
async def test_the_name_of_the_scheme_is_case_insensitive(house, scheme):
    await house.add_user("ann")
    content = basic("ann")["authorization"].split()[1]

    assert (await enter(house, authorization(scheme, content))).username == "ann"


@pytest.mark.parametrize(("user", "password"), [("ann", "wrong-pass"), ("bob", "s3cret-pass")])
async def test_a_wrong_password_and_an_unknown_user_get_the_same_words(house, user, password):
    await house.add_user("ann")

    error = await refusal(house, basic(user, password))

    assert str(error) == f"unable to authenticate user [{user}] for REST request [{URI}]"
    assert error.detail is None


async def test_a_disabled_user_is_refused_as_one_with_a_wrong_password(house):
    await house.add_user("ann")
    await enter(house, basic("ann"))

    await house.writer.set_user_enabled(SetUserEnabled("ann", enabled=False))

    error = await refusal(house, basic("ann"))
    assert str(error) == f"unable to authenticate user [ann] for REST request [{URI}]"
    await house.writer.set_user_enabled(SetUserEnabled("ann", enabled=True))
    await enter(house, basic("ann"))


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!!", "Basic YW5u", "Basic //8=", "Digest x", "Bearer opaque", "é"],
)
async def test_what_cannot_be_read_is_refused(house, header):
    error = await refusal(house, {"authorization": header})

    assert str(error) == REFUSAL
    assert error.detail is None


async def test_a_verified_login_is_remembered(house, monkeypatch):
    await house.add_user("ann")
    await enter(house, basic("ann"))
    monkeypatch.setattr(users, "_is_of", lambda *_: pytest.fail("checked again"))

    assert (await enter(house, basic("ann"))).username == "ann"


async def test_the_password_is_not_kept_in_memory(house):
    await house.add_user("ann")
    headers = basic("ann")
    await enter(house, headers)

    kept = repr(house.gate._logins)

    assert "s3cret-pass" not in kept
    assert headers["authorization"] not in kept


async def test_logins_of_many_connections_cost_few_hashes(house, monkeypatch):
    await house.add_user("ann")
    checks = []
    real = users._is_of

    def count(*given):
        checks.append(given)
        return real(*given)

    monkeypatch.setattr(users, "_is_of", count)

    await run_all(enter(house, basic("ann")) for _ in range(20))

    assert len(checks) <= 2


async def test_a_changed_password_is_in_force_at_once(house):
    await house.add_user("ann")
    await enter(house, basic("ann"))

    await house.writer.set_password(SetPassword("ann", "another-pass"))

    await refusal(house, basic("ann"))
    await enter(house, basic("ann", "another-pass"))


async def test_a_removed_user_is_refused_at_once(house):
    await house.add_user("ann")
    await enter(house, basic("ann"))

    await house.writer.delete_user(DeleteUser("ann"))

    await refusal(house, basic("ann"))


async def test_a_password_changed_while_it_is_checked_is_checked_anew(house, monkeypatch):
    await house.add_user("ann")
    real = house.passwords.verify

    async def verify_slowly(password, user, *, is_known):
        right = await real(password, user, is_known=is_known)
        monkeypatch.setattr(house.passwords, "verify", real)
        await house.writer.set_password(SetPassword("ann", "another-pass"))
        return right

    monkeypatch.setattr(house.passwords, "verify", verify_slowly)

    await refusal(house, basic("ann"))


async def test_new_roles_of_a_user_are_in_force_at_once(house):
    await house.add_user("ann", "inference_user")
    await enter(house, basic("ann"))

    await house.writer.put_user(PutUser("ann", ["inference_admin"]))

    principal = await enter(house, basic("ann"))
    house.gate.authorize(principal, PUT)


async def test_a_changed_role_is_in_force_at_once(house):
    await house.add_role("reader", "monitor_inference")
    await house.add_user("ann", "reader", "missing")
    before = await enter(house, basic("ann"))
    house.gate.authorize(before, GET)
    assert before.missing_roles == ("missing",)

    await house.writer.put_role(PutRole("reader", RoleDescriptor()))
    await house.add_role("missing", "manage_inference")

    after = await enter(house, basic("ann"))
    assert (after.roles, after.missing_roles) == (("missing", "reader"), ())
    house.gate.authorize(after, PUT)


@pytest.mark.parametrize("scheme", ["ApiKey", "apikey", "Bearer"])
async def test_an_api_key_enters_for_its_owner(house, scheme):
    await house.add_user("ann", "inference_user")
    encoded = await house.add_key("ann", name="ingest")

    principal = await enter(house, authorization(scheme, encoded))

    assert principal == Principal(
        "ann",
        kind="api_key",
        api_key_id=house.id_of(encoded),
        api_key_name="ingest",
    )
    house.gate.authorize(principal, GET)
    assert await enter(house, authorization(scheme, encoded)) is principal


async def test_an_unknown_key_is_refused_by_its_id(house):
    error = await refusal(house, authorization("ApiKey", Secret("nobody", "x").encoded))

    assert str(error) == REFUSAL
    assert error.detail == "API key: unable to find apikey with id nobody"


async def test_a_wrong_secret_is_refused(house):
    await house.add_user("ann")
    encoded = await house.add_key("ann")
    key_id = house.id_of(encoded)

    error = await refusal(house, authorization("ApiKey", Secret(key_id, "wrong").encoded))

    assert str(error) == REFUSAL
    assert error.detail == f"API key: invalid credentials for API key [{key_id}]"


async def test_what_is_no_key_is_refused_without_repeating_it(house):
    error = await refusal(house, authorization("ApiKey", "my-plain-secret"))

    assert error.detail == "API key: the credentials are not an encoded API key"


async def test_a_key_that_expires_is_refused_from_then_on(house):
    await house.add_user("ann")
    headers = authorization("ApiKey", await house.add_key("ann", expiration="1h"))
    await enter(house, headers)

    house.clock.now_s += 3600

    for _ in range(2):  # remembered, and seen for the first time
        error = await refusal(house, headers)
        assert str(error) == REFUSAL
        assert error.detail == "API key: api key is expired"


async def test_a_key_that_is_invalidated_is_refused_at_once(house):
    await house.add_user("ann")
    encoded = await house.add_key("ann")
    key_id = house.id_of(encoded)
    await enter(house, authorization("ApiKey", encoded))

    await house.writer.invalidate_api_keys(InvalidateApiKeys(KeyCriteria(ids=[key_id])))

    error = await refusal(house, authorization("ApiKey", encoded))
    assert str(error) == REFUSAL
    assert error.detail == f"API key: api key [{key_id}] has been invalidated"


async def test_whoever_does_not_know_the_secret_does_not_learn_that_a_key_ended(house):
    await house.add_user("ann")
    key_id = house.id_of(await house.add_key("ann", expiration="1s"))
    house.clock.now_s += 10

    error = await refusal(house, authorization("ApiKey", Secret(key_id, "guess").encoded))

    assert error.detail == f"API key: invalid credentials for API key [{key_id}]"


async def test_no_more_logins_are_remembered_than_the_limit(house, monkeypatch):
    monkeypatch.setattr(gate_module, "MAX_REMEMBERED", 3)
    await house.add_user("ann")
    keys = [await house.add_key("ann") for _ in range(5)]

    for encoded in keys * 2:
        await enter(house, authorization("ApiKey", encoded))

    assert len(house.gate._logins) == 3


async def test_a_remembered_key_enters_without_waiting_for_anything(house):
    await house.add_user("ann")
    headers = authorization("ApiKey", await house.add_key("ann"))
    await enter(house, headers)

    entering = house.gate.authenticate(headers, URI, address=ADDRESS)

    with pytest.raises(StopIteration):
        entering.send(None)


# --- what a connection repeats -------------------------------------------------------------------


async def end_key(house, encoded):
    keys = KeyCriteria(ids=[house.id_of(encoded)])
    await house.writer.invalidate_api_keys(InvalidateApiKeys(keys))


async def let_it_expire(house, encoded):
    house.clock.now_s += 3600


async def test_a_key_that_was_recalled_holds_until_something_changes(house):
    await house.add_user("ann")
    headers = authorization("ApiKey", await house.add_key("ann", expiration="1h"))
    await enter(house, headers)

    login = house.gate.recall(headers)
    assert house.gate.holds(login)
    await house.add_role("another", "monitor")

    assert not house.gate.holds(login)
    again = house.gate.recall(headers)
    assert house.gate.holds(again)
    assert again.principal is login.principal


@pytest.mark.parametrize("end", [end_key, let_it_expire])
async def test_a_key_that_has_ended_holds_no_longer(house, end):
    await house.add_user("ann")
    encoded = await house.add_key("ann", expiration="1h")
    headers = authorization("ApiKey", encoded)
    await enter(house, headers)
    login = house.gate.recall(headers)

    await end(house, encoded)

    assert not house.gate.holds(login)
    assert house.gate.recall(headers) is None


async def test_a_user_who_loses_a_role_is_somebody_else_from_then_on(house):
    await house.add_role("reader", "monitor_inference")
    await house.add_user("ann", "reader")
    await enter(house, basic("ann"))
    login = house.gate.recall(basic("ann"))
    house.gate.authorize(login.principal, GET)

    await house.add_role("reader", "none")

    assert not house.gate.holds(login)
    with pytest.raises(NotAuthorized):
        house.gate.authorize(house.gate.recall(basic("ann")).principal, GET)


# --- refusals of actions -------------------------------------------------------------------------


def unauthorized(house, principal: Principal, action: str = PUT) -> str:
    with pytest.raises(NotAuthorized) as refused:
        house.gate.authorize(principal, action)
    return str(refused.value)


async def test_a_refusal_names_the_user_the_roles_and_what_would_allow_it(house):
    await house.add_user("bob", "inference_user")

    message = unauthorized(house, await enter(house, basic("bob")))

    assert message == (
        "action [cluster:admin/xpack/inference/put] is unauthorized for user [bob] with effective "
        "roles [inference_user], this action is granted by the cluster privileges "
        "[manage_inference,manage,all]"
    )


async def test_roles_in_a_refusal_are_sorted_and_missing_ones_named(house):
    await house.add_user("bob", "remote_monitoring_collector", "inference_user", "z", "gone")

    message = unauthorized(house, await enter(house, basic("bob")))

    assert (
        "for user [bob] with effective roles [inference_user,remote_monitoring_collector] "
        "(assigned roles [gone,z] were not found), this action"
    ) in message


async def test_a_user_without_roles_has_none_in_the_refusal(house):
    await house.add_user("bob")

    message = unauthorized(house, await enter(house, basic("bob")), GET)

    assert message == (
        f"action [{GET}] is unauthorized for user [bob] with effective roles [], this action is "
        "granted by the cluster privileges [monitor_inference,manage_inference,monitor,manage,all]"
    )


async def test_a_refused_key_is_named_without_roles(house):
    await house.add_user("ann", "superuser")
    encoded = await house.add_key("ann", "monitor_inference")
    key_id = house.id_of(encoded)

    principal = await enter(house, authorization("ApiKey", encoded))

    house.gate.authorize(principal, GET)
    assert unauthorized(house, principal) == (
        f"action [{PUT}] is unauthorized for API key id [{key_id}] of user [ann], this action is "
        "granted by the cluster privileges [manage_inference,manage,all]"
    )


async def test_the_privilege_for_own_keys_does_not_reach_those_of_others(house):
    await house.add_role("own", "manage_own_api_key")
    await house.add_user("ann", "own")
    principal = await enter(house, basic("ann"))
    action = "cluster:admin/xpack/security/api_key/get"

    house.gate.authorize(principal, action)

    with pytest.raises(NotAuthorized, match=r"action \[.*api_key/get\] is unauthorized for user"):
        house.gate.authorize_others(principal, action)


async def test_a_key_keeps_the_rights_its_owner_had_when_it_was_made(house):
    await house.add_user("ann", "inference_admin")
    headers = authorization("ApiKey", await house.add_key("ann"))

    await house.writer.put_user(PutUser("ann", []))

    house.gate.authorize(await enter(house, headers), PUT)


async def test_a_principal_that_did_not_pass_the_gate_may_nothing(house):
    unauthorized(house, Principal("somebody", roles=("superuser",)))


async def test_the_open_gate_lets_everyone_do_everything():
    gate = OpenGate()

    principal = await gate.authenticate({"authorization": "nonsense"}, URI, address=ADDRESS)

    assert principal.kind == "anonymous"
    gate.authorize(principal, PUT)
    assert principal.rights.allow("cluster:admin/xpack/security/user/put")


def test_the_gate_loads_no_heavy_package():
    program = (
        "import sys, inferry.security.gate; "
        "print({'argon2', 'cryptography', 'numpy', 'sqlalchemy'} & set(sys.modules))"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert result.stdout == "set()\n"
