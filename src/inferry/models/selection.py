"""Which files of a repository a model needs: its configuration, one set of weights, no pickle.

Repositories hold the same weights in many forms. Those that the loader prefers are taken:
safetensors of a family that we build, else a ready made graph.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from inferry.models.encoders import read_encoder
from inferry.models.folder import PICKLES, ModelFolder
from inferry.models.layout import Module, read_layout
from inferry.models.probes import ROWS_FILE

GRAPHS = ("openvino/openvino_model.xml", "openvino_model.xml", "onnx/model.onnx", "model.onnx")
"""Graphs that a folder may bring ready made, the best one first."""

QUANTIZED = (
    "openvino/openvino_model_qint8_quantized.xml",
    "openvino_model_qint8_quantized.xml",
    "onnx/model_qint8_avx512_vnni.onnx",
    "onnx/model_qint8_avx512.onnx",
    "onnx/model_quint8_avx2.onnx",
    "onnx/model_int8.onnx",
    "onnx/model_quantized.onnx",
)
"""The same in 8-bit integers."""

_DESCRIPTION = re.compile(
    r"config|modules|tokenizer|tokenizer_config|router_config|config_sentence_transformers"
    r"|sentence_.+_config"
)
_POOLINGS = ("Pooling", "SpladePooling")
_WEIGHTLESS = ("Normalize", "Dropout", *_POOLINGS)
_SHARD = re.compile(r"model-\d+-of-(\d+)\.safetensors")


def missing_files(folder: ModelFolder, listing: Collection[str]) -> list[str]:
    """Give the next files that `folder` lacks of those in `listing`; none when it is whole.

    Which ones are needed stands in files that come first: call it again when those are there.
    Raises `UnusableModel` when something that is needed does not exist, or only as a pickle.
    """
    lacking = _lacking(folder, _descriptions(listing, {"."}))
    if lacking:
        return lacking
    modules = folder.find_json("modules.json", list[Module]) or []
    lacking = _lacking(folder, _descriptions(listing, {_place(module) for module in modules}))
    if lacking:
        return lacking
    layout = read_layout(folder)
    transformer, rest = layout.encoder, layout.rest
    tables = (layout.table,) if layout.table else ()
    places = {_place(module) for module in (*layout.modules, *tables)}
    lacking = _lacking(folder, _descriptions(listing, places))
    if lacking:
        return lacking
    needed = [transformer.file("config.json"), transformer.file("tokenizer.json")]
    needed += [one.file("config.json") for one in rest if one.kind in _POOLINGS and one.path]
    for table in tables:
        needed += [table.file("tokenizer.json"), table.file("model.safetensors")]
    needed += _weights(folder, transformer, listing)
    for module in rest:
        if module.kind not in _WEIGHTLESS:
            needed += [module.file("config.json"), module.file("model.safetensors")]
    for path in needed:
        if path not in listing:
            raise _missing(folder, path, listing)
    return _lacking(folder, needed)


def _weights(folder: ModelFolder, transformer: Module, listing: Collection[str]) -> Iterator[str]:
    """Give the files of the encoder: safetensors, or a graph with what belongs to it."""
    weights = transformer.file("model.safetensors")
    shards = [path for path in listing if _is_shard(path, transformer)]
    graph, quantized = (
        next((path for path in map(transformer.file, names) if path in listing), None)
        for names in (GRAPHS, QUANTIZED)
    )
    config = transformer.file("config.json")
    is_built = config not in listing or read_encoder(folder, config) is not None
    if is_built and shards and weights not in listing:
        count = int(_SHARD.fullmatch(PurePosixPath(shards[0]).name)[1])  # type: ignore[index]
        if len(shards) != count:
            raise folder.unusable(weights, f"has [{len(shards)}] of its [{count}] parts")
        yield f"{weights}.index.json"
        yield from shards
    elif is_built and weights in listing:
        yield weights
    elif graph:
        yield from _graph_files(graph, listing)
    elif quantized:
        yield from _graph_files(quantized, listing)
        yield from (path for path in listing if path == transformer.file(ROWS_FILE))
    elif is_built:
        yield weights
    else:
        raise folder.unusable(
            config, "is of a family that is not built here, and there is no [openvino/] or [onnx/]"
        )


def _graph_files(graph: str, listing: Collection[str]) -> Iterator[str]:
    """Give a graph and the files that belong to it."""
    yield graph
    if graph.endswith(".xml"):
        yield graph.removesuffix("xml") + "bin"
    else:
        yield from (path for path in listing if path in (f"{graph}_data", f"{graph}.data"))


def is_float(path: str, transformer: Module) -> bool:
    """Tell whether a file has weights of the encoder, or its graph, in floating point."""
    weights = transformer.file("model.safetensors")
    graphs = [
        part for name in GRAPHS for part in (name, f"{PurePosixPath(name).with_suffix('.bin')}")
    ]
    return path in (weights, f"{weights}.index.json", *map(transformer.file, graphs)) or _is_shard(
        path, transformer
    )


def _is_shard(path: str, transformer: Module) -> bool:
    name = PurePosixPath(path).name
    return _SHARD.fullmatch(name) is not None and path == transformer.file(name)


def _descriptions(listing: Collection[str], places: Collection[str]) -> list[str]:
    """Give the files right in one of the folders `places` that say how the model is run."""
    paths = map(PurePosixPath, listing)
    return [
        str(path)
        for path in paths
        if path.suffix == ".json"
        and str(path.parent) in places
        and _DESCRIPTION.fullmatch(path.stem)
    ]


def _place(module: Module) -> str:
    return str(PurePosixPath(module.path))


def _lacking(folder: ModelFolder, paths: Collection[str]) -> list[str]:
    return sorted(path for path in set(paths) if not folder.has(path))


def _missing(folder: ModelFolder, path: str, listing: Collection[str]) -> Exception:
    beside = PurePosixPath(path).parent
    for name in PICKLES:
        pickle = str(beside / name)
        if path.endswith(".safetensors") and pickle in listing:
            return folder.unusable(
                path,
                f"is missing; [{pickle}] is a pickle, which could run code, and is never opened",
            )
    return folder.unusable(path, "is missing")
