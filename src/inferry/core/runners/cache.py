"""Keeps embeddings that were computed before, so that the same text costs once.

Each input of a request is looked up on its own; only what is missing goes on, the same text once.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

import msgspec

from inferry.core.runners.runner import Run
from inferry.core.runners.split import join
from inferry.domain import (
    DenseEmbeddings,
    Endpoint,
    InferenceRequest,
    Result,
    SparseEmbeddings,
    Usage,
)
from inferry.records import Change, DeploymentRecord, Drop, Put
from inferry.vectors import FloatVector, JsonVector, Vector

Embeddings: TypeAlias = DenseEmbeddings | SparseEmbeddings

_ENTRY_BYTES = 600  # what an entry takes beside its numbers: objects, digest, places in tables
_WEIGHT_BYTES = 120

Version: TypeAlias = tuple[int, int]
"""Of what a deployment answers: when it was started, and how often its cache was cleared."""

_HOSTED: Version = (0, 0)


class EmbeddingCache:
    """The embeddings used last, each of one input; one cache for all endpoints of a process.

    max_bytes: an estimate of what they may take together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, Embeddings] = OrderedDict()
        self._versions: dict[str, Version] = {}
        self.size_bytes = 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Learn of deployments among `changes`; what is kept of a former version is never given."""
        for change in changes:
            match change:
                case Put(record=DeploymentRecord() as one):
                    self._versions[one.key] = (one.started_at_ms or 0, one.clearings)
                case Drop(kind="deployment", key=key):
                    self._versions.pop(key, None)

    def version_of(self, deployment_id: str) -> Version | None:
        """Give what tells answers of a deployment from earlier ones, None while there is none."""
        return self._versions.get(deployment_id)

    def get(self, key: bytes) -> Embeddings | None:
        """Give what is kept under `key`, which then counts as used last."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, embedding: Embeddings) -> None:
        """Keep the embedding of one input; what was not used for longest makes room for it."""
        former = self._kept.pop(key, None)
        if former is not None:
            self.size_bytes -= _size_bytes(former)
        self._kept[key] = embedding
        self.size_bytes += _size_bytes(embedding)
        while self.size_bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.size_bytes -= _size_bytes(oldest)


def cached(
    run: Run, endpoint: Endpoint, cache: EmbeddingCache, *, deployment_id: str | None = None
) -> Run:
    """Give `run` of an embedding endpoint with the embeddings of this revision kept.

    deployment_id: what runs it, None where that is a provider; nothing is kept while there is no
    such deployment. Usage is that of what is computed now.
    """

    async def run_cached(request: InferenceRequest) -> Result:
        version = _HOSTED if deployment_id is None else cache.version_of(deployment_id)
        if version is None:
            return await run(request)
        keys = _keys(endpoint, version, request)
        found = {key: kept for key in keys if (kept := cache.get(key)) is not None}
        missing = {
            key: one for key, one in zip(keys, request.inputs, strict=True) if key not in found
        }
        usage: Usage | None = Usage()
        if missing:
            result = await run(replace(request, inputs=tuple(missing.values())))
            if not isinstance(result, Embeddings):
                return result
            usage = result.usage
            for key, part in zip(missing, _parts(result), strict=True):
                found[key] = part
                cache.put(key, part)
        joined = join([found[key] for key in keys], range(len(keys)), request)
        return replace(joined, usage=usage) if isinstance(joined, Embeddings) else joined

    return run_cached


def _keys(endpoint: Endpoint, version: Version, request: InferenceRequest) -> list[bytes]:
    """Digest, for each input, everything that its embedding depends on."""
    context = hashlib.blake2b(
        msgspec.msgpack.encode(
            [
                endpoint.inference_id,
                endpoint.revision,
                version,
                request.input_type,
                sorted(request.task_settings.items()),
                sorted(request.extra.items()),
            ]
        ),
        digest_size=20,
    )
    keys = []
    for one in request.inputs:
        digest = context.copy()
        digest.update(msgspec.msgpack.encode(one))
        keys.append(digest.digest())
    return keys


def _parts(result: Embeddings) -> Iterator[Embeddings]:
    """Take a result apart by input, each part with memory of its own."""
    cut = set(result.truncated)
    if isinstance(result, DenseEmbeddings):
        for index, vector in enumerate(result.vectors):
            truncated = (0,) if index in cut else ()
            yield DenseEmbeddings((_own(vector),), result.element_type, truncated=truncated)
    else:
        for index, weights in enumerate(result.items):
            yield SparseEmbeddings((weights,), truncated=(0,) if index in cut else ())


def _own(vector: Vector) -> Vector:
    """Copy a row out of the buffer that the rows of its batch share."""
    if isinstance(vector, FloatVector):
        return FloatVector(bytes(vector.buffer), vector.width)
    return vector


def _size_bytes(embedding: Embeddings) -> int:
    """Estimate the memory that an embedding takes."""
    if isinstance(embedding, SparseEmbeddings):
        return _ENTRY_BYTES + _WEIGHT_BYTES * sum(map(len, embedding.items))
    return _ENTRY_BYTES + sum(
        len(one.text if isinstance(one, JsonVector) else one.buffer) for one in embedding.vectors
    )
