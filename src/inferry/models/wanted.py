"""Which models of folders are meant, so that no other folder is looked into."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from inferry.id_patterns import fits
from inferry.modeling import listed_id, may_be_listed


@dataclass(frozen=True, slots=True)
class Wanted:
    """Models by the ids that they are listed under. patterns: of `inferry.id_patterns`."""

    patterns: Collection[str]

    def has(self, name: str) -> bool:
        """Tell whether the model of this name is meant."""
        listed = listed_id(name)
        return any(fits(listed, pattern) for pattern in self.patterns)

    def may_have(self, beginning: str) -> bool:
        """Tell whether a model may be meant whose name begins so."""
        return any("*" in one or may_be_listed(beginning, one) for one in self.patterns)


EVERYTHING = Wanted(("*",))


def folders_in(directory: Path) -> list[str]:
    """Name the folders in a directory, in order; none where there is no such directory."""
    with suppress(OSError), os.scandir(directory) as entries:
        return sorted(one.name for one in entries if one.is_dir())
    return []
