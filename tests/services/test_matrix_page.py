"""The page of the matrix says what its tests are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.services.matrix import CELLS, TARGET, Collector, cell_of, table


def test_the_page_has_the_cells_that_there_are_and_all_pass():
    assert table(CELLS) == TARGET.read_text(), "run `make docs`"


@pytest.mark.parametrize(
    ("nodeid", "cell"),
    [
        ("test_matrix.py::test_put_names_x[cohere-rerank-api_key]", ("cohere-rerank", "PUT")),
        ("test_matrix.py::test_stream_x[openai-completion]", ("openai-completion", "stream")),
        (
            "test_service_faults.py::test_a_stream_x[hang_up-openai-embedding]",
            ("openai-embedding", "faults"),
        ),
        ("test_matrix.py::test_limit", None),
        ("test_matrix.py::test_limit[nobody-completion]", None),
    ],
)
def test_a_test_belongs_to_the_cell_that_its_name_says(nodeid, cell):
    assert cell_of(f"tests/services/{nodeid}") == cell


def test_a_cell_passes_only_with_a_test_of_which_none_fails():
    collector = Collector()
    name = "tests/services/test_matrix.py::test_put[openai-completion]"

    def report(when: str, outcome: str) -> None:
        told = SimpleNamespace(
            nodeid=name, when=when, passed=outcome == "passed", failed=outcome == "failed"
        )
        collector.pytest_runtest_logreport(told)  # type: ignore[arg-type]

    pages = [table(collector.passed, collector.failed)]
    for when, outcome in (("setup", "passed"), ("call", "passed"), ("teardown", "failed")):
        report(when, outcome)
        pages.append(table(collector.passed, collector.failed))
    row = [page.split("| completion |")[-1].split("|")[0].strip() for page in pages]

    assert row == ["**no test**", "**no test**", "passes", "**fails**"]
