"""That whoever changes what becomes of modules is told to raise `CONVERSION`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch

from inferry.modeling import CONVERSION
from inferry.models.graphs.torchscript import convert_module
from tests.numeric.modules import saved

GRAPHS = {3: "e5aca82f216aee47"}
"""By `CONVERSION`: a digest of the graph that it makes of `Tiny`."""


class Tiny(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """What sparse encoders are made of: tables, a norm, products, the largest weights.

    largest: takes the largest of what each token of a text gives.
    """

    def __init__(self, largest: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._largest = largest
        self.words, self.types = torch.nn.Embedding(20, 8), torch.nn.Embedding(2, 8)
        self.positions, self.norm = torch.nn.Embedding(16, 8), torch.nn.LayerNorm(8)
        self.logits = torch.nn.Linear(8, 20)

    def forward(self, ids, mask, types, positions):
        given = self.words(ids) + self.types(types) + self.positions(positions)
        logits = self.logits(torch.nn.functional.gelu(self.norm(given)))
        weights = torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)
        return self._largest(weights)


@pytest.mark.parametrize(
    "largest",
    [
        lambda weights: torch.max(weights, dim=1).values,
        lambda weights: torch.max(weights, dim=-2).values,
        lambda weights: torch.amax(weights, dim=1),
    ],
    ids=["max", "max of the last but one", "amax"],
)
def test_another_graph_is_another_conversion_however_a_module_writes_it(tmp_path, largest):
    token = torch.ones((1, 3), dtype=torch.int64)
    module = torch.jit.freeze(torch.jit.trace(Tiny(largest).eval(), [token] * 4))
    (tmp_path / "tiny.pt").write_bytes(saved(module))

    graph = convert_module(tmp_path / "tiny.pt")

    operations = sorted(
        [one.get_type_name(), *(port.get_node().get_type_name() for port in one.input_values())]
        for one in graph.get_ops()
    )
    made = hashlib.sha256(repr(operations).encode()).hexdigest()[:16]
    assert GRAPHS.get(CONVERSION) == made, (
        "modules become other graphs than those that stand in the caches of servers: raise"
        f" `CONVERSION` in `inferry.modeling` if they are better, and record [{made}] for it"
    )
