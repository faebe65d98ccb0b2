"""Libraries of servers whose hub cannot be reached, unless told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.config import load_config
from inferry.modeling import ModelSource
from inferry.models import model_ids
from inferry.models.built_in import BUILT_IN, BuiltInModel
from inferry.models.library import Library, open_library

COMMIT = "c0ffee" * 6 + "c0ff"
E5 = ".multilingual-e5-small"
VENDOR = ".elser_model_2"
NOBODY = "http://127.0.0.1:1"


class OpenLibrary:
    """Opens the library of a data directory. keys: of `[models]`."""

    def __init__(self, top: Path) -> None:
        self.data_dir = top / "data"
        self._top = top

    def __call__(self, *, aliases: dict[str, str] | None = None, **keys: str) -> Library:
        pairs = ",".join(f"{name}={source}" for name, source in (aliases or {}).items())
        flags = {"models.hub_url": NOBODY, "models.aliases": pairs}
        flags |= {f"models.{key}": value for key, value in keys.items()}
        environment = {
            "HOME": str(self._top / "home"),
            "INFERRY_SERVER__DATA_DIR": str(self.data_dir),
        }
        loaded = load_config(flags, environment=environment, working_directory=self._top)
        return open_library(loaded.config, environment)


def built_in(monkeypatch: pytest.MonkeyPatch, model: BuiltInModel) -> str:
    """Have one more built-in model, and give its id."""
    monkeypatch.setattr(model_ids, "BUILT_IN", {**BUILT_IN, ".demo": model})
    return ".demo"


def source_of(library: Library, model_id: str) -> ModelSource:
    """Give a model that is here."""
    found = library.find(model_id)
    assert found is not None
    return found
