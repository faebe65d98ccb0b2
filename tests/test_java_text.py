"""Values as Java prints them, secrets masked."""

import pytest

from inferry.java_text import java_text, java_text_of_settings


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (5.0, "5.0"),
        (0.001, "0.001"),
        (1e-4, "1.0E-4"),
        (1e10, "1.0E10"),
        (-2.5e-7, "-2.5E-7"),
        (float("inf"), "Infinity"),
        ("a b", "a b"),
        ([], "[]"),
        ({}, "{}"),
        ({"a": 1, "b": ["x", False], "c": {"d": None}}, "{a=1, b=[x, false], c={d=null}}"),
    ],
)
def test_values_print_as_java_prints_them(value, text: str) -> None:
    assert java_text(value) == text


@pytest.mark.parametrize(
    "name",
    [
        *("api_key", "apiKey", "x-api-key", "secret", "client_secret", "my_token"),
        *("Authorization", "password", "passwd", "credentials", "bearer", "entra_id"),
        "service_account_json",
    ],
)
@pytest.mark.parametrize("value", ["marker", 4711, ["marker"], {"inner": "marker"}])
def test_a_value_whose_name_looks_secret_is_masked(name: str, value) -> None:
    assert java_text_of_settings({name: value}) == f"{{{name}=***}}"


@pytest.mark.parametrize("value", ["sk-abc", "Bearer abc", "eyJhbGciOi", "-----BEGIN KEY"])
def test_a_value_that_looks_secret_is_masked_under_any_name(value: str) -> None:
    assert java_text_of_settings({"note": [value], "x": {"y": value}}) == (
        "{note=[***], x={y=***}}"
    )


def test_counts_of_tokens_are_no_secrets() -> None:
    assert java_text_of_settings({"max_input_tokens": 5}) == "{max_input_tokens=5}"
