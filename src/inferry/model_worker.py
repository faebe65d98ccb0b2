"""A model worker: `python -m inferry.model_worker CHANNEL LISTEN`, numbers of descriptors.

Hands what reads and runs models to the engine's worker; see `inferry.engine.worker`.
"""

from __future__ import annotations

import sys

from inferry.engine.worker import run_worker
from inferry.errors import UnusableModel
from inferry.modeling import ModelSource, RuntimeOptions, TextModel


def load(source: ModelSource, options: RuntimeOptions) -> TextModel:
    """Load a model folder. Raises `UnusableModel`."""
    # By this package OpenVINO tells Google Analytics what it is used for; it can do without.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        from inferry.engine.runtimes.openvino import OpenVino
        from inferry.models.text_model import load_model

        return load_model(source, options, runtime=OpenVino())
    except ImportError as error:
        raise UnusableModel(
            f"the model [{source.name}] cannot be run, since the extra [local] is not installed "
            f"({error}): pip install 'inferry[local]'"
        ) from error


def main() -> None:
    """Run a worker; it ends with the supervisor."""
    import uvloop

    control, listening = map(int, sys.argv[1:])
    run_worker(control, listening, load, run=uvloop.run)


if __name__ == "__main__":
    main()
