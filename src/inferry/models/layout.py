"""Which modules a model folder has, in which order, and what task they amount to.

modules.json         the modules; of a class path the last part counts, since the packages before
                     it moved between releases
router_config.json   of a Router, which treats searches in another way than documents
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inferry.domain import TaskType
from inferry.errors import UnusableModel
from inferry.modeling import MODEL_TYPES, ModelSource
from inferry.models.folder import ModelFolder

ENCODERS = ("Transformer", "MLMTransformer")
TABLE = "SparseStaticEmbedding"
"""A weight per token instead of an encoder."""

_MODULES = "modules.json"
_ROUTES = "router_config.json"
_QUERIES = ("query", "search")
_DOCUMENTS = ("document", "passage", "corpus")


class Module(msgspec.Struct, frozen=True):
    """A row of `modules.json`. path: its folder."""

    type: str
    path: str = ""

    @property
    def kind(self) -> str:
        """The class without the packages before it."""
        return self.type.rsplit(".", 1)[-1]

    def file(self, name: str) -> str:
        """Give the path of a file of this module."""
        return f"{self.path}/{name}" if self.path else name


@dataclass(frozen=True, slots=True)
class Layout:
    """The modules of a folder.

    modules: what texts run through, the encoder first. table: what searches are looked up in
    instead, None where they are treated as all texts. is_declared: the folder names its modules.
    """

    modules: tuple[Module, ...]
    table: Module | None = None
    is_declared: bool = True

    @property
    def encoder(self) -> Module:
        """The first module."""
        return self.modules[0]

    @property
    def rest(self) -> tuple[Module, ...]:
        """What comes behind the encoder."""
        return self.modules[1:]


class _Routes(msgspec.Struct):
    """types: class paths by folder. structure: folders of the modules, by route."""

    types: dict[str, str]
    structure: dict[str, list[str]]


class _Architectures(msgspec.Struct):
    architectures: list[str] | None = None


def read_layout(folder: ModelFolder) -> Layout:
    """Read which modules there are. Raises `UnusableModel`."""
    modules = folder.find_json(_MODULES, list[Module])
    if not modules:
        return Layout((Module("Transformer"),), is_declared=False)
    if modules[0].kind in ("Router", "Asym"):
        return _read_routes(folder, modules)
    if modules[0].kind not in ENCODERS:
        raise folder.unusable(
            _MODULES, f"begins with the module [{modules[0].kind}], which cannot be run"
        )
    return Layout(tuple(modules))


def task_of(folder: ModelFolder, layout: Layout, source: ModelSource) -> TaskType:
    """Tell what the modules amount to. Raises `UnusableModel` when it is not what is asked.

    A masked language model whose folder names no modules gives sparse embeddings where those are
    asked for, else dense ones.
    """
    asked = source.task_type
    kinds = {module.kind for module in layout.modules}
    architecture = _architecture(folder, layout)
    if "SpladePooling" in kinds:
        found = TaskType.SPARSE_EMBEDDING
    elif "Pooling" in kinds:
        found = TaskType.TEXT_EMBEDDING
    elif architecture.endswith("ForSequenceClassification"):
        found = TaskType.RERANK
    elif is_masked_lm(folder, layout) and asked is TaskType.SPARSE_EMBEDDING:
        found = TaskType.SPARSE_EMBEDDING
    else:
        found = TaskType.TEXT_EMBEDDING
    if asked not in (None, found):
        raise UnusableModel(
            f"Deployed model [{source.name}] with type [{MODEL_TYPES[found]}] does not match the"
            f" requested task type [{asked}]"
        )
    return found


def is_masked_lm(folder: ModelFolder, layout: Layout) -> bool:
    """Tell whether the encoder predicts tokens: it may give dense or sparse embeddings."""
    return _architecture(folder, layout).endswith("ForMaskedLM")


def _architecture(folder: ModelFolder, layout: Layout) -> str:
    config = folder.find_json(layout.encoder.file("config.json"), _Architectures)
    return ((config and config.architectures) or [""])[0]


def _read_routes(folder: ModelFolder, modules: list[Module]) -> Layout:
    """Read a Router whose searches are looked up in a table, or run through the same modules."""
    router = modules[0]
    path = router.file(_ROUTES)
    routes = folder.read_json(path, _Routes)

    def route(names: tuple[str, ...]) -> tuple[Module, ...]:
        places = next((routes.structure[name] for name in names if name in routes.structure), [])
        return tuple(Module(routes.types[place], router.file(place)) for place in places)

    try:
        queries, documents = route(_QUERIES), route(_DOCUMENTS)
    except KeyError as error:
        raise folder.unusable(path, f"does not tell the type of [{error.args[0]}]") from error
    has_table = [module.kind for module in queries] == [TABLE]
    if not documents or documents[0].kind not in ENCODERS or not (has_table or not queries):
        raise folder.unusable(
            path,
            "has other routes than an encoder for documents and, for searches, a"
            f" [{TABLE}]: that cannot be run",
        )
    return Layout((*documents, *modules[1:]), queries[0] if has_table else None)
