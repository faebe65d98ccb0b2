"""Rows 202 to 236 of the wire's checklist: who enters, who may what, and the security calls."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.marks import MARK
from tests.server import ADMIN_PASSWORD, Connection, Reply, Server, basic

CHALLENGES = ['Basic realm="security", charset="UTF-8"', 'Bearer realm="security"', "ApiKey"]
REFUSAL = (
    "unable to authenticate with provided credentials and anonymous access is not allowed for "
    "this request"
)
READERS = "monitor_inference,manage_inference,monitor,manage,all"
WRITERS = "manage_inference,manage,all"
PASSWORD = "s3cret-pass"
ADMIN = basic("elastic", ADMIN_PASSWORD)
DAY_MS = 24 * 3600 * 1000
_NUMBERS = itertools.count()


class Callers:
    """Callers of a server with an endpoint `docs` that embeds, and one `talk` that completes."""

    def __init__(self, server: Server, provider_url: str) -> None:
        self.server = server
        self.provider_url = provider_url

    def call(
        self, method: str, path: str, body: Any = None, *, caller: str | None = ADMIN
    ) -> Reply:
        """Send one request; caller: the `Authorization` header."""
        connection = Connection(self.server.url, caller)
        try:
            return connection.call(method, path, body)
        finally:
            connection.close()

    def add_user(self, *roles: str) -> tuple[str, str]:
        """Make a user and give its name and its `Authorization` header."""
        name = f"user-{next(_NUMBERS)}"
        self.do("PUT", f"/_security/user/{name}", {"password": PASSWORD, "roles": list(roles)})
        return name, basic(name, PASSWORD)

    def add_role(self, *cluster: str) -> str:
        """Make a role and give its name."""
        name = f"role-{next(_NUMBERS)}"
        self.do("PUT", f"/_security/role/{name}", {"cluster": list(cluster)})
        return name

    def add_key(self, caller: str = ADMIN, **body: Any) -> Any:
        """Make an API key and give the answer."""
        return self.do("PUT", "/_security/api_key", {"name": "key", **body}, caller=caller)

    def do(self, method: str, path: str, body: Any = None, *, caller: str = ADMIN) -> Any:
        """Send a request that must succeed and give its answer."""
        reply = self.call(method, path, body, caller=caller)
        assert reply.status == 200, reply.content
        return reply.json

    def endpoint(self, path: str, model: str = "m") -> dict[str, Any]:
        """Define an endpoint of the provider."""
        return {
            "service": "openai",
            "service_settings": {
                "api_key": f"a key, {MARK}",
                "model_id": model,
                "url": f"{self.provider_url}/v1/{path}",
            },
        }


@pytest.fixture(scope="module")
def wire(session_wire) -> Iterator[Callers]:
    """Give the server with its two endpoints."""
    one = Callers(session_wire.server, session_wire.provider.url)
    one.do("PUT", "/_inference/text_embedding/docs", one.endpoint("embeddings"))
    one.do("PUT", "/_inference/completion/talk", one.endpoint("chat/completions"))
    yield one
    for inference_id in ("docs", "talk"):
        one.do("DELETE", f"/_inference/{inference_id}")


def reason(reply: Reply, status: int, kind: str = "security_exception") -> str:
    """Check the envelope of an error and give its reason."""
    document = reply.json
    assert (reply.status, document["status"]) == (status, status), document
    assert document["error"]["root_cause"][0]["type"] == document["error"]["type"] == kind
    assert document["error"]["root_cause"][0]["reason"] == document["error"]["reason"]
    assert reply.headers["x-elastic-product"] == "Elasticsearch"
    if status == 403:
        assert "www-authenticate" not in reply.headers
    return str(document["error"]["reason"])


def unauthorized(action: str, who: str, granted_by: str) -> str:
    return (
        f"action [cluster:{action}] is unauthorized for {who}, this action is granted by the "
        f"cluster privileges [{granted_by}]"
    )


# --- who enters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/_inference/_all?pretty"),
        ("PUT", "/_inference/text_embedding/x"),
        ("GET", "/"),
        ("GET", "/_no/such/path"),
        ("PATCH", "/_inference/x"),
    ],
)
def test_row_202_without_credentials_every_request_is_401_with_three_challenges(wire, method, path):
    reply = wire.call(method, path, caller=None)

    message = f"missing authentication credentials for REST request [{path}]"
    assert reason(reply, 401) == message
    assert reply.json["error"]["header"] == {"WWW-Authenticate": CHALLENGES}
    assert reply.json["error"]["root_cause"][0]["header"] == {"WWW-Authenticate": CHALLENGES}


def test_row_202_the_challenges_are_headers_one_each(wire):
    connection = Connection(wire.server.url, None)
    connection.http.request("GET", "/_inference")

    response = connection.http.getresponse()

    assert response.headers.get_all("WWW-Authenticate") == CHALLENGES
    response.read()
    connection.close()


def test_row_203_a_wrong_password_is_401(wire):
    name, _ = wire.add_user("superuser")

    reply = wire.call("GET", "/_inference/docs?pretty", caller=basic(name, "wrong-pass"))

    message = f"unable to authenticate user [{name}] for REST request [/_inference/docs?pretty]"
    assert reason(reply, 401) == message
    assert reply.json["error"]["header"] == {"WWW-Authenticate": CHALLENGES}


def test_row_204_an_unknown_user_gets_the_same_text_after_comparable_time(wire):
    name, _ = wire.add_user()

    def attempt(username: str) -> tuple[str, float]:
        start = time.perf_counter()
        reply = wire.call("GET", "/_inference", caller=basic(username, "wrong-pass"))
        took_s = time.perf_counter() - start
        return reason(reply, 401).replace(username, "USER"), took_s

    known = [attempt(name) for _ in range(7)]
    unknown = [attempt(f"nobody-{number}") for number in range(7)]

    assert {text for text, _ in known} == {text for text, _ in unknown}
    # Generous: the machine may be busy. Without the hash it would be a hundredth.
    assert min(took_s for _, took_s in unknown) > min(took_s for _, took_s in known) / 3


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("bm9ib2R5OngK", "API key: unable to find apikey with id nobody"),
        ("nonsense!", "API key: the credentials are not an encoded API key"),
    ],
)
def test_row_205_a_bad_api_key_is_401(wire, content, detail):
    reply = wire.call("GET", "/_inference", caller=f"ApiKey {content}")

    assert reason(reply, 401) == REFUSAL
    assert reply.json["error"]["additional_unsuccessful_credentials"] == detail


def test_row_205_a_wrong_secret_is_401(wire):
    key = wire.add_key()
    wrong = base64.b64encode(f"{key['id']}:wrong".encode()).decode()

    assert reason(wire.call("GET", "/", caller=f"ApiKey {wrong}"), 401) == REFUSAL


def test_row_206_an_expired_key_is_401(wire):
    key = wire.add_key(expiration="1ms")

    reply = wire.call("GET", "/_inference", caller=f"ApiKey {key['encoded']}")

    assert reason(reply, 401) == REFUSAL
    detail = reply.json["error"]["additional_unsuccessful_credentials"]
    assert detail == "API key: api key is expired"


def test_row_206_an_invalidated_key_is_401(wire):
    key = wire.add_key()
    caller = f"ApiKey {key['encoded']}"
    assert wire.call("GET", "/_inference", caller=caller).status == 200

    wire.do("DELETE", "/_security/api_key", {"ids": [key["id"]]})

    reply = wire.call("GET", "/_inference", caller=caller)
    assert reason(reply, 401) == REFUSAL
    detail = reply.json["error"]["additional_unsuccessful_credentials"]
    assert detail == f"API key: api key [{key['id']}] has been invalidated"


@pytest.mark.parametrize("scheme", ["ApiKey", "apikey", "APIKEY"])
def test_row_207_a_valid_key_is_200(wire, scheme):
    key = wire.add_key()

    assert wire.call("GET", "/_inference/docs", caller=f"{scheme} {key['encoded']}").status == 200


def test_row_208_an_encoded_key_is_taken_as_a_bearer_token(wire):
    key = wire.add_key()

    assert wire.call("GET", "/_inference/docs", caller=f"Bearer {key['encoded']}").status == 200
    assert reason(wire.call("GET", "/", caller="Bearer opaque"), 401) == REFUSAL


# --- who may what --------------------------------------------------------------------------------

READS = [
    ("GET", "/_inference", None),
    ("GET", "/_inference/docs", None),
    ("GET", "/_inference/text_embedding/docs", None),
    ("GET", "/_inference/_services", None),
    ("GET", "/_inference/_services/completion", None),
    ("POST", "/_inference/docs", {"input": "a"}),
    ("POST", "/_inference/text_embedding/docs", {"input": ["a", "b"]}),
    ("POST", "/_inference/completion/talk/_stream", {"input": "a"}),
]
WRITES = [
    ("PUT", "/_inference/text_embedding/docs", "put"),
    ("PUT", "/_inference/docs/_update", "update"),
    ("DELETE", "/_inference/docs", "delete"),
]


@pytest.mark.parametrize(("method", "path", "body"), READS)
def test_row_209_an_inference_user_may_read_and_run(wire, method, path, body):
    _, caller = wire.add_user("inference_user")

    assert wire.call(method, path, body, caller=caller).status == 200


@pytest.mark.parametrize(("method", "path", "verb"), WRITES)
def test_row_210_an_inference_user_may_not_write(wire, method, path, verb):
    name, caller = wire.add_user("inference_user")

    reply = wire.call(method, path, {}, caller=caller)

    who = f"user [{name}] with effective roles [inference_user]"
    assert reason(reply, 403) == unauthorized(f"admin/xpack/inference/{verb}", who, WRITERS)


def test_row_211_an_inference_admin_may_do_everything_under_inference(wire):
    _, caller = wire.add_user("inference_admin")
    path = f"/_inference/text_embedding/mine-{next(_NUMBERS)}"

    wire.do("PUT", path, wire.endpoint("embeddings"), caller=caller)
    wire.do("PUT", f"{path}/_update", {"service_settings": {"api_key": "new"}}, caller=caller)
    wire.do("POST", path, {"input": "a"}, caller=caller)
    wire.do("DELETE", path, caller=caller)
    for method, read, body in READS:
        assert wire.call(method, read, body, caller=caller).status == 200


@pytest.mark.parametrize(
    ("method", "path", "action", "granted_by"),
    [
        ("GET", "/_inference", "monitor/xpack/inference/get", READERS),
        ("GET", "/_inference/docs", "monitor/xpack/inference/get", READERS),
        ("GET", "/_inference/_services", "monitor/xpack/inference/services/get", READERS),
        ("POST", "/_inference/docs", "monitor/xpack/inference/post", READERS),
        ("PUT", "/_inference/text_embedding/docs", "admin/xpack/inference/put", WRITERS),
        ("PUT", "/_inference/docs/_update", "admin/xpack/inference/update", WRITERS),
        ("DELETE", "/_inference/docs", "admin/xpack/inference/delete", WRITERS),
    ],
)
def test_row_212_without_roles_everything_is_403(wire, method, path, action, granted_by):
    name, caller = wire.add_user()

    reply = wire.call(method, path, {}, caller=caller)

    who = f"user [{name}] with effective roles []"
    assert reason(reply, 403) == unauthorized(action, who, granted_by)


def test_row_213_with_monitor_get_and_post_are_200_and_put_is_403(wire):
    _, caller = wire.add_user(wire.add_role("monitor"))

    assert wire.call("GET", "/_inference/docs", caller=caller).status == 200
    assert wire.call("POST", "/_inference/docs", {"input": "a"}, caller=caller).status == 200
    assert wire.call("PUT", "/_inference/text_embedding/docs", {}, caller=caller).status == 403


def test_row_214_with_manage_endpoints_can_be_written_but_not_users(wire):
    role = wire.add_role("manage")
    name, caller = wire.add_user(role)
    path = f"/_inference/text_embedding/mine-{next(_NUMBERS)}"

    wire.do("PUT", path, wire.endpoint("embeddings"), caller=caller)
    wire.do("DELETE", path, caller=caller)

    reply = wire.call("PUT", "/_security/user/x", {}, caller=caller)
    who = f"user [{name}] with effective roles [{role}]"
    message = unauthorized("admin/xpack/security/user/put", who, "manage_security,all")
    assert reason(reply, 403) == message


def test_row_215_a_raw_action_pattern_allows_what_it_matches(wire):
    _, caller = wire.add_user(wire.add_role("cluster:monitor/xpack/inference/*"))

    assert wire.call("GET", "/_inference/docs", caller=caller).status == 200
    assert wire.call("DELETE", "/_inference/docs", caller=caller).status == 403


def test_row_216_a_key_that_is_limited_may_not_what_its_owner_may(wire):
    key = wire.add_key(role_descriptors={"limit": {"cluster": ["monitor_inference"]}})
    caller = f"ApiKey {key['encoded']}"

    assert wire.call("GET", "/_inference/docs", caller=caller).status == 200
    reply = wire.call("PUT", "/_inference/text_embedding/x", {}, caller=caller)

    who = f"API key id [{key['id']}] of user [elastic]"
    assert reason(reply, 403) == unauthorized("admin/xpack/inference/put", who, WRITERS)


def test_row_217_a_key_that_is_wider_than_its_owner_may_not_what_its_owner_may_not(wire):
    name, owner = wire.add_user(wire.add_role("monitor_inference", "manage_own_api_key"))
    key = wire.add_key(owner, role_descriptors={"wide": {"cluster": ["all"]}})
    caller = f"ApiKey {key['encoded']}"

    assert wire.call("GET", "/_inference/docs", caller=caller).status == 200
    reply = wire.call("PUT", "/_inference/text_embedding/x", {}, caller=caller)

    who = f"API key id [{key['id']}] of user [{name}]"
    assert reason(reply, 403) == unauthorized("admin/xpack/inference/put", who, WRITERS)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/_inference/unknown"),
        ("POST", "/_inference/unknown"),
        ("DELETE", "/_inference/unknown"),
        ("PUT", "/_inference/unknown/_update"),
        ("GET", "/_inference/no_such_task/unknown"),
        ("GET", "/_inference/unknown?no_such_parameter"),
    ],
)
def test_row_218_who_may_nothing_does_not_learn_what_exists(wire, method, path):
    _, caller = wire.add_user()

    assert "is unauthorized for user" in reason(wire.call(method, path, {}, caller=caller), 403)


def test_row_219_a_refused_stream_is_403_as_an_event(wire):
    name, caller = wire.add_user()

    reply = wire.call("POST", "/_inference/completion/talk/_stream", {"input": "a"}, caller=caller)

    assert reply.status == 403
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.content.startswith(b"event: error\ndata: ")
    assert f"is unauthorized for user [{name}]".encode() in reply.content


# --- the security calls --------------------------------------------------------------------------


def test_row_220_a_user_sees_itself(wire):
    name, caller = wire.add_user("inference_user", "unknown")

    native = {"name": "default_native", "type": "native"}
    assert wire.do("GET", "/_security/_authenticate", caller=caller) == {
        "username": name,
        "roles": ["inference_user", "unknown"],
        "full_name": None,
        "email": None,
        "metadata": {},
        "enabled": True,
        "authentication_realm": native,
        "lookup_realm": native,
        "authentication_type": "realm",
    }


def test_row_221_a_key_sees_itself_and_its_owner(wire):
    key = wire.add_key(name="ingest")

    shown = wire.do("GET", "/_security/_authenticate", caller=f"ApiKey {key['encoded']}")

    realm = {"name": "_es_api_key", "type": "_es_api_key"}
    assert (shown["username"], shown["roles"]) == ("elastic", [])
    assert shown["authentication_type"] == "api_key"
    assert shown["authentication_realm"] == shown["lookup_realm"] == realm
    assert shown["api_key"] == {
        "id": key["id"],
        "name": "ingest",
        "managed_by": "elasticsearch",
    }


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_row_222_a_key_is_created_with_its_encoded_form(wire, method):
    before_ms = time.time() * 1000

    key = wire.do(method, "/_security/api_key", {"name": "ingest", "expiration": "1d"})

    assert list(key) == ["id", "name", "expiration", "api_key", "encoded"]
    assert len(key["id"]) == 20
    assert key["name"] == "ingest"
    assert before_ms - 1 <= key["expiration"] - DAY_MS <= time.time() * 1000 + 1
    assert base64.b64decode(key["encoded"]).decode() == f"{key['id']}:{key['api_key']}"


def test_row_222_without_expiration_none_is_answered(wire):
    assert list(wire.add_key()) == ["id", "name", "api_key", "encoded"]


def test_row_223_a_key_needs_a_name(wire):
    reply = wire.call("PUT", "/_security/api_key", {})

    message = "Validation Failed: 1: api key name is required;"
    assert reason(reply, 400, "action_request_validation_exception") == message


def test_row_224_a_key_makes_no_key_that_may_something(wire):
    caller = f"ApiKey {wire.add_key()['encoded']}"

    reply = wire.call("PUT", "/_security/api_key", {"name": "derived"}, caller=caller)

    message = (
        "creating derived api keys requires an explicit role descriptor that is empty "
        "(has no privileges)"
    )
    assert reason(reply, 400, "illegal_argument_exception") == message
    assert wire.add_key(caller, role_descriptors={"none": {}})


def test_row_225_keys_are_listed_without_their_secrets(wire):
    limits = {"limit": {"cluster": ["monitor_inference"]}}
    key = wire.add_key(name="listed", role_descriptors=limits, metadata={"team": "search"})

    reply = wire.call("GET", f"/_security/api_key?id={key['id']}&with_limited_by=true")

    [shown] = reply.json["api_keys"]
    assert key["api_key"].encode() not in reply.content
    limit = {
        "cluster": ["monitor_inference"],
        "indices": [],
        "applications": [],
        "run_as": [],
        "metadata": {},
        "transient_metadata": {"enabled": True},
    }
    superuser = {**limit, "cluster": ["all"], "metadata": {"_reserved": True}}
    assert shown.pop("creation") == pytest.approx(time.time() * 1000, abs=60_000)
    assert shown == {
        "id": key["id"],
        "name": "listed",
        "type": "rest",
        "invalidated": False,
        "username": "elastic",
        "realm": "reserved",
        "realm_type": "reserved",
        "metadata": {"team": "search"},
        "role_descriptors": {"limit": limit},
        "limited_by": [{"superuser": superuser}],
    }


def test_row_225_keys_are_found_by_name_owner_user_and_state(wire):
    name, caller = wire.add_user(wire.add_role("manage_own_api_key"))
    mine = wire.add_key(caller, name=f"{name}-1")["id"]
    ended = wire.add_key(caller, name=f"{name}-2")["id"]
    wire.do("DELETE", "/_security/api_key", {"ids": [ended]})

    def found(query: str, **more: str) -> list[str]:
        answer = wire.do("GET", f"/_security/api_key?{query}", **more)
        return [key["id"] for key in answer["api_keys"]]

    assert found(f"name={name}-*") == [mine, ended]
    assert found(f"name={name}-1") == [mine]
    assert found(f"username={name}&realm_name=default_native") == [mine, ended]
    assert found(f"username={name}&active_only=true") == [mine]
    assert found("owner=true", caller=caller) == [mine, ended]
    assert found(f"username={name}&realm_name=reserved") == []
    shown = wire.do("GET", f"/_security/api_key?id={ended}")["api_keys"][0]
    assert shown["invalidated"] is True
    assert shown["invalidation"] >= shown["creation"]


def test_row_225_an_id_that_matches_none_is_404_with_an_empty_list(wire):
    reply = wire.call("GET", "/_security/api_key?id=unknown")

    assert (reply.status, reply.json) == (404, {"api_keys": []})


def test_row_225_who_manages_own_keys_sees_and_ends_no_others(wire):
    _, caller = wire.add_user(wire.add_role("manage_own_api_key"))
    own, other = wire.add_key(caller)["id"], wire.add_key()["id"]

    for path in ("", f"?id={other}", "?username=elastic", "?name=*"):
        reply = wire.call("GET", f"/_security/api_key{path}", caller=caller)
        assert "action [cluster:admin/xpack/security/api_key/get] is" in reason(reply, 403)
    for body in ({"ids": [own, other]}, {"name": "*"}, {"username": "elastic"}):
        reply = wire.call("DELETE", "/_security/api_key", body, caller=caller)
        assert "action [cluster:admin/xpack/security/api_key/invalidate]" in reason(reply, 403)

    ended = wire.do("DELETE", "/_security/api_key", {"ids": [own]}, caller=caller)
    assert ended["invalidated_api_keys"] == [own]


def test_row_226_keys_end_once(wire):
    key = wire.add_key()
    body = {"ids": [key["id"]]}

    first = wire.do("DELETE", "/_security/api_key", body)
    second = wire.do("DELETE", "/_security/api_key", body)

    ended = {"invalidated_api_keys": [key["id"]], "previously_invalidated_api_keys": []}
    assert first == {**ended, "error_count": 0}
    ended = {"invalidated_api_keys": [], "previously_invalidated_api_keys": [key["id"]]}
    assert second == {**ended, "error_count": 0}


def test_row_226_the_former_name_of_the_ids_is_taken(wire):
    key = wire.add_key()

    ended = wire.do("DELETE", "/_security/api_key", {"id": key["id"]})

    assert ended["invalidated_api_keys"] == [key["id"]]


def test_row_227_an_invalidation_needs_a_criterion(wire):
    reply = wire.call("DELETE", "/_security/api_key", {})

    assert reason(reply, 400, "action_request_validation_exception") == (
        "Validation Failed: 1: One of [api key id(s), api key name, username, realm name] must be "
        "specified if [owner] flag is false;"
    )


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_row_228_a_user_is_created_and_then_changed(wire, method):
    path = f"/_security/user/user-{next(_NUMBERS)}"
    name = path.rpartition("/")[2]
    body = {"password": PASSWORD, "roles": ["a"], "full_name": "Ann", "metadata": {"a": [1]}}

    assert wire.do(method, path, body) == {"created": True}
    assert wire.do("GET", path) == {
        name: {
            "username": name,
            "roles": ["a"],
            "full_name": "Ann",
            "email": None,
            "metadata": {"a": [1]},
            "enabled": True,
        }
    }
    assert wire.do(method, path, {"roles": []}) == {"created": False}
    assert wire.call("GET", "/", caller=basic(name, PASSWORD)).status == 200


@pytest.mark.parametrize("username", ["elastic"])
def test_row_228_the_reserved_user_changes_its_password_only(wire, username):
    body = {"password": PASSWORD, "roles": []}
    reserved = "illegal_argument_exception"
    message = f"user [{username}] is reserved and only the password can be changed"

    assert reason(wire.call("PUT", f"/_security/user/{username}", body), 400, reserved) == message
    reply = wire.call("PUT", f"/_security/user/{username}/_disable")
    assert reason(reply, 400, reserved) == message
    reply = wire.call("DELETE", f"/_security/user/{username}")
    assert "is reserved and cannot be deleted" in reason(reply, 400, reserved)


def test_row_229_a_short_password_is_400(wire):
    reply = wire.call("PUT", "/_security/user/x", {"password": "12345", "roles": []})

    message = "Validation Failed: 1: passwords must be at least [6] characters long;"
    assert reason(reply, 400, "action_request_validation_exception") == message
    assert b"12345" not in reply.content


def test_row_230_a_user_is_deleted_once(wire):
    name, caller = wire.add_user("superuser")
    assert wire.call("GET", "/", caller=caller).status == 200

    first = wire.call("DELETE", f"/_security/user/{name}")
    second = wire.call("DELETE", f"/_security/user/{name}")

    assert (first.status, first.json) == (200, {"found": True})
    assert (second.status, second.json) == (404, {"found": False})
    assert wire.call("GET", "/", caller=caller).status == 401
    gone = wire.call("GET", f"/_security/user/{name}")
    assert (gone.status, gone.json) == (404, {})


def test_row_231_an_unknown_privilege_is_400(wire):
    reply = wire.call("PUT", "/_security/role/x", {"cluster": ["monitor", "fly"]})

    text = reason(reply, 400, "illegal_argument_exception")
    assert text.startswith(
        "unknown cluster privilege [fly]. a privilege must be either one of the predefined cluster "
        "privilege names ["
    )
    assert text.endswith("] or a pattern over one of the available cluster actions")
    names = text.partition("names [")[2].partition("]")[0].split(",")
    assert names == wire.do("GET", "/_security/privilege/_builtin")["cluster"]


@pytest.mark.parametrize("role", ["superuser", "inference_admin", "inference_user"])
def test_row_232_a_built_in_role_is_reserved(wire, role):
    reply = wire.call("PUT", f"/_security/role/{role}", {"cluster": ["monitor"]})

    kind = "action_request_validation_exception"
    assert f"Role [{role}] is reserved and may not be used." in reason(reply, 400, kind)
    reply = wire.call("DELETE", f"/_security/role/{role}")
    assert "is reserved" in reason(reply, 400, "illegal_argument_exception")


def test_row_233_an_unknown_role_is_404(wire):
    reply = wire.call("GET", "/_security/role/none")

    assert (reply.status, reply.json) == (404, {})


def test_row_233_a_role_is_created_shown_changed_and_deleted(wire):
    path = f"/_security/role/role-{next(_NUMBERS)}"
    name = path.rpartition("/")[2]
    indices = [{"names": ["logs-*"], "privileges": ["read"]}]
    body = {"cluster": ["monitor_inference"], "indices": indices, "metadata": {"a": 1}}

    assert wire.do("PUT", path, body) == {"role": {"created": True}}
    assert wire.do("GET", path) == {
        name: {
            "cluster": ["monitor_inference"],
            "indices": indices,
            "applications": [],
            "run_as": [],
            "metadata": {"a": 1},
            "transient_metadata": {"enabled": True},
        }
    }
    assert wire.do("POST", path, {}) == {"role": {"created": False}}
    assert {name, "superuser"} <= set(wire.do("GET", "/_security/role"))
    assert set(wire.do("GET", f"{path},superuser,none")) == {name, "superuser"}
    assert wire.do("DELETE", path) == {"found": True}
    reply = wire.call("DELETE", path)
    assert (reply.status, reply.json) == (404, {"found": False})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_row_234_a_caller_learns_which_privileges_it_has(wire, method):
    name, caller = wire.add_user("inference_user")
    path = "/_security/user/_has_privileges"
    body = {"cluster": ["monitor_inference", "manage_inference"]}

    assert wire.do(method, path, body, caller=caller) == {
        "username": name,
        "has_all_requested": False,
        "cluster": {"monitor_inference": True, "manage_inference": False},
        "index": {},
        "application": {},
    }


def test_row_234_only_who_may_everything_has_privileges_on_indices(wire):
    _, caller = wire.add_user(wire.add_role("manage"))
    path = "/_security/user/_has_privileges"
    body = {
        "cluster": ["cluster:monitor/xpack/inference/get"],
        "index": [{"names": ["a", "b"], "privileges": ["read"]}],
        "application": [{"application": "app", "privileges": ["p"], "resources": ["*"]}],
    }

    refused, allowed = wire.do("POST", path, body, caller=caller), wire.do("POST", path, body)

    assert refused["cluster"] == {"cluster:monitor/xpack/inference/get": True}
    assert refused["index"] == {"a": {"read": False}, "b": {"read": False}}
    assert refused["application"] == {"app": {"*": {"p": False}}}
    assert refused["has_all_requested"] is False
    assert allowed["index"] == {"a": {"read": True}, "b": {"read": True}}
    assert allowed["has_all_requested"] is True


def test_row_234_a_question_about_nothing_is_400(wire):
    reply = wire.call("POST", "/_security/user/_has_privileges", {})

    message = "Validation Failed: 1: must specify at least one privilege;"
    assert reason(reply, 400, "action_request_validation_exception") == message


def test_row_235_a_disabled_user_is_401_until_it_is_enabled(wire):
    name, caller = wire.add_user("superuser")
    assert wire.call("GET", "/", caller=caller).status == 200

    assert wire.do("PUT", f"/_security/user/{name}/_disable") == {}
    reply = wire.call("GET", "/_inference", caller=caller)
    message = f"unable to authenticate user [{name}] for REST request [/_inference]"
    assert reason(reply, 401) == message
    assert wire.do("POST", f"/_security/user/{name}/_enable") == {}
    assert wire.call("GET", "/", caller=caller).status == 200


@pytest.mark.parametrize("path", ["/_security/user/{name}/_password", "/_security/user/_password"])
def test_row_236_the_old_password_is_401_at_once(wire, path):
    name, caller = wire.add_user()
    assert wire.call("GET", "/", caller=caller).status == 200

    body = {"password": "another-pass"}
    assert wire.do("PUT", path.format(name=name), body, caller=caller) == {}

    for _ in range(6):  # on whichever process
        assert wire.call("GET", "/", caller=caller).status == 401
        assert wire.call("GET", "/", caller=basic(name, "another-pass")).status == 200


def test_row_236_the_password_of_another_needs_the_privilege(wire):
    name, _ = wire.add_user()
    _, caller = wire.add_user(wire.add_role("manage"))
    path = f"/_security/user/{name}/_password"

    reply = wire.call("PUT", path, {"password": "another-pass"}, caller=caller)

    assert "[cluster:admin/xpack/security/user/change_password]" in reason(reply, 403)


def test_row_236_a_key_does_not_change_the_password_of_its_owner(wire):
    limits = {"limit": {"cluster": ["monitor"]}}
    caller = f"ApiKey {wire.add_key(role_descriptors=limits)['encoded']}"

    reply = wire.call("PUT", "/_security/user/_password", {"password": "x" * 9}, caller=caller)

    assert "is unauthorized for API key id" in reason(reply, 403)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("user/x", {"rolez": []}, "[1:2] [put_user] unknown field [rolez]"),
        (
            "role/x",
            {"cluster": "all"},
            "[1:13] [put_role] failed to parse field [cluster]: Expected",
        ),
        ("api_key", [], "[1:1] Expected START_OBJECT but found START_ARRAY"),
    ],
)
def test_a_body_of_another_shape_is_400_with_its_place(wire, path, body, message):
    reply = wire.call("PUT", f"/_security/{path}", body)

    assert reason(reply, 400, "x_content_parse_exception").startswith(message)
