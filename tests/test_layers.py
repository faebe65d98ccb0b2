"""The architecture, held by reading every module's imports.

L4  app, supervisor, writers, model_worker, cli/, __main__    import anything
L3  api/                                             core, security.gate, L0
L2  core/                                            L0
L1  services/ outbound/ models/ engine/ store/ security/    L0, and never each other
L0  the modules right below inferry/                 each other
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"

CONSTRUCTORS = ("app", "supervisor", "writers", "model_worker", "cli", "__main__")
L1 = ("services", "outbound", "models", "engine", "store", "security")

# Where each package from elsewhere may be imported; a path ending in / is a folder.
VENDORS = {
    "aiohttp": ("outbound/client.py", "outbound/resolver.py"),
    "alembic": ("store/",),
    "argon2": ("security/",),
    "asyncpg": ("store/",),
    "botocore": ("services/auth.py", "outbound/streams.py"),
    "cryptography": ("security/", "services/auth.py"),
    "httptools": ("api/http/protocol.py",),
    # of huggingface_hub
    "httpx2": ("models/hub.py", "models/gated_transport.py", "models/repository.py"),
    "huggingface_hub": ("models/hub.py",),
    "icu": ("models/segmentation.py",),
    "msgspec": ("",),
    "nncf": ("models/graphs/quantized.py",),
    "numpy": ("vectors.py", "modeling.py", "models/", "engine/"),
    "openvino": ("engine/runtimes/", "models/graphs/"),
    "orjson": ("vectors.py",),
    "prometheus_client": ("telemetry.py",),
    "ray": ("engine/ray.py",),
    "rich": ("cli/",),
    "sqlalchemy": ("store/",),
    "structlog": ("telemetry.py",),
    "tokenizers": ("models/tokenizers.py", "models/torchscript/"),
    "torch": ("engine/runtimes/", "models/graphs/"),
    "typer": ("cli/",),
    "uvicorn": ("app.py", "api/http/"),
    "uvloop": ("app.py", "model_worker.py", "supervisor.py"),
    "yarl": ("egress.py", "outbound/"),
}

BANNED_NAMES = ("utils", "helpers", "common", "misc", "manager", "base")
MAX_FUNCTION_LINES = 60


@dataclass(frozen=True, slots=True)
class Import:
    """An import statement. is_type_only: it stands under `if TYPE_CHECKING`."""

    module: str
    line: int
    is_type_only: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A parsed source file; `path` is relative to the package, `name` is dotted."""

    path: str
    name: str
    tree: ast.Module


def parse_modules() -> Iterator[Module]:
    for file in sorted((SOURCE / "inferry").rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        path = file.relative_to(SOURCE / "inferry").as_posix()
        yield Module(path, name, ast.parse(file.read_text(), str(file)))


MODULES = tuple(parse_modules())
NAMES = frozenset(module.name for module in MODULES)
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)


@cache
def imports_of(module: Module) -> tuple[Import, ...]:
    return tuple(_imports(module.tree.body, module, is_type_only=False))


def _imports(body: list[ast.stmt], module: Module, *, is_type_only: bool) -> Iterator[Import]:
    for node in body:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno, is_type_only)
            case ast.ImportFrom(module=origin, names=names, level=level):
                assert level == 0, f"{module.path}:{node.lineno} is a relative import"
                for alias in names:
                    inner = f"{origin}.{alias.name}"
                    target = inner if inner in NAMES else str(origin)
                    yield Import(target, node.lineno, is_type_only)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=guarded, orelse=otherwise):
                yield from _imports(guarded, module, is_type_only=True)
                yield from _imports(otherwise, module, is_type_only=is_type_only)
            case _:
                for blocks in ("body", "orelse", "finalbody", "handlers", "cases"):
                    inner_body = getattr(node, blocks, [])
                    yield from _imports(inner_body, module, is_type_only=is_type_only)


def part_of(name: str) -> str:
    """Name the package below inferry, or the leaf module itself."""
    return [*name.split("."), ""][1]


def is_allowed(importer: str, imported: str) -> bool:
    own, other = part_of(importer), part_of(imported)
    packages = (*L1, "core", "api", *CONSTRUCTORS)
    if own in CONSTRUCTORS or own == other or other not in packages:
        return True
    return own == "api" and (other == "core" or imported == "inferry.security.gate")


@every_module
def test_a_module_imports_downwards_only(module):
    ours = [one for one in imports_of(module) if one.module.split(".")[0] == "inferry"]

    wrong = [
        f"line {one.line}: {one.module}" for one in ours if not is_allowed(module.name, one.module)
    ]

    assert not wrong


@every_module
def test_a_vendor_package_is_imported_in_its_own_place_only(module):
    foreign = [
        one
        for one in imports_of(module)
        if one.module.split(".")[0] not in sys.stdlib_module_names | {"inferry"}
    ]

    wrong = [
        f"line {one.line}: {one.module}"
        for one in foreign
        if not module.path.startswith(VENDORS.get(one.module.split(".")[0], ("nowhere",)))
    ]

    assert not wrong


def test_modules_import_each_other_without_a_cycle():
    graph = {
        module.name: {
            one.module for one in imports_of(module) if one.module in NAMES and not one.is_type_only
        }
        - {module.name}
        for module in MODULES
    }

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@every_module
def test_tasks_are_made_in_concurrency_only(module):
    if module.path == "concurrency.py":
        return
    makers = ("create_task", "ensure_future", "asyncio.gather")

    wrong = [
        f"line {node.lineno}: {node.attr}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(makers)
    ]

    assert not wrong


@every_module
def test_a_function_fits_on_a_screen(module):
    functions = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    long = [
        f"{node.name}: {lines} lines"
        for node in functions
        if (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]

    assert not long


@every_module
def test_a_module_name_says_what_is_in_it(module):
    last = module.name.rsplit(".", 1)[-1]

    assert last not in BANNED_NAMES
    assert not last.startswith("base_")


@pytest.mark.parametrize(
    "file",
    sorted((ROOT / "tests").rglob("*.py")),
    ids=lambda file: file.relative_to(ROOT).as_posix(),
)
def test_a_test_waits_for_the_event_and_never_sleeps(file):
    tree = ast.parse(file.read_text(), str(file))

    sleeps = [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)
    ]

    assert not sleeps


def test_an_api_process_carries_no_heavy_package():
    heavy = [
        *("sqlalchemy", "alembic", "cryptography", "argon2", "numpy", "typer", "rich", "httpx"),
        *("openvino", "tokenizers", "huggingface_hub", "torch", "inferry.models"),
    ]
    program = f"import inferry.app, sys; print([m for m in {heavy} if m in sys.modules])"

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "[]"
