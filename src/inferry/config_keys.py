"""What a key of the configuration means beyond its type."""

from __future__ import annotations

from typing import Annotated, TypeAlias, get_args

from msgspec import Meta

# `kind` decides how text becomes a value.
Duration: TypeAlias = Annotated[float, Meta(extra={"kind": "duration"})]
Size: TypeAlias = Annotated[int, Meta(extra={"kind": "size"})]
FilePath: TypeAlias = Annotated[str, Meta(extra={"kind": "path"})]
Secret: TypeAlias = Annotated[str, Meta(extra={"kind": "secret"})]

KIB, MIB = 1024, 1024 * 1024
MASK = "********"


def key_of(name: str) -> str:
    """Name a field as the file does."""
    return name.removesuffix("_s")


def metas_of(hint: object) -> list[Meta]:
    """List what an annotation says beyond the type, its union members included."""
    found = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    return [inner for part in get_args(hint) for inner in metas_of(part)] + found


def kind_of(hint: object) -> str:
    """Give `duration`, `size`, `path`, `secret`, or "" for a plain value."""
    kinds = [meta.extra["kind"] for meta in metas_of(hint) if meta.extra]
    return str(kinds[0]) if kinds else ""


def is_secret(hint: object) -> bool:
    """Tell whether a field's annotation marks a secret value."""
    return kind_of(hint) == "secret"


def help_of(hint: object) -> str:
    """Give the sentence that describes a key."""
    return next(meta.description for meta in reversed(metas_of(hint)) if meta.description)
