"""What is where in our directory of models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The files and folders of that directory."""

    directory: Path

    @property
    def aliases(self) -> Path:
        """The file of ids that commands added."""
        return self.directory / "aliases.json"

    @property
    def hub(self) -> Path:
        """Downloads."""
        return self.directory / "hub"

    @property
    def uploads(self) -> Path:
        """Models that came through `_ml/trained_models`."""
        return self.directory / "uploads"

    @property
    def packages(self) -> Path:
        """Packages that were downloaded."""
        return self.directory / "packages"

    @property
    def copies(self) -> Path:
        """Models that were copied from folders, or quantized."""
        return self.directory / "copies"
