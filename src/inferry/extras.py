"""Optional packages: what to do where one is missing, and that none tells its vendor of its use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from inferry.errors import UnusableModel


@contextmanager
def extra(name: str, consequence: str) -> Iterator[None]:
    """Say which extra is missing where an import within fails.

    consequence: what cannot be done then. Raises `UnusableModel`.
    """
    # By this package OpenVINO and NNCF tell Google Analytics what they are used for; they can do
    # without. Where it cannot be imported, they send nothing.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        yield
    except ImportError as error:
        raise UnusableModel(
            f"{consequence}, since the extra [{name}] is not installed ({error}): "
            f"pip install 'inferry[{name}]'"
        ) from error
