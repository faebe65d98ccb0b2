"""Reference implementations, which come with PyTorch; they are installed for these suites only."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries are imported
if find_spec("sentence_transformers") is None:  # `make test` installs it, `make unit` does not
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items):
    """Mark what is here; the references warn of things that are not ours."""
    for item in items:
        if "numeric" in item.path.parts:
            item.add_marker(pytest.mark.numeric)
            item.add_marker(pytest.mark.filterwarnings("ignore"))
