"""A model worker: `python -m inferry.model_worker CHANNEL LISTEN`, numbers of descriptors.

Hands what reads and runs models to the engine's worker; see `inferry.engine.worker`.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import partial

from inferry.engine.worker import run_worker
from inferry.extras import extra
from inferry.modeling import ModelSource, Runtime, RuntimeOptions, TextModel


def load(source: ModelSource, options: RuntimeOptions) -> TextModel:
    """Load a model folder. Raises `UnusableModel`."""
    with _extra("local", source):
        from inferry.engine.runtimes.openvino import OpenVino
        from inferry.models.text_model import load_model
        from inferry.models.torchscript.model import load_module

        if source.module is None:
            return load_model(source, options, runtime=OpenVino())
        return load_module(
            source, options, torchscript=partial(_torchscript, source), openvino=OpenVino()
        )


def prepare(source: ModelSource, options: RuntimeOptions) -> None:
    """Convert a TorchScript module, as far as that can be done. Raises `UnusableModel`."""
    with _extra("local", source):
        from inferry.engine.runtimes.openvino import OpenVino
        from inferry.models.torchscript.preparation import prepare_module
    prepare_module(source, options, torchscript=_torchscript(source), openvino=OpenVino())


def _torchscript(source: ModelSource) -> Runtime:
    """Give PyTorch, imported once something is asked of it."""
    with _extra("torch", source):
        from inferry.engine.runtimes.torchscript import TorchScript

        return TorchScript()


def _extra(name: str, source: ModelSource) -> AbstractContextManager[None]:
    """Say which extra is missing where an import fails."""
    return extra(name, f"the model [{source.name}] cannot be run")


def main() -> None:
    """Run a worker; it ends with the supervisor."""
    import uvloop

    control, listening = map(int, sys.argv[1:])
    run_worker(control, listening, load, prepare=prepare, run=uvloop.run)


if __name__ == "__main__":
    main()
