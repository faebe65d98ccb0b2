"""The threat model in `docs/security.md` promises nothing that no test proves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text()
MODEL = PAGE.partition("## Threat model")[2]
PROMISES = re.findall(r"^\| (?P<promise>[^|*]+) \| `(?P<test>[^|`]+)` \|$", MODEL, re.MULTILINE)


@pytest.mark.parametrize(("promise", "test"), PROMISES, ids=[promise for promise, _ in PROMISES])
def test_a_promise_is_proven_by_a_test_that_exists(promise, test):
    path, name = test.split("::")
    tree = ast.parse((ROOT / path).read_text())

    functions = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert name in functions


def test_every_line_of_the_table_is_a_promise_with_a_test():
    table = MODEL.partition("| promise | test |")[2]
    lines = [line for line in table.splitlines() if line.startswith("|") and "**" not in line]

    assert len(lines) - 1 == len(PROMISES) > 30  # the first one is the rule below the head
