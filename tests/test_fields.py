"""Settings are held against their fields, in the words that callers match on."""

from __future__ import annotations

import pytest

from inferry.fields import Field, Parsed, Purpose, parse_settings

MODEL = Field("model_id", "str", required=True)
KEY = Field("api_key", "str", required=True, secret=True, updatable=True)
SIMILARITY = Field("similarity", "str", choices=("l2_norm", "cosine", "dot_product"))
DIMENSIONS = Field("dimensions", "int", at_least=1)
MAX_BATCH = Field("max_batch_size", "int", at_least=1, at_most=250, updatable=True)
CHUNK_SIZE = Field("max_chunk_size", "int", at_least=20)
TEMPERATURE = Field("temperature", "float", at_least=0, at_most=1)
STREAMING = Field("streaming", "bool")
URL = Field("url", "url")
SCOPES = Field("scopes", "list")
HEADERS = Field("headers", "map")
INTERNAL = Field("dimensions_set_by_user", "bool", derived=True)
RATE = Field("rate_limit.requests_per_minute", "long", at_least=1, default=3000)
FIELDS = (
    *(MODEL, KEY, SIMILARITY, DIMENSIONS, MAX_BATCH, CHUNK_SIZE, TEMPERATURE),
    *(STREAMING, URL, SCOPES, HEADERS, INTERNAL, RATE),
)


def parse(given, fields=FIELDS, *, scope="service_settings", purpose=Purpose.CREATE) -> Parsed:
    return parse_settings(fields, given, scope=scope, purpose=purpose)


def problem_of(field, value, *, scope="service_settings") -> str:
    (problem,) = parse({field.name: value}, [field], scope=scope).problems
    return problem


def test_settings_come_back_typed_in_field_order_with_defaults_and_without_secrets():
    parsed = parse({"dimensions": 8, "api_key": "k", "model_id": "m", "temperature": 1})

    assert parsed.problems == []
    assert list(parsed.values.items()) == [
        ("model_id", "m"),
        ("dimensions", 8),
        ("temperature", 1.0),
        ("rate_limit", {"requests_per_minute": 3000}),
    ]
    assert isinstance(parsed.values["temperature"], float)
    assert parsed.secrets == {"api_key": "k"}


def test_problems_are_collected_in_field_order():
    parsed = parse({"dimensions": 0, "similarity": "near"})

    assert parsed.problems == [
        "[service_settings] does not contain the required setting [model_id]",
        "[service_settings] does not contain the required setting [api_key]",
        "[service_settings] Invalid value [near] received."
        " [similarity] must be one of [cosine, dot_product, l2_norm]",
        "[service_settings] Invalid value [0]. [dimensions] must be a positive integer",
    ]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        (MODEL, "", "Invalid value empty string. [model_id] must be a non-empty string"),
        (URL, "", "Invalid value empty string. [url] must be a non-empty string"),
        (HEADERS, {}, "Invalid value empty map. [headers] must be a non-empty map"),
        (SCOPES, ["a", ""], "Invalid value empty string. [scopes] must be a non-empty string"),
        (DIMENSIONS, -3, "Invalid value [-3]. [dimensions] must be a positive integer"),
        (
            MAX_BATCH,
            251,
            "Invalid value [251.0]. [max_batch_size] must be a less than or equal to [250.0]",
        ),
        (
            CHUNK_SIZE,
            5,
            "Invalid value [5.0]. [max_chunk_size] must be a greater than or equal to [20.0]",
        ),
        (
            TEMPERATURE,
            1.5,
            "Invalid value [1.5]. [temperature] must be a less than or equal to [1.0]",
        ),
    ],
)
def test_a_value_out_of_bounds_says_which_bound(field, value, problem):
    assert problem_of(field, value, scope="task_settings") == f"[task_settings] {problem}"


@pytest.mark.parametrize(
    ("field", "value", "shown", "expected"),
    [
        (MODEL, 12, "12", "String"),
        (MODEL, True, "true", "String"),
        (URL, {"a": 1}, "{a=1}", "String"),
        (DIMENSIONS, "8", "8", "Integer"),
        (DIMENSIONS, 8.0, "8.0", "Integer"),
        (DIMENSIONS, True, "true", "Integer"),
        (DIMENSIONS, 2**31, "2147483648", "Integer"),
        (TEMPERATURE, "warm", "warm", "Double"),
        (TEMPERATURE, False, "false", "Double"),
        (STREAMING, 1, "1", "Boolean"),
        (SCOPES, "a", "a", "List"),
        (SCOPES, [1], "1", "String"),
        (HEADERS, ["a", None], "[a, null]", "Map"),
        (Field("rate_limit.requests_per_minute", "long"), 5, "5", "Map"),
    ],
)
def test_a_wrong_type_names_the_expected_one_as_java_does(field, value, shown, expected):
    name = field.name.partition(".")[0]

    (problem,) = parse({name: value}, [field]).problems

    assert problem == (
        f"field [{name}] is not of the expected type."
        f" The value [{shown}] cannot be converted to a [{expected}]"
    )


@pytest.mark.parametrize("value", [0, -1])
def test_a_rate_limit_is_a_positive_long_in_its_own_scope(value):
    (problem,) = parse({"rate_limit": {"requests_per_minute": value}}, [RATE]).problems

    assert problem == (
        f"[rate_limit] Invalid value [{value}]. [requests_per_minute] must be a positive long"
    )


@pytest.mark.parametrize(("value", "shown"), [("many", "many"), (1.5, "1.5"), (2**63, 2**63)])
def test_a_long_of_another_type_names_both_integers(value, shown):
    (problem,) = parse({"rate_limit": {"requests_per_minute": value}}, [RATE]).problems

    assert problem == (
        "field [requests_per_minute] is not of one of the expected types."
        f" The value [{shown}] cannot be converted to one of [Integer, Long]"
    )


def test_unknown_settings_are_left_over_in_the_callers_order():
    parsed = parse({"zeta": 1, "model_id": "m", "alpha": None}, [MODEL])

    assert list(parsed.unknown.items()) == [("zeta", 1), ("alpha", None)]
    assert parsed.problems == []


def test_unknown_settings_of_a_nested_object_are_a_problem_and_look_alikes_of_secrets_are_masked():
    parsed = parse({"rate_limit": {"per_hour": 5, "token": "t0p"}}, [RATE])

    assert parsed.problems == [
        "Configuration contains unknown settings [{per_hour=5, token=***}]"
        " while parsing field [rate_limit] for settings [service_settings]"
    ]


@pytest.mark.parametrize("value", ["DOT_PRODUCT", " dot_product "])
def test_choices_are_matched_whatever_their_case_and_stored_as_declared(value):
    assert parse({"similarity": value}, [SIMILARITY]).values == {"similarity": "dot_product"}


@pytest.mark.parametrize(
    "url", ["https://api.example.org/v1/x?y=1", "http://127.0.0.1:8080", "https://[::1]/v1"]
)
def test_urls_are_kept_as_they_are(url):
    assert parse({"url": url}, [URL]).values == {"url": url}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("api.example.org", "the scheme must be http or https"),
        ("ftp://api.example.org", "the scheme must be http or https"),
        ("https:///v1", "the host is missing"),
        ("https://a b", "illegal character at index 9"),
        ("https://a.example.org\\b", "illegal character at index 21"),
        ("https://a:99999", "Port out of range 0-65535"),
        ("https://a:0", "the port must not be 0"),
    ],
)
def test_what_is_no_url_to_call_is_refused_with_the_reason(url, reason):
    assert problem_of(URL, url) == (
        f"[service_settings] Invalid url [{url}] received for field [url]."
        f" Error: unable to parse url [{url}]. Reason: {reason}"
    )


def test_a_password_inside_a_url_is_refused_and_not_shown():
    problem = problem_of(URL, "https://me:hunter2@api.example.org/v1")

    assert "a user name or password is not allowed" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize("value", [["s3cret"], {"x": "s3cret"}, 1234])
def test_a_secret_of_the_wrong_type_is_not_shown(value):
    problem = problem_of(KEY, value)

    assert problem == (
        "field [api_key] is not of the expected type."
        " The value [***] cannot be converted to a [String]"
    )


@pytest.mark.parametrize("purpose", [Purpose.CREATE, Purpose.UPDATE])
def test_what_only_the_server_sets_is_refused(purpose):
    parsed = parse({"dimensions_set_by_user": True}, [INTERNAL], purpose=purpose)

    assert parsed.problems == [
        "[service_settings] does not allow the setting [dimensions_set_by_user]"
    ]


def test_a_null_counts_as_not_sent():
    parsed = parse({"model_id": None, "dimensions": None, "rate_limit": None})

    assert parsed.problems[0] == (
        "[service_settings] does not contain the required setting [model_id]"
    )
    assert parsed.values == {"rate_limit": {"requests_per_minute": 3000}}
    assert parsed.unknown == {}


def test_an_update_requires_nothing_and_fills_nothing_in():
    assert parse({}, purpose=Purpose.UPDATE) == Parsed({}, {}, {}, [])


def test_an_update_changes_what_is_updatable_and_the_rate_limit():
    given = {"api_key": "new", "max_batch_size": 5, "rate_limit": {"requests_per_minute": 7}}

    parsed = parse(given, purpose=Purpose.UPDATE)

    assert parsed.problems == []
    assert parsed.values == {"max_batch_size": 5, "rate_limit": {"requests_per_minute": 7}}
    assert parsed.secrets == {"api_key": "new"}


def test_an_update_changes_every_task_setting():
    parsed = parse({"headers": {"a": "b"}}, scope="task_settings", purpose=Purpose.UPDATE)

    assert parsed.values == {"headers": {"a": "b"}}


def test_an_update_of_a_fixed_setting_is_a_problem():
    parsed = parse({"model_id": "other"}, purpose=Purpose.UPDATE)

    assert parsed.problems == ["[model_id] cannot be updated"]


def test_a_request_ignores_what_it_does_not_know_and_secrets():
    parsed = parse(
        {"headers": {"a": "b"}, "frequency": 3, "api_key": "k"},
        scope="task_settings",
        purpose=Purpose.REQUEST,
    )

    assert parsed == Parsed({"headers": {"a": "b"}}, {}, {}, [])


def test_a_request_is_held_to_types_and_ranges():
    parsed = parse({"temperature": 3}, scope="task_settings", purpose=Purpose.REQUEST)

    assert parsed.problems == [
        "[task_settings] Invalid value [3.0]. [temperature] must be a less than or equal to [1.0]"
    ]
