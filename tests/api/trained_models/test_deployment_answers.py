"""What `_stats` shows of a deployment beside its counts."""

from __future__ import annotations

import pytest

from inferry.api.trained_models.deployment_answers import Memory, stats_row
from inferry.deployment_stats import DeploymentStats
from inferry.modeling import Arithmetic, Protection
from inferry.records import DeploymentRecord, DeploymentSpec


@pytest.mark.parametrize(
    ("arithmetic", "cosine", "shown"),
    [
        (Arithmetic("f32"), None, {"precision": "f32"}),
        (Arithmetic("int8"), None, {"precision": "int8"}),
        (Arithmetic("int8"), 0.97, {"precision": "int8", "cosine": 0.97}),
        (
            Arithmetic("bf16", has_exact_sums=True),
            0.9995,
            {"precision": "bf16", "exact_sums": True, "cosine": 0.9995},
        ),
    ],
)
def test_it_shows_the_arithmetic_of_a_loaded_model(arithmetic, cosine, shown):
    assert shown_of(arithmetic=arithmetic, cosine=cosine)["inferry_arithmetic"] == shown


def test_it_shows_no_arithmetic_before_a_model_is_loaded():
    assert "inferry_arithmetic" not in shown_of()


def shown_of(**facts):
    record = DeploymentRecord(DeploymentSpec("d", "m", 1, 1), **facts)
    stats = DeploymentStats(record, 0, None, Protection())
    return stats_row(stats, "m", Memory(), "node").deployment_stats
