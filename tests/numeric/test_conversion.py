"""That whoever changes what becomes of modules is told to raise `CONVERSION`."""

from __future__ import annotations

import hashlib

import torch

from inferry.modeling import CONVERSION
from inferry.models.graphs.torchscript import convert_module
from tests.numeric.modules import saved

GRAPHS = {2: "e5aca82f216aee47"}
"""By `CONVERSION`: a digest of the graph that it makes of `Tiny`."""


class Tiny(torch.nn.Module):  # type: ignore[misc]  # a class without types
    """What sparse encoders are made of: tables, a norm, products, the largest weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.types = torch.nn.Embedding(20, 8), torch.nn.Embedding(2, 8)
        self.positions, self.norm = torch.nn.Embedding(16, 8), torch.nn.LayerNorm(8)
        self.logits = torch.nn.Linear(8, 20)

    def forward(self, ids, mask, types, positions):
        given = self.words(ids) + self.types(types) + self.positions(positions)
        logits = self.logits(torch.nn.functional.gelu(self.norm(given)))
        weights = torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)
        return torch.max(weights, dim=1).values


def test_another_graph_is_another_conversion(tmp_path):
    token = torch.ones((1, 3), dtype=torch.int64)
    module = torch.jit.freeze(torch.jit.trace(Tiny().eval(), [token] * 4))
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
