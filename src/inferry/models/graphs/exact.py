"""Keeps the sums of an encoder at float32 where all else is computed in bfloat16.

What a layer adds to a state is small beside it, and each of dozens of sums and normalizations
rounds the state anew: most of what bfloat16 loses is lost there, and hardly any time is spent.

The runtime keeps an operation at its own precision that is marked so, as `precise` in the format of
its files; its Python interface reads such marks and does not set them. So a marked operation is
read, and put in the place of the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import openvino as ov
from openvino import Node

from inferry.models.graphs.blocks import constant_behind

_NETWORK = """<net name="marked" version="11"><layers>{places}
<layer id="2" name="marked" type="{type}" version="{version}"><data {attributes}/>
<rt_info><attribute name="precise" version="0"/></rt_info>
<input><port id="0"/><port id="1"/></input><output><port id="2" precision="FP32"/></output></layer>
<layer id="3" name="out" type="Result" version="opset1"><input><port id="0"/></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges></net>"""
_PLACE = """<layer id="{number}" name="p{number}" type="Parameter" version="opset1">
<data shape="{shape}" element_type="{kind}"/>
<output><port id="0" precision="{precision}"/></output></layer>"""
_PRECISIONS = {"f32": "FP32", "i32": "I32", "i64": "I64"}


def keep_sums_exact(model: ov.Model) -> None:
    """Mark the normalizations of a graph, and the sums before and behind them."""
    norms = [node for node in model.get_ordered_ops() if node.get_type_name() == "MVN"]
    core = ov.Core()
    for node in [one for norm in norms for one in _around(norm)]:
        marked = _marked(core, node)
        marked.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(marked.output(0))


def _around(norm: Node) -> Iterator[Node]:
    """Give a normalization, the sum that it is of, and the scale and shift behind it."""
    total = norm.input_value(0).get_node()
    if total.get_type_name() == "Add":
        yield total
    yield norm
    behind = _only_reader(norm)
    while behind is not None and behind.get_type_name() in ("Multiply", "Add"):
        if constant_behind(behind.input_value(1)) is None:
            return
        yield behind
        behind = _only_reader(behind)


def _only_reader(node: Node) -> Node | None:
    """Give what reads a node, None where several do."""
    readers = list(node.output(0).get_target_inputs())
    return readers[0].get_node() if len(readers) == 1 else None


def _marked(core: ov.Core, node: Node) -> Node:
    """Give the same operation, of two inputs, with the mark."""
    given = [node.input_value(0), node.input_value(1)]
    attributes = node.get_attributes().items()
    network = _NETWORK.format(
        places="".join(_place(number, one) for number, one in enumerate(given)),
        type=node.get_type_name(),
        version=node.get_type_info().version_id,
        attributes=" ".join(f'{name}="{str(value).lower()}"' for name, value in attributes),
    )
    model = core.read_model(network.encode())
    for parameter, source in zip(model.get_parameters(), given, strict=True):
        parameter.output(0).replace(source)
    return model.get_results()[0].input_value(0).get_node()


def _place(number: int, given: ov.Output) -> str:
    """Write down an input of the form of `given`."""
    kind = given.get_element_type().to_string()
    sizes = ("?" if size.is_dynamic else str(size.get_length()) for size in given.partial_shape)
    return _PLACE.format(
        number=number, shape=",".join(sizes), kind=kind, precision=_PRECISIONS[kind]
    )
