"""Tensors of safetensors files, mapped into memory and not copied.

A file is eight bytes with the length of a JSON header, the header with type, shape and place of
each tensor, and their bytes (https://huggingface.co/docs/safetensors). A large model comes in
several files with an index beside them.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from inferry.models.folder import ModelFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_HEADER_BYTES = 100 * 1024 * 1024  # the limit of the reference implementation
_NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Entry(msgspec.Struct):
    """A tensor as the header has it. data_offsets: its first byte, and the one behind its last."""

    dtype: str
    shape: tuple[_Natural, ...]
    data_offsets: tuple[_Natural, _Natural]


class _Index(msgspec.Struct):
    """Which file has which tensor."""

    weight_map: dict[str, str]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor. numbers: those of BF16 as uint16, since NumPy has no such type."""

    dtype: str
    numbers: NDArray[Any]

    def as_float32(self) -> NDArray[np.float32]:
        """Give the numbers as float32."""
        import numpy as np

        if self.dtype == "BF16":  # the upper half of a float32
            return (self.numbers.astype(np.uint32) << 16).view(np.float32)
        return self.numbers.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Place:
    file: str
    mapped: mmap.mmap
    start: int
    entry: _Entry


class Weights:
    """The tensors of a model by name. It has to live as long as what uses their memory."""

    def __init__(self, folder: ModelFolder, path: str = "model.safetensors") -> None:
        """Map the file, or the files of its index. Raises `UnusableModel` for damaged ones."""
        self._folder, self._path = folder, path
        self._places: dict[str, _Place] = {}
        self._maps: list[mmap.mmap] = []
        self._given: list[Tensor] = []  # those of old files are not aligned, and so are copies
        files = {path}
        if not folder.has(path) and folder.has(index := f"{path}.index.json"):
            files = set(folder.read_json(index, _Index).weight_map.values())
        for file in sorted(files):
            self._map(file)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def get(self, name: str, *shape: int) -> Tensor:
        """Give the tensor `name`, which must have `shape`. Raises `UnusableModel`."""
        import numpy as np

        place = self._places.get(name)
        if place is None:
            raise self._folder.unusable(self._path, f"lacks the tensor [{name}]")
        entry = place.entry
        if entry.shape != shape:
            raise self._folder.unusable(
                place.file,
                f"has the tensor [{name}] in the shape {list(entry.shape)}, the configuration asks"
                f" for {list(shape)}",
            )
        if entry.dtype not in _NUMPY_TYPES:
            raise self._folder.unusable(
                place.file, f"has the tensor [{name}] of type [{entry.dtype}], which cannot be read"
            )
        dtype = np.dtype(_NUMPY_TYPES[entry.dtype])
        offset = place.start + entry.data_offsets[0]
        flat = np.frombuffer(place.mapped, dtype, count=math.prod(shape), offset=offset)
        tensor = Tensor(entry.dtype, np.require(flat, requirements="A").reshape(shape))
        self._given.append(tensor)
        return tensor

    def forget(self) -> None:
        """Give back the memory of what was read; what is touched later is read from disk again."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)

    def _map(self, path: str) -> None:
        if not path.endswith(".safetensors"):
            raise self._folder.unusable(path, "is no safetensors file")
        file = self._folder.file(path)
        size = file.stat().st_size
        header, start = self._read_header(path, file, size)
        with file.open("rb") as content:
            # Copy-on-write, since the runtime takes only memory that it may write; it never does.
            mapped = mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_COPY)
        self._maps.append(mapped)
        for name, entry in header.items():
            if problem := _problem(entry, size - start):
                raise self._folder.unusable(path, f"is damaged: the tensor [{name}] {problem}")
            self._places[name] = _Place(path, mapped, start, entry)

    def _read_header(self, path: str, file: Path, size: int) -> tuple[dict[str, _Entry], int]:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            start = 8 + length
            if size < 8 or length > _MAX_HEADER_BYTES or start > size:
                raise self._folder.unusable(path, f"is damaged: [{size}] bytes hold no header")
            text = content.read(length)
        try:
            header = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            header.pop("__metadata__", None)
            entries = {
                name: msgspec.json.decode(entry, type=_Entry) for name, entry in header.items()
            }
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self._folder.unusable(
                path, f"has a header that cannot be read: {error}"
            ) from error
        return entries, start


def _problem(entry: _Entry, available: int) -> str | None:
    """Say what is wrong with a tensor's place."""
    begin, end = entry.data_offsets
    if not begin <= end <= available:
        return f"ends at byte [{end}] of [{available}]"
    dtype = _NUMPY_TYPES.get(entry.dtype)
    if dtype and math.prod(entry.shape) * int(dtype[-1]) != end - begin:
        return f"of shape {list(entry.shape)} has [{end - begin}] bytes"
    return None
